"""How often each word occurs: counted file by file on the workers, added up at the sink.

A word is a run of ASCII letters, in small letters here; whatever else is in a file stands between words.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

SMALL = bytes(byte | 32 if byte < 128 and chr(byte).isalpha() else 32 for byte in range(256))
"""For each byte the small letter it is, or a space: one pass in C, whatever the encoding of the text."""


def count(path: str) -> dict[str, int]:
    """Return how often each word occurs in a file."""
    return dict(Counter(Path(path).read_bytes().translate(SMALL).decode("ascii").split()))


def merge(total: dict[str, int], part: dict[str, int]) -> dict[str, int]:
    """Add a file's counts to the total."""
    for word, times in part.items():
        total[word] = total.get(word, 0) + times
    return total
