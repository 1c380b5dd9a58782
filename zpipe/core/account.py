"""What is done of the items, by the receipts that the sink sends. Must not know what goes down a lane next.

A receipt is good whoever it comes from, be it a worker of an earlier ventilator of the same job: what is done before it
was issued is passed over in the source. A chunk that has all its receipts is forgotten, and its lane has credit again.
"""

from __future__ import annotations

from collections.abc import Callable

from zpipe.core.again import Retries
from zpipe.core.ahead import Ahead
from zpipe.core.chunk import ASIDE, Chunk
from zpipe.core.lane import Lane
from zpipe.core.pending import Pending
from zpipe.core.ranges import RangeSet
from zpipe.core.speculation import Speculation
from zpipe.core.wire import Receipt

__all__ = ["Account"]

SHORTEST, LONGEST = 1e-9, 1e9
"""Seconds that a chunk may be said to have taken; less or more is not believed, but for none at all."""


class Account:
    """Strikes out what is done of a ledger's `outstanding` chunks, and of those it has `issued` so many items of."""

    def __init__(
        self,
        outstanding: dict[int, Chunk],
        lanes: dict[int, Lane],
        pending: Pending,
        retries: Retries,
        speculation: Speculation,
        issued: Callable[[], int],
    ) -> None:
        self.done = 0
        self.failed = 0
        self.unowned = 0
        """Results that count and came from a worker whose chunk they were not, or no longer."""
        self.limit: int | None = None
        """Items from this index on are not wanted any more (early stop in input order)."""
        self.ahead = Ahead()
        """What is done of the items that are not issued yet."""
        self.lag = 0.0
        """Seconds that the sink takes until what it has received is in its journal, if it has one."""
        self._outstanding, self._lanes, self._pending = outstanding, lanes, pending
        self._retries, self._speculation, self._issued = retries, speculation, issued

    def on_receipt(self, receipt: Receipt, now: float) -> Lane | None:
        """The sink has a chunk, or a part of one. Return the lane that has credit for it now, if there is one."""
        start, stop = receipt.start, receipt.stop
        if receipt.again is not None:
            return self._on_word(receipt, now)
        chunk = self._outstanding.get(start)
        if chunk is not None and chunk.got is None and stop == self._wanted_of(chunk):
            self.failed += receipt.failed
            self.done += stop - start
            self._observe(receipt, chunk)
            self.unowned += receipt.lane != chunk.lane and receipt.lane != chunk.twin
            freed = self.settle(chunk, now, receipt.lane)
        else:
            freed = self._on_part(receipt, now)
        if self._speculation.copies:
            return self._speculation.on_word(receipt) or freed
        return freed

    def _on_word(self, receipt: Receipt, now: float) -> Lane | None:
        """A run has ended, or a part of it has, whose outcome does not count. Return its lane if it is free now."""
        lane = self._lanes.get(receipt.lane)
        if lane is not None and lane.spare is not None and lane.spare.start <= receipt.start < lane.spare.stop:
            return self._speculation.on_again(receipt, now)
        chunk = next(iter(self.overlapping(receipt.start, receipt.stop, lane)), None)
        if lane is None or chunk is None or chunk.lane != receipt.lane or chunk.attempt != receipt.attempt:
            return None
        if not chunk.twin or (len(chunk) > 1 and not receipt.void):
            return self._on_again(receipt, chunk, now)
        self._release(lane, chunk, now)
        self.promote(chunk)
        return lane

    def promote(self, chunk: Chunk) -> None:
        """The copy of a chunk is its only run now; what failed in that already is to be tried again."""
        for receipt, heard in self._speculation.promote(chunk):
            self._on_again(receipt, chunk, heard)

    def _on_again(self, receipt: Receipt, chunk: Chunk, now: float) -> Lane | None:
        """Items of this chunk failed in its present attempt, and are to be tried again."""
        if not self._retries.put_off(receipt, chunk, now):
            return None
        whole = chunk.got is not None and chunk.got.covers(chunk.start, self._wanted_of(chunk))
        return self.settle(chunk, now, receipt.lane) if whole else self._lighten(chunk)

    def _on_part(self, receipt: Receipt, now: float) -> Lane | None:
        """A receipt of what is not, or no longer, one whole chunk."""
        start, stop = receipt.start, receipt.stop
        chunks = self.overlapping(start, stop, self._lanes.get(receipt.lane))
        if chunks:
            self._observe(receipt, chunks[0])
        if len(chunks) == 1 and chunks[0].lane == receipt.lane and chunks[0].start <= start < stop <= chunks[0].stop:
            # Its own outcome in parts, which is common.
            new, freed = self._count(chunks[0], start, stop, now, receipt.lane)
            self.done += new
            if chunks[0].grain and chunks[0].got is not None and (lane := self._lanes.get(receipt.lane)) is not None:
                lane.since = now  # the next one of the row has begun
        else:
            new, freed = self._on_found(RangeSet([(start, stop)]), chunks, now, receipt.lane)
            self.unowned += new > 0
        if new:
            self.failed += receipt.failed
        return freed

    def on_done(self, done: RangeSet) -> None:
        """A sink that joins has these: the receipts were lost, or were for an earlier ventilator."""
        self._on_found(done, list(self._outstanding.values()), None)
        self._speculation.on_known(done)

    def _on_found(
        self, done: RangeSet, chunks: list[Chunk], now: float | None, sender: int = 0
    ) -> tuple[int, Lane | None]:
        """These are done, whether they are in these chunks, to be tried again, or not issued yet."""
        new, freed = 0, None
        for chunk in [*chunks, *self._retries.chunks.values()]:
            for start, stop in done.within(chunk.start, chunk.stop) or ():
                added, lane = self._count(chunk, start, stop, now, sender)
                new, freed = new + added, lane or freed
        last = done.last
        if last > self._issued() and (beyond := done.within(self._issued(), last)) is not None:
            new += self.ahead.add(beyond)
        self.done += new
        return new, freed

    def _count(
        self, chunk: Chunk, start: int, stop: int, now: float | None, sender: int = 0
    ) -> tuple[int, Lane | None]:
        """These items of a chunk are done; return how many are new, and the lane that is free if that is all of it."""
        end = self._wanted_of(chunk)
        if start >= end:
            return 0, None
        chunk.got = chunk.got or RangeSet()
        new = chunk.got.add(start, min(stop, end))
        if not chunk.got.covers(chunk.start, end):
            return new, self._lighten(chunk)
        if self._retries.chunks.get(chunk.start) is chunk:
            self._retries.drop(chunk)
            return new, None
        return new, self.settle(chunk, now, sender)

    def _lighten(self, chunk: Chunk) -> Lane | None:
        """A part of a chunk needs no run any more; return its lane if that has room for as much now."""
        lane = self._lanes.get(chunk.lane)
        if lane is None or not (lane.wide or chunk.grain):
            return None
        lane.weigh(chunk)
        return lane

    def overlapping(self, start: int, stop: int, lane: Lane | None = None) -> list[Chunk]:
        """Return the outstanding chunks that have any of these items: most often one, and that on the `lane`."""
        first = self._outstanding.get(start)
        if first is not None and stop <= first.stop:
            return [first]
        for chunk in lane.held.values() if lane is not None else ():
            if chunk.start <= start and stop <= chunk.stop:
                return [chunk]
        return [c for c in self._outstanding.values() if c.start < stop and start < self._wanted_of(c)]

    def _observe(self, receipt: Receipt, chunk: Chunk) -> None:
        if chunk.lane == ASIDE:
            return  # nobody ran it
        if not SHORTEST <= receipt.seconds <= LONGEST and receipt.seconds:
            return  # its clock was set meanwhile, or it is no zpipe worker: such a number would spoil all that follow
        items, count, size = receipt.stop - receipt.start, 1, chunk.size
        if chunk.grain:
            count, size = max(1, items // chunk.grain), size * items // len(chunk)
        size = max(receipt.size, size)
        chunk.chunker.observe(items, receipt.seconds, size)
        ran = self._lanes.get(receipt.lane)
        if ran is not None:
            ran.observe(receipt.seconds, size, self.lag, count)

    def settle(self, chunk: Chunk, now: float | None = None, sender: int = 0) -> Lane | None:
        """Forget a chunk that has all its receipts, the last from the lane `sender`; return the lane it was on.

        Of two lanes that ran it return the one that is free now.
        """
        del self._outstanding[chunk.start]
        lane = self._lanes.get(chunk.lane)
        if lane is not None:
            self._release(lane, chunk, now)
        return self._speculation.on_settled(chunk, sender) if chunk.twin else lane

    def _release(self, lane: Lane, chunk: Chunk, now: float | None = None) -> None:
        lane.release(chunk)
        lane.shallow = lane.solo = lane.shared = False
        if now is not None:
            lane.since = now

    def _wanted_of(self, chunk: Chunk) -> int:
        """Where the part of a chunk that is wanted ends."""
        return chunk.stop if self.limit is None else min(chunk.stop, self.limit)

    def on_limit(self, limit: int) -> None:
        """Only items below `limit` are still wanted."""
        if self.limit is None or limit < self.limit:
            self.limit = self._pending.limit = limit
            for chunk in [c for c in self._outstanding.values() if c.start >= limit]:
                self._drop(chunk)
            self._retries.on_limit(limit)
            self._speculation.on_limit(limit)

    def _drop(self, chunk: Chunk) -> None:
        del self._outstanding[chunk.start]
        if chunk.twin:
            self._speculation.end(self._lanes[chunk.twin])
        lane = self._lanes.get(chunk.lane)
        if lane is not None:
            lane.release(chunk)
            lane.solo = False
