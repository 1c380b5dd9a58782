"""The same thumbnails in one process, to compare: `python3 plain.py IMAGES THUMBNAILS`.

Ends with status 1 unless there is a thumbnail for each image, none else, and its pixels are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image


def main(images: str, thumbnails: str) -> int:
    """Compare; return the exit status."""
    names = {path.name for path in Path(images).glob("*.png")}
    wrong = names ^ {path.name for path in Path(thumbnails).iterdir()}
    for name in names - wrong:
        with Image.open(Path(images, name)) as picture, Image.open(Path(thumbnails, name)) as made:
            picture.thumbnail((128, 128))
            if (made.size, made.mode, made.tobytes()) != (picture.size, picture.mode, picture.tobytes()):
                wrong.add(name)
    for name in sorted(wrong):
        print(f"{name} is missing, or is not the same", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
