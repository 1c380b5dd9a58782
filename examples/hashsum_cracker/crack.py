"""Finds the word whose SHA-1 is given, by trying every word there is.

The words are all variations of the alphabet, the short ones first. They are counted, not listed: an item is a range
of numbers, and the worker spells the words out. The hash that is wanted rides in every item, since workers may be on
other hosts, where this process's environment is not known.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
TAIL = 3
BLOCK = len(ALPHABET) ** TAIL
"""The words of a block differ in their last TAIL letters only. A range is a block: some milliseconds of work."""

Range = tuple[str, int, int, int]
"""A hash, a length, and the numbers `[first, last)` of words of that length, all of one block."""


def ranges() -> Iterator[Range]:
    """Yield the ranges of all words of up to $LENGTH letters, with the hash in $HASHSUM."""
    hashsum = os.environ.get("HASHSUM", "f8e966d1e207d02c44511a58dccff2f5429e9a3b")
    longest = int(os.environ.get("LENGTH", "4"))
    for length in range(1, longest + 1):
        count = len(ALPHABET) ** length
        for first in range(0, count, BLOCK):
            yield hashsum, length, first, min(first + BLOCK, count)


def attempt(item: Range) -> str | None:
    """Return the word of a range that has the hash, or None."""
    hashsum, length, first, last = item
    wanted, sha1 = bytes.fromhex(hashsum), hashlib.sha1
    for word in words(length, first, last):
        if sha1(word).digest() == wanted:
            return word.decode()
    return None


def words(length: int, first: int, last: int) -> Iterator[bytes]:
    """Yield the words numbered `[first, last)`, which are of one block."""
    block, start = divmod(first, BLOCK)
    head = b""
    for _ in range(length - TAIL):
        block, letter = divmod(block, len(ALPHABET))
        head = ALPHABET[letter : letter + 1] + head
    for tail in tails(min(length, TAIL))[start : start + last - first]:
        yield head + tail


@functools.cache
def tails(letters: int) -> list[bytes]:
    """Return all words of so few letters; a worker makes them once."""
    return [bytes(word) for word in itertools.product(ALPHABET, repeat=letters)]
