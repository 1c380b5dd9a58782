"""Makes images to try it with, the same ones each time: `python3 images.py FOLDER COUNT`.

An image is a gradient in red, another in green, and noise in blue. No two have the same size.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image


def image(number: int) -> Image.Image:
    """Return an image, 400 pixels wide or more."""
    width, height = 400 + 7 * number, 300 + 11 * (number * number % 37)
    slope = Image.linear_gradient("L").resize((width, height))
    noise = Image.frombytes("L", (width, height), random.Random(number).randbytes(width * height))
    return Image.merge("RGB", (slope, slope.transpose(Image.Transpose.ROTATE_180), noise))


def main(folder: str, count: str) -> None:
    """Write the images."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(int(count)):
        image(number).save(Path(folder) / f"{number:04}.png", compress_level=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
