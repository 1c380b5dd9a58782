"""What a job, or one rate key of it, may still have: tokens, and room in flight. Knows no lanes and no clock.

Tokens are taken when items are sent, and come back if they were not begun. What is in flight is told, not counted.
"""

from __future__ import annotations

from math import inf

from zpipe.core.bucket import Bucket
from zpipe.core.chunk import Chunk
from zpipe.core.claim import Rate

__all__ = ["BOUNDLESS", "Budget", "Entry"]

BOUNDLESS = 1 << 62
"""More items than there ever are."""

EVENLY = 0.05
"""Seconds' worth of tokens that one chunk takes at most, so that items start about when they may."""

Entry = tuple[float, int, int, Chunk]
"""A chunk in a heap: its rank (least first), where it starts, and a number that no other entry has."""


class Budget:
    """At most `most` items in flight, of which there are `out`, and no more than `rate` allows; None: no limit.

    With `chunks` those are counted, however many items they have.
    """

    __slots__ = ("bucket", "chunks", "most", "out", "timed", "waiting")

    def __init__(self, rate: Rate | None, most: int | None, now: float, *, chunks: bool = False) -> None:
        self.chunks = chunks
        self.bucket = Bucket(rate, now) if rate is not None else None
        self.most = most
        self.out = 0
        self.waiting: dict[frozenset[str], list[Entry]] = {}
        """Heaps of what found no room, by the labels that it requires."""
        self.timed = False
        """Whether somebody will look again once there is a token."""

    def room(self, now: float) -> int:
        """Return how many items may go now."""
        room = self.room_in_flight
        return room if self.bucket is None else min(room, self.bucket.level(now))

    def room_for_items(self, now: float) -> int:
        """Return how many items one chunk may have that goes now, as there is room for any."""
        return BOUNDLESS if self.chunks else self.room(now)

    @property
    def room_in_flight(self) -> int:
        """How many more may be in flight, tokens or not."""
        return BOUNDLESS if self.most is None else self.most - self.out

    def when(self) -> float:
        """Return when there is a token again; infinity if tokens are not what is short."""
        if self.bucket is None or (self.most is not None and self.out >= self.most):
            return inf
        return self.bucket.when()

    def share(self, lanes: int) -> int:
        """Return how many items one chunk may have at most, for all of so many lanes to get some."""
        if self.chunks:
            return BOUNDLESS
        share = BOUNDLESS if self.most is None else max(1, self.most // max(1, lanes))
        return share if self.bucket is None else min(share, max(1, int(self.bucket.rate.per_second * EVENLY)))

    def take(self, count: int) -> None:
        """So many items go."""
        self.out += 1 if self.chunks else count
        if self.bucket is not None:
            self.bucket.take(count)

    def give_back(self, count: int) -> None:
        """So many did not go after all."""
        self.out -= 1 if self.chunks else count
        if self.bucket is not None:
            self.bucket.give_back(count)

    def idle(self, now: float) -> bool:
        """Whether it is as if it had never been used."""
        out = self.out and self.most is not None
        return not (out or self.waiting or self.timed) and (self.bucket is None or self.bucket.full(now))
