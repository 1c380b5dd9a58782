"""How many items of a script's calls are pickled together, as long as it is not known what each of them weighs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from zpipe import serialize
from zpipe.core.chunking import FIRST, Heft

__all__ = ["fitting", "weigh"]


def weigh(heft: Heft, sample: Sequence[Any]) -> None:
    """See what one item weighs, before there are many of them. If it can't be pickled, that is told in its turn."""
    with contextlib.suppress(Exception):
        heft.weigh(1, sum(map(len, serialize.dumps(sample, owned=True))))


def fitting(heft: Heft | None, count: int, at: Callable[[int], Any]) -> int:
    """Return how many of the next `count` items go together: more than a few only by what the last of them weighs.

    `at(place)` is one of them. Without a `heft` all do.
    """
    if heft is None:
        return count
    if heft.known:
        count = min(count, heft.most)
    if count > FIRST:
        weigh(heft, [at(count - 1)])
    return min(count, heft.most)
