"""The same count in one process and another way, to compare: `python3 plain.py PATTERN [COUNTS.json]`.

Prints the ten most frequent words. Given the counts that zpipe wrote, ends with status 1 if they are not the same.
"""

from __future__ import annotations

import glob
import json
import re
import sys
from collections import Counter
from pathlib import Path

WORD = re.compile(rb"[a-z]+")


def main(pattern: str, other: str | None = None) -> int:
    """Count the words of the files that match; return the exit status."""
    counts: Counter[str] = Counter()
    for path in map(Path, glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - as `zpipe run --glob` does
        if path.is_file():
            counts.update(word.decode() for word in WORD.findall(path.read_bytes().lower()))
    for word, times in counts.most_common(10):
        print(f"{times:>10,}  {word}")
    if other is not None and json.loads(Path(other).read_bytes()) != counts:
        print(f"{other} has other counts", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
