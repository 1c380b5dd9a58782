"""Finds the word whose SHA-1 is given, by trying every word there is.

The words are all variations of the alphabet, the short ones first. They are counted, not listed: an item is a range of
numbers, and the worker spells the words out. The hash wanted rides in every item, because workers may be on other hosts,
where this process's environment is not known.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
TAIL = 3
BLOCK = len(ALPHABET) ** TAIL

Range = tuple[str, int, int, int]
"""A hash, a length, and the numbers `[first, last)` of words of that length, all of one block."""


def ranges() -> Iterator[Range]:
    """Yield the ranges of all words of up to $LENGTH letters, for the hash in $HASHSUM."""
    hashsum = os.environ.get("HASHSUM", "f8e966d1e207d02c44511a58dccff2f5429e9a3b")
    longest = int(os.environ.get("LENGTH", "4"))
    for length in range(1, longest + 1):
        count = len(ALPHABET) ** length
        for first in range(0, count, BLOCK):
            yield hashsum, length, first, min(first + BLOCK, count)


def attempt(item: Range) -> str | None:
    """Return the word of a range that has the hash, or None."""
    hashsum, length, first, last = item
    wanted = bytes.fromhex(hashsum)
    sha1 = hashlib.sha1
    for word in words(length, first, last):
        if sha1(word.encode()).digest() == wanted:
            return word
    return None


def words(length: int, first: int, last: int) -> Iterator[str]:
    """Yield the words numbered `[first, last)`, which differ in their last TAIL letters only."""
    head, number = "", first // BLOCK
    for _ in range(length - TAIL):
        number, letter = divmod(number, len(ALPHABET))
        head = ALPHABET[letter] + head
    tails = itertools.product(ALPHABET, repeat=min(length, TAIL))
    for tail in itertools.islice(tails, first % BLOCK, first % BLOCK + last - first):
        yield head + "".join(tail)
