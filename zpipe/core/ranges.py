"""A set of integers kept as disjoint half-open ranges `[start, stop)`: memory grows with gaps, not with items."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise

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
            first, last = starts[low], stops[high - 1]
            old = last - first if high - low == 1 else sum(stops[low:high]) - sum(starts[low:high])
            if first < start:
                old, start = old - (start - first), first
            if last > stop:
                old, stop = old - (last - stop), last
            new -= old
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
        stops = self._stops
        if not stops or start >= stops[-1]:  # most are of what comes next
            return False
        return self._starts[bisect_right(stops, start)] < stop

    def within(self, start: int, stop: int) -> RangeSet | None:
        """Return what of the set is in `[start, stop)`, or None for nothing."""
        low, high = bisect_right(self._stops, start), bisect_left(self._starts, stop)
        if low >= high:
            return None
        found = RangeSet()
        found._starts, found._stops = self._starts[low:high], self._stops[low:high]
        found._starts[0], found._stops[-1] = max(start, found._starts[0]), min(stop, found._stops[-1])
        found.count = sum(found._stops) - sum(found._starts)
        return found

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges of `[start, stop)` that are not in the set, rising."""
        found, at = [], start
        for a, b in self.within(start, stop) or ():
            if a > at:
                found.append((at, a))
            at = b
        return [*found, (at, stop)] if at < stop else found

    def after(self, index: int) -> tuple[int, int] | None:
        """Return the range that holds `index`, or else the next one behind it; None if there is neither."""
        i = bisect_right(self._stops, index)
        return (self._starts[i], self._stops[i]) if i < len(self._starts) else None

    @property
    def last(self) -> int:
        """The integer behind all of the set, 0 for the empty one."""
        return self._stops[-1] if self._stops else 0

    @property
    def runs(self) -> list[int]:
        """How many integers from 0 on are not in the set, how many behind them are, how many then are not, and so on.

        The last number is of some that are. Small numbers travel in fewer bytes than ranges do.
        """
        edges = chain.from_iterable(zip(self._starts, self._stops, strict=True))
        return [b - a for a, b in pairwise(chain((0,), edges))]

    @staticmethod
    def are_runs(runs: Sequence[int]) -> bool:
        """Whether some set has these `runs`."""
        return not len(runs) % 2 and (not runs or (runs[0] >= 0 and min(islice(runs, 1, None)) >= 1))

    @classmethod
    def of_runs(cls, runs: Sequence[int]) -> RangeSet:
        """Return the set that has these `runs`. Raises ValueError for what no set has."""
        if not cls.are_runs(runs):
            raise ValueError("runs that no set has")
        made, edges = cls(), list(accumulate(runs))
        made._starts, made._stops = edges[::2], edges[1::2]
        made.count = sum(runs[1::2])
        return made

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
