"""From which lane chunks are called back since what is ready is more urgent. Must not know of keys, budgets or time.

What is about to be begun anyway stays: a recall takes a round trip, and what comes back is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import LANE_SECONDS
from zpipe.core.claim import PLAIN
from zpipe.core.lane import PATIENCE, QUICK, Lane

__all__ = ["Overtaking"]

FEW = 2 * LANE_SECONDS
"""Seconds that a lane's chunks may take in all, each being quick, for it to be left alone."""


class Overtaking:
    """What is least urgent on `lanes`, by the `rank` of chunks: the least goes first."""

    def __init__(self, lanes: dict[int, Lane], rank: Callable[[Chunk], float]) -> None:
        self.look = inf
        """When `find` is next worth asking, if nothing happens."""
        self._lanes, self._rank = lanes, rank
        self._met: dict[int, tuple[Chunk, float]] = {}
        """What ran on lanes that were left alone the last time, and since when it was met there."""

    def find(self, urgent: Iterable[tuple[frozenset[str], Chunk]], now: float) -> Lane | None:
        """Return the lane with the least urgent of what is not begun and could wait for one of these, if there is one.

        With each of them comes what it requires.
        """
        self.look = inf
        met, self._met = self._met, {}
        for requires, chunk in urgent:
            worst: tuple[float, Lane] | None = None
            for lane in self._lanes.values():
                if not requires <= lane.labels or lane.leaving:
                    continue
                if lane.credit > 0 or lane.recalled:
                    worst = None  # there is room, or about to be
                    break
                rank = self._yields(lane, chunk) if not self._is_brisk(lane, met, now) else None
                if rank is not None and (worst is None or rank > worst[0]):
                    worst = rank, lane
            if worst is not None:
                return worst[1]
        return None

    def _is_brisk(self, lane: Lane, met: dict[int, tuple[Chunk, float]], now: float) -> bool:
        """Whether what waits on a lane is about to be begun: it is little, and what runs was not `met` for long.

        When that was sent says nothing: its receipt may have come while the ventilator was busy.
        """
        running = lane.running
        if running is None or lane.load >= (FEW if 0.0 < lane.typical < QUICK else PATIENCE):
            return False
        before, since = met.get(lane.number, (None, now))
        if before is not running:
            since = now
        self._met[lane.number] = running, since
        if now >= since + PATIENCE:
            return False
        self.look = min(self.look, since + PATIENCE)
        return True

    def _yields(self, lane: Lane, urgent: Chunk) -> float | None:
        """Return the greatest rank of what is not begun on a lane, if an urgent chunk goes ahead of it."""
        running = lane.running
        if running is None or lane.solo:
            return None
        waiting = list(lane.held.values())[1:]
        if len(running) > 1 and not lane.shared:
            waiting.append(running)
        rank, priority = self._rank(urgent), (urgent.claim or PLAIN).priority
        ranks = [
            theirs
            for chunk in waiting
            if (theirs := self._rank(chunk)) > rank and (chunk.claim or PLAIN).priority < priority and not chunk.doom
        ]
        return max(ranks, default=None)
