"""What the items of one map claim, since when each of them is there, and how far ahead of their turn they are read.

A delay and a time to live count from when an item was there to be read: of a list when the map was asked for, of a lazy
iterable when it was pulled. Knows no pipeline.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from zpipe import serialize
from zpipe.core.agenda import AHEAD
from zpipe.core.claim import Claim
from zpipe.schedule.claims import Claims

__all__ = ["AHEAD_BYTES", "UNKNOWN", "Claimed", "Run", "gathered"]

AHEAD_BYTES = 64 << 20
"""Bytes of items that are read ahead at most, by what those have weighed that were looked at."""

UNKNOWN = 1_000
"""So many items are, while nothing is known of what they weigh."""


Run = tuple[int, float, Claim | BaseException]
"""So many items that follow each other, since when they were there, and what they claim."""


class Claimed:
    """Of a map that began now. Shared by whoever pulls its items and the pipeline's thread."""

    def __init__(self, claims: Claims, clock: Callable[[], float] = time.monotonic) -> None:
        self.claims, self._clock = claims, clock
        self._began = clock()
        self._pulled: deque[tuple[int, float]] = deque()
        self._weight = 0

    # whoever pulls

    def on_pulled(self, pulled: int, block: Sequence[Any]) -> None:
        """These came just now, with which there are so many."""
        self._pulled.append((pulled, self._clock()))
        if not pulled & (pulled - 1):  # now and then
            try:
                self._weight = max(self._weight, sum(map(len, serialize.dumps([block[-1]]))))
            except BaseException:  # noqa: BLE001 - pickling runs the item's own code; this is told of in its turn
                return

    @property
    def reach(self) -> int:
        """How many items of a lazy iterable are to be pulled ahead, if that is more than for any map."""
        if not (self.claims.varied or self.claims.waits):
            return 0
        return min(AHEAD, max(1, AHEAD_BYTES // self._weight)) if self._weight else UNKNOWN

    # the pipeline's thread

    def since(self, index: int) -> float:
        """When an item was there; those before it are not asked about any more."""
        while self._pulled and self._pulled[0][0] <= index:
            self._pulled.popleft()
        return self._pulled[0][1] if self._pulled else self._began

    def of(self, start: int, items: Sequence[Any], wall: float) -> list[Run]:
        """Return what items from the `start`-th on claim, as runs of the same: how many, since when, and what.

        An exception stands for what could not be told. `wall` is how far the time of day is ahead of the clock.
        """
        runs: list[Run] = []
        count, last = 0, 0.0
        claim: Claim | BaseException | None = None
        for index, item in enumerate(items, start):
            since = self.since(index)
            found = claim
            if self.claims.varied or claim is None or since != last:
                found = self._claim(item, since, since + wall)
            if claim is not None and (isinstance(found, BaseException) or found != claim):
                runs.append((count, last, claim))
                count = 0
            if not count:
                last, claim = since, found
            count += 1
        return [*runs, (count, last, claim)] if claim is not None else runs

    def _claim(self, item: Any, now: float, wall: float) -> Claim | BaseException:
        try:
            return self.claims.of(item, now, wall)
        except BaseException as error:  # noqa: BLE001 - the script's own function
            return error


def gathered(items: Sequence[Any], runs: Sequence[Run]) -> tuple[list[Any], list[Run]]:
    """Return items, and runs of these, with those together that claim the same, for fewer and larger chunks.

    That is for whoever takes outcomes as they come. Those of one key go alone anyway.
    """
    groups: dict[Any, tuple[list[Any], Run]] = {}
    at = 0
    for number, run in enumerate(runs):
        count, since, claim = run
        alone = isinstance(claim, BaseException) or claim.key is not None
        group, _ = groups.setdefault(number if alone else (since, claim), ([], run))
        group.extend(items[at : at + count])
        at += count
    return (
        [item for group, _ in groups.values() for item in group],
        [(len(group), since, claim) for group, (_, since, claim) in groups.values()],
    )
