"""From which lanes chunks are called back that wait there while others have nothing to do. Knows lanes, not receipts.

A chunk may wait on a lane behind the one that runs, which hides the round trip. One that waits too long, or while
another worker has nothing to do, is recalled: the worker says which chunks it has not started, and others get those.
"""

from __future__ import annotations

from heapq import nsmallest
from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.lane import PATIENCE, QUICK, Lane

__all__ = ["AT_ONCE", "Recalls"]

AT_ONCE = 16
"""Lanes that are recalled at once for having waited too long: where more are late, the ventilator itself is."""

SEARCH = 3e-5
"""Seconds for each lane that pass, where there are many, from a search of all that was in vain to the next.

And from one that found more than are recalled at once.
"""


MANY, BRIEFLY = 128, 1e-5
"""From so many lanes on, seconds for each that pass from any search of all of them to the next.

Each takes some hundredths of that, and a thousand workers that run dry would each be the reason for one.
"""


class Recalls:
    """What is to be had back of a ledger's `outstanding` chunks on its `lanes`."""

    def __init__(self, outstanding: dict[int, Chunk], lanes: dict[int, Lane]) -> None:
        self.dry = False
        """There was nothing to issue when a worker last had credit."""
        self.look = inf
        """When `overdue` is next worth asking."""
        self._rest = -inf
        """Before this, what waits on other lanes is not asked for, either: enough is late, and those are the latest."""
        self._again = -inf
        """When all lanes are to be searched again at the earliest."""
        self._outstanding = outstanding
        self._lanes = lanes

    def idle(self) -> int:
        """Return how many workers have nothing to do, or could do more."""
        return sum([lane.idle and not lane.leaving for lane in self._lanes.values()])

    def on_wait(self, lane: Lane) -> None:
        """Something waits on a lane behind what it runs."""
        self.look = min(self.look, max(lane.due, self._rest))

    def on_ready(self) -> None:
        """Another worker is about to be ready: what waits on the others could not go anywhere until now."""
        if self._outstanding:  # else none waits; and a thousand may join before there is anything to do
            self.look = min([self.look, *(lane.due for lane in self._lanes.values() if lane.backlog > 0)])

    def on_answered(self, lane: Lane) -> None:
        """A recalled worker has handed back what waited there; what was still under way may be asked for again."""
        if lane.backlog > 0:
            self.look = min(self.look, max(lane.due, lane.asked + PATIENCE, self._rest))

    def overdue(self, now: float) -> list[int]:
        """Return the lanes to be recalled now: those where chunks have waited too long, and those `hungry` returns."""
        if now < self.look:
            return []
        self.look = inf
        late: list[tuple[float, int, Lane]] = []
        if len(self._lanes) > 1:
            for lane in self._lanes.values():
                if lane.backlog > 0 and not lane.recalled and not lane.leaving:
                    due = lane.due
                    if due <= now:
                        late.append((due, lane.number, lane))
                    elif due < self.look:
                        self.look = due
        if len(late) > AT_ONCE:
            late = nsmallest(AT_ONCE, late)
            self.look = self._rest = now + max(PATIENCE, SEARCH * len(self._lanes))
        elif len(self._lanes) >= MANY:
            self._rest = now + BRIEFLY * len(self._lanes)
            self.look = max(self.look, self._rest)
        for _, _, lane in late:
            lane.recall(now, items=self.dry)
        return [number for _, number, _ in late] + (self.hungry(now) if self.dry else [])

    def hungry(self, now: float) -> list[int]:
        """There is nothing to issue. Return the lanes to be recalled so that workers without a chunk get one.

        Those give back what waits there, and of a chunk that has run for a while the items that have not been started.
        """
        self.dry = True
        if not self._outstanding:
            return []
        if now < self._again:
            self.look = min(self.look, self._again)
            return []
        lanes = self._lanes.values()
        wanting = self.idle() - sum([lane.recalled for lane in lanes])
        found = self._laden(now)[:wanting] if wanting > 0 else []
        if not found and len(lanes) > AT_ONCE:
            self._again = now + SEARCH * len(lanes)
        elif len(lanes) >= MANY:
            self._again = now + BRIEFLY * len(lanes)
            self.look = max(self.look, self._again)
        for lane in found:
            lane.recall(now)
        return [lane.number for lane in found]

    def _laden(self, now: float) -> list[Lane]:
        """Return the lanes from which there is something to be had, first of all where it is worth most."""
        laden = []
        for lane in self._lanes.values():
            if lane.recalled or lane.leaving or lane.solo or lane.shared or not lane.held:
                continue
            if (lane.typical >= QUICK and lane.backlog > 0) or (at := lane.shareable) <= now:
                laden.append(lane)
            elif at < self.look:
                self.look = at
        laden.sort(key=lambda lane: lane.since)  # with a heavy tail, what has run longest will run longest
        return laden
