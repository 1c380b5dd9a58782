"""Makes a thumbnail of every image in a folder: `python3 thumbnails.py IMAGES THUMBNAILS`.

The workers read and write the files; only names and sizes travel. `images.py` beside this file makes images.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from PIL import Image

import zpipe

SIZE = (128, 128)
"""Pixels that no thumbnail is larger than."""


def thumbnail(image: Path, folder: Path) -> tuple[str, int, int]:
    """Write the thumbnail of an image to a folder; return its name, width and height."""
    with Image.open(image) as picture:
        picture.thumbnail(SIZE)
        picture.save(folder / image.name)
        return image.name, picture.width, picture.height


def main(images: str, thumbnails: str) -> None:
    """Make all thumbnails; print a line for each as it is done, and how many they are."""
    folder, made = Path(thumbnails), 0
    folder.mkdir(parents=True, exist_ok=True)
    with zpipe.Pipeline() as pipe:
        for name, width, height in pipe.imap_unordered(partial(thumbnail, folder=folder), Path(images).glob("*.png")):
            print(f"{name}: {width} x {height}")
            made += 1
    print(f"{made} thumbnails in {thumbnails}")


if __name__ == "__main__":
    main(*sys.argv[1:])
