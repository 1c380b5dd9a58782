"""A set of integers kept as disjoint half-open ranges `[start, stop)`: memory grows with gaps, not with items."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """A set of item indices. Adding in order costs O(1); anywhere else O(log gaps) plus the shift of a list."""

    __slots__ = ("_starts", "_stops", "count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.count = 0
        """How many integers are in the set."""
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> int:
        """Add `[start, stop)`; return how many of its integers are new. Raises ValueError for an empty range."""
        if start >= stop:
            raise ValueError(f"empty range [{start}, {stop})")
        starts, stops = self._starts, self._stops
        if stops and stops[-1] == start:
            stops[-1] = stop
            self.count += stop - start
            return stop - start
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        new = stop - start
        if low < high:
            old = sum(min(stop, stops[i]) - max(start, starts[i]) for i in range(low, high))
            new -= old
            start = min(start, starts[low])
            stop = max(stop, stops[high - 1])
        starts[low:high] = [start]
        stops[low:high] = [stop]
        self.count += new
        return new

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of `[start, stop)` is in the set."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and stop <= self._stops[i]

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any of `[start, stop)` is in the set."""
        i = bisect_right(self._stops, start)
        return i < len(self._starts) and self._starts[i] < stop

    def within(self, start: int, stop: int) -> RangeSet | None:
        """Return what of the set is in `[start, stop)`, or None for nothing."""
        found = RangeSet((max(a, start), min(b, stop)) for a, b in self if a < stop and start < b)
        return found if found.count else None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges, rising, none touching the next."""
        return iter(zip(self._starts, self._stops, strict=True))

    def __len__(self) -> int:
        """How many separate ranges the set is made of."""
        return len(self._starts)

    def check(self) -> None:
        """Assert that ranges are disjoint, rising, not touching, and counted right."""
        edge, count = -1, 0
        for start, stop in zip(self._starts, self._stops, strict=True):
            assert edge < start < stop, (edge, start, stop)
            edge = stop
            count += stop - start
        assert self.count == count
