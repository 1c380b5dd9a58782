"""Which chunks wait to be sent again, and which of them is next. Must not know what they came back from, nor receipts.

A chunk that no lane has waits here, by where it starts; in a job with a schedule the agenda has it. One that workers
have ended over waits among the suspects.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from math import inf

from zpipe.core.agenda import Agenda
from zpipe.core.chunk import Chunk
from zpipe.core.lane import Lane
from zpipe.core.suspects import Suspects

__all__ = ["Pending"]


class Pending:
    """Those of a ledger's `outstanding` chunks that no lane has."""

    def __init__(self, outstanding: dict[int, Chunk], suspects: Suspects) -> None:
        self._heap: list[int] = []
        self.starts: Collection[int] = self._heap
        """Where those start that wait, and some that do no more."""
        self.limit: int | None = None
        """Items from this index on are not wanted any more."""
        self._outstanding = outstanding
        self._suspects = suspects
        self._agenda: Agenda | None = None

    def follow(self, agenda: Agenda) -> None:
        """From now on what waits is the agenda's."""
        waiting, self.starts, self._agenda = sorted(set(self._heap)), agenda.parked, agenda
        for start in waiting:
            chunk = self._outstanding.get(start)
            if chunk is not None and not chunk.lane:
                self.add(chunk)

    def add(self, chunk: Chunk) -> None:
        """No lane has this chunk any more: what is not done of it is to be run by another."""
        chunk.lane = 0
        if chunk.got is not None:
            del self._outstanding[chunk.start]
            self.add_new(chunk)
        elif chunk.crashes:
            self._suspects.add(chunk)
        elif self._agenda is not None:
            self._agenda.put(chunk)
        else:
            heappush(self._heap, chunk.start)

    def add_new(self, chunk: Chunk) -> None:
        """Have a chunk wait that is not in the books: what is not done of it, nor to be tried again by itself."""
        for part in [chunk] if chunk.got is None else chunk.gaps():
            if self.limit is None or part.start < self.limit:
                self._outstanding[part.start] = part
                self.add(part)

    def put_back(self, chunk: Chunk) -> None:
        """A chunk that was taken waits as before: its lane refused it."""
        chunk.lane = 0
        self.on_unsent(chunk)
        if chunk.crashes:
            self._suspects.put_back(chunk)
        elif self._agenda is not None:
            self._agenda.put(chunk)
        else:
            heappush(self._heap, chunk.start)

    def on_suspect(self, chunk: Chunk) -> None:
        """A suspect was taken."""
        if self._agenda is not None:
            self._agenda.on_suspect(chunk)

    def on_unsent(self, chunk: Chunk) -> None:
        """A chunk that was taken was not begun."""
        if self._agenda is not None:
            self._agenda.on_unsent(chunk)

    def deadline(self) -> float:
        """When `tick` is next worth calling."""
        return self._agenda.deadline() if self._agenda is not None else inf

    def tick(self, now: float) -> bool:
        """Time passed: return whether there may be something new to take."""
        return self._agenda is not None and self._agenda.tick(now)

    def take(self, lane: Lane, now: float, *, only: bool, full: bool = False) -> Chunk | None:
        """Return the first chunk that the lane may have, if any.

        `only`: there is no other lane; `full`: nothing new is wanted but what fills the sink's gap.
        """
        if self._agenda is not None:
            return self._agenda.take(lane, now, full=full)
        number, found, aside = lane.number, None, []
        while self._heap and found is None:
            start = heappop(self._heap)
            chunk = self._outstanding.get(start)
            if chunk is None or chunk.lane or chunk.crashes:
                continue
            if chunk.got is not None:
                self.add(chunk)  # only what is not done of it
            elif chunk.avoid == number and not only and now < chunk.until:
                aside.append(start)
            else:
                found = chunk
        for start in aside:
            heappush(self._heap, start)
        return found

    def single_out(self, chunk: Chunk, item: int, held: list[Chunk]) -> Chunk | None:
        """Return a pending chunk of one item alone, cut out of its chunk, if nothing has become of it meanwhile.

        `held` are chunks that are about to be added; what is cut off them is pending.
        """
        if chunk.lane or chunk.doom or not chunk.attempt:
            return None
        if chunk.got is not None and chunk.got.overlaps(item, item + 1):
            return None
        if item + 1 < chunk.stop:
            rest = chunk.cut(item + 1)
            rest.attempt -= 1  # it came to none of these
            self.add_new(rest)
        alone = chunk
        if chunk.start < item:
            alone = self._outstanding[item] = chunk.cut(item)
            if chunk not in held:
                self.add(chunk)
        alone.got = None
        return alone
