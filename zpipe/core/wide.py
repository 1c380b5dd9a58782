"""The lane of a worker that runs many items at a time, on an event loop: how many it has, how many more it may have.

What counts here is items, not chunks: as many as may run at a time, and as many more as end within a round trip. Items
that run side by side are charged shares of the time (the worker's `seconds`), so that chunks are sized as ever; but how
long a chunk of them has been under way tells nothing of a straggler, and what runs is the first items of all chunks.
Must not know of receipts.
"""

from __future__ import annotations

from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import LANE_SECONDS
from zpipe.core.lane import PATIENCE, Lane

__all__ = ["WideLane"]

BACKLOG = 1024
"""Items that wait for others to end at most, unless as many run, however short they are and slow the sink is."""

TASKS = 1000
"""Tasks of which is remembered how many items run at a time; a worker may know many, one after another."""


class WideLane(Lane):
    """A lane that was another one's till now, with all that this holds. `wide` items at most run at a time."""

    __slots__ = ("_each", "_narrow", "_weights", "_widths", "weight")

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane.number, lane._suspects)
        for name in Lane.__slots__:
            setattr(self, name, getattr(lane, name))
        self.weight = 0
        """Items of those that it holds and has not done."""
        self._widths: dict[int, int] = {}
        self._weights: dict[int, int] = {}
        self._narrow: set[int] = set()
        self._each = inf

    def widen(self, task: int, items: int) -> None:
        """The worker runs so many items of this task at a time."""
        self._widths[task] = items
        if len(self._widths) > TASKS:
            del self._widths[next(iter(self._widths))]
        self.wide = max(self._widths.values())
        self.weight = 0
        self._weights.clear()
        self._narrow.clear()
        for chunk in self.held.values():
            self._take_on(chunk)

    def _take_on(self, chunk: Chunk) -> None:
        if chunk.task in self._widths:
            self._each = chunk.cost / len(chunk) if chunk.chunker.known else inf
        else:
            self._narrow.add(chunk.start)
        self._weights[chunk.start] = 0
        self.weigh(chunk)

    def weigh(self, chunk: Chunk) -> None:
        """Some of what this chunk has is done, or another's."""
        if chunk.start in self._weights and chunk.start not in self._narrow:
            left = len(chunk) - (chunk.got.count if chunk.got is not None else 0)
            self.weight += left - self._weights[chunk.start]
            self._weights[chunk.start] = left

    def hold(self, chunk: Chunk) -> None:
        """Have this chunk too."""
        super().hold(chunk)
        self._take_on(chunk)

    def release(self, chunk: Chunk) -> None:
        """Have it no more."""
        super().release(chunk)
        self.weight -= self._weights.pop(chunk.start)
        self._narrow.discard(chunk.start)

    @property
    def credit(self) -> int:
        """Whether more chunks may go down this lane now: for how many items there is room, or 1 to have some ready."""
        if self.leaving or self.recalled or self.solo or self.spare is not None:
            return 0
        if self._suspects:
            return 1 - len(self.held)
        if len(self._narrow) >= (1 if self.shallow else self.window):
            return 0
        room = self.wide - self.weight
        if room > 0 or self.shallow:
            return max(0, room)
        return int(-room < max(self.wide, BACKLOG) and (1 - room) * self._each < LANE_SECONDS + self.lag)

    @property
    def idle(self) -> bool:
        """Whether its worker could do more at this moment."""
        return self.spare is None and self.weight < self.wide and not self._narrow

    @property
    def running(self) -> Chunk | None:
        """No chunk of those that run is the one."""
        return None

    @property
    def suspects(self) -> list[Chunk]:
        """The chunks of which items are likely to run."""
        if self.spare is not None:
            return []
        found, room = [], self.wide
        for chunk in self.held.values():
            if room <= 0:
                break
            found.append(chunk)
            room -= self._weights[chunk.start]
        return found

    @property
    def backlog(self) -> int:
        """How many items wait for others to end."""
        return max(0, self.weight - self.wide)

    @property
    def due(self) -> float:
        """Never: few wait, and each item that ends makes room for one."""
        return inf

    @property
    def shareable(self) -> float:
        """When items have waited for so long that they are worth giving to others; never: infinity."""
        return self.since + PATIENCE if self.backlog > 0 else inf

    def check(self) -> None:
        """Assert that what is counted is what there is."""
        assert self._weights.keys() == self.held.keys()
        for start, chunk in self.held.items():
            left = len(chunk) - (chunk.got.count if chunk.got is not None else 0)
            assert self._weights[start] == (0 if start in self._narrow else left), "a wrong weight"
        assert self.weight == sum(self._weights.values())
