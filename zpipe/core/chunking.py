"""How many items go into the next chunk, and how many chunks down a lane at once. Knows timings, not lanes.

Guided self-scheduling (Polychronopoulos and Kuck, 1987) for the tail: a chunk is at most `remaining / (2 × slots)`.
Before it, a chunk is as many items as take `TARGET` seconds by the workers' own timings, less where they vary much.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["LANE_SECONDS", "Chunker", "Heft", "window"]

TARGET = 0.050
"""Seconds a chunk aims at where items take much the same time."""

TARGET_UNEVEN = 0.005
"""Seconds it aims at where they vary wildly: enough to hide the cost of a message, too little to hide a straggler."""

MAX_ITEMS = 16_384
"""A longer chunk gains no throughput, and costs latency and memory."""

MAX_BYTES = 4 << 20
"""A chunk of big items stops growing here, counted on the heavier of its two legs."""

GROWTH = 4
"""A chunk is at most this many times the largest one whose time is known."""

FIRST = 16
"""Items that are together at most without one of them having been weighed by itself."""

UNEVEN = 16.0
"""Squared coefficient of variation that is assumed of items until they prove even."""

EVENNESS = 0.95
"""How much of the largest variation seen is still believed after another chunk: stragglers are rare."""

WAITING = 0.070
"""Chunks that take longer than this have none waiting behind them: the round trip is a hundredth of that at most."""

LAGGING = 10
"""Chunks that take this many times what a commit to the sink's journal does have none waiting either."""

LANE_SECONDS = 0.010
"""What is in flight on a lane takes about this long at most, or is one chunk with another waiting."""

LANE_CHUNKS = 1024
LANE_BYTES = 16 << 20
DECAY = 0.8


class Chunker:
    """Chunk sizes from observed chunks: `target` seconds each, at least `floor`, and `least` items.

    `fixed` items always, if given, and `most` of them at most.
    """

    __slots__ = (
        "_bytes", "_floor", "_items", "_largest", "_least", "_most", "_seconds", "_target", "_variance", "fixed",
    )  # fmt: skip

    def __init__(
        self,
        fixed: int | None = None,
        *,
        target: float = TARGET,
        floor: float = TARGET_UNEVEN,
        least: int = 1,
        most: int | None = None,
    ) -> None:
        self._most = MAX_ITEMS if most is None else min(most, MAX_ITEMS)
        self.fixed, self._target, self._floor, self._least = fixed, target, floor, least
        self._items = 0.0
        self._seconds = 0.0
        self._bytes = 0.0
        self._variance = UNEVEN
        self._largest = 0

    def observe(self, items: int, seconds: float, size: int) -> None:
        """A chunk of `items` took `seconds` on its worker; its heavier leg weighed `size` bytes."""
        if self._items:
            mean = self._seconds / self._items
            # Spread of single items, from that of chunk means: the variance of a mean of n is 1/n of one's.
            spread = items * ((seconds / items) / mean - 1.0) ** 2 if mean > 0 else 0.0
            self._variance = max(spread, self._variance * EVENNESS)
        self._items = self._items * DECAY + items
        self._seconds = self._seconds * DECAY + seconds
        self._bytes = self._bytes * DECAY + size
        if items > self._largest:
            self._largest = items

    @property
    def capped(self) -> bool:
        """Whether a process is to run so few items that a chunk has no more of them."""
        return self._most < MAX_ITEMS

    @property
    def known(self) -> bool:
        """Whether the time of any chunk is known."""
        return bool(self._items)

    def cost(self, items: int) -> float:
        """Seconds that so many items are likely to take; a long time while nothing is known of them."""
        return self._seconds / self._items * items if self._items else LANE_SECONDS

    def size(self, remaining: int | None, slots: int) -> int:
        """Items for the next chunk; `remaining` in the source if known, `slots` workers to share them."""
        if self.fixed is not None:
            return self.fixed
        if not self._items:
            return self._least
        items = min(self._most, self._largest * GROWTH)
        if self._seconds > 0:
            target = max(self._floor, self._target / (1.0 + self._variance))
            items = min(items, int(target * self._items / self._seconds))
        if self._bytes > 0:
            items = min(items, int(MAX_BYTES * self._items / self._bytes))
        if remaining is not None:
            items = min(items, remaining // (2 * max(slots, 1)))
        return max(items, self._least)

    def within(self, seconds: float, size: int) -> int:
        """Items that a worker does in `seconds` and that weigh no more than `size` bytes; 0 while nothing is known."""
        if not self._items or not self._seconds:
            return 0
        return int(self._items * min(seconds / self._seconds, size / max(self._bytes, 1.0)))


class Heft:
    """How many items of one call may be in a chunk, by what the last ones weigh, and those that were pulled last.

    What a `Chunker` knows is of chunks that are done, maybe of other calls: the same function may be given numbers
    first, and arrays then. So may one call: one item of many is weighed before they go together.
    """

    __slots__ = ("_pulled", "known", "taken")

    def __init__(self) -> None:
        self.taken = MAX_ITEMS
        """Items that the next chunk may have by what the one before weighed."""
        self._pulled = FIRST
        self.known = False
        """Whether anything of this call has been weighed."""

    @property
    def most(self) -> int:
        """Items that chunks may have which are pulled now."""
        return min(self.taken, self._pulled)

    def wants(self, count: int) -> bool:
        """Whether to weigh one of so many items that were pulled together."""
        return count >= FIRST or (self.known and self._pulled * GROWTH < self.taken)

    def look(self, size: int) -> None:
        """One of the items pulled last weighs `size` bytes."""
        self._pulled, self.known = self.fit(1, size), True

    def weigh(self, items: int, size: int) -> None:
        """So many items, a chunk, weigh `size` bytes."""
        self.taken = self.fit(items, size)
        if not self.known:
            self._pulled, self.known = self.taken, True

    def fitting(self, count: int, weight: Callable[[int], int]) -> int:
        """Return how many of the next `count` items go together; `weight` says what the item at a place weighs.

        Fewer, if the first or the last of many is too heavy for so many like it.
        """
        first = weight(0) if count > FIRST else 0
        while count > FIRST and (fit := self.fit(1, max(first, weight(count - 1)))) < count:
            count = max(fit, count // GROWTH)
        return count

    @staticmethod
    def fit(items: int, size: int) -> int:
        """Return how many items go into a chunk's bytes, if so many weigh `size`."""
        return max(1, MAX_BYTES * items // max(size, 1))


def window(seconds: float, size: float, lag: float = 0.0) -> int:
    """Chunks to keep in flight on a lane whose chunks take `seconds` and weigh `size` bytes each.

    One runs, and as many wait behind it as cover the round trip; what waits behind a straggler is recalled. `lag` is
    how many seconds of that trip the sink needs until what it has is in its journal.
    """
    cover = LANE_SECONDS + lag
    if seconds >= cover:
        return 1 if seconds >= max(WAITING, LAGGING * lag) else 2
    chunks = math.ceil(cover / seconds) if seconds * LANE_CHUNKS > cover else LANE_CHUNKS
    return max(2, min(chunks, int(LANE_BYTES / max(size, 1.0))))
