"""Items that are done before they were issued: by an earlier ventilator of the job, or late for it."""

from __future__ import annotations

from zpipe.core.ranges import RangeSet

__all__ = ["Ahead"]


class Ahead:
    """The items from the ledger's `next` on that are done; `count` is how many. What lies before is of no account."""

    __slots__ = ("_ranges", "count")

    def __init__(self) -> None:
        self._ranges = RangeSet()
        self.count = 0

    def add(self, done: RangeSet) -> int:
        """These are done, none of them issued; return how many are new."""
        if not self.count:
            self._ranges, self.count = done, done.count
            return done.count
        new = sum(self._ranges.add(start, stop) for start, stop in done)
        self.count += new
        return new

    def row(self, index: int) -> int:
        """Return how many items from `index` on are done, one behind the other."""
        found = self._ranges.after(index) if self.count else None
        return found[1] - index if found is not None and found[0] <= index else 0

    def room(self, index: int) -> int | None:
        """Return how many items from `index` on are not done before one is; None if none behind it is."""
        found = self._ranges.after(index) if self.count else None
        return None if found is None else max(0, found[0] - index)

    def passed(self, count: int) -> None:
        """So many of them now lie before the ledger's `next`."""
        self.count -= count
