"""The SHA-256 of a file, as a line that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK = 1 << 20
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def checksum(path: str) -> str:
    """Return `<hex>  <path>`, and as sha256sum does a backslash ahead when the path had to be escaped."""
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    shown = path.translate(ESCAPES)
    mark = "\\" if shown != path else ""
    return f"{mark}{digest.hexdigest()}  {shown}"
