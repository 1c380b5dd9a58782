"""What items of a script's calls weigh, and so how many of them are pickled together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from zpipe import serialize
from zpipe.api.held import Held
from zpipe.core.chunking import Heft

__all__ = ["fitting", "weight"]

PLAIN = frozenset((bytes, bytearray, str, int, float, bool, type(None)))
"""Types of items that are about as large as they are when pickled."""


def weight(item: Any) -> int:
    """Return how many bytes an item takes, about, or 0 if it can't be pickled: that is told in its turn."""
    if type(item) in PLAIN:
        return sys.getsizeof(item)  # at once, though it may be a gigabyte
    with Held():  # or it could not be told whether the script was interrupted
        try:
            return sum(map(len, serialize.dumps([item], owned=True)))
        except BaseException:  # noqa: BLE001 - the item's own code
            return 0


def fitting(heft: Heft | None, count: int, at: Callable[[int], Any]) -> int:
    """Return how many of the next `count` items go together, of which `at(place)` is one; without a `heft` all do."""
    return count if heft is None else heft.fitting(min(count, heft.taken), lambda place: weight(at(place)))
