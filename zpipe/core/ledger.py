"""The ventilator's state: which chunk is where. Must not know of sockets, hosts, clocks or what items are.

A chunk is pending, held by exactly one lane, or receipted and forgotten. Credit is derived, `window − len(held)`,
never counted: a counted credit leaks with the first message lost. A lane's number is never used again, so whatever
comes late from a lane already lost names a lane that is not there. A receipt is good whoever it comes from, be it a
worker of an earlier ventilator of the same job: what is done before it was issued is passed over in the source.

A chunk may wait on a lane behind the one that runs, which hides the round trip. One that waits too long, or while
another worker has nothing to do, is recalled: the worker says which chunks it has not started, and others get those.
What `Speculation` copies runs on a second lane too, as its spare: the chunk stays with the first unless that is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

from zpipe.core.ahead import Ahead
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.lane import PATIENCE, QUICK, Lane
from zpipe.core.ranges import RangeSet
from zpipe.core.speculation import Speculation
from zpipe.core.suspects import Suspects, Verdict
from zpipe.core.wire import Buffer, ItemKind, Receipt

__all__ = ["Ledger"]

CHOOSY = 1.0
"""Seconds for which an item that failed waits for another worker than the one it failed on."""


SHORTEST, LONGEST = 1e-9, 1e9
"""Seconds that a chunk may be said to have taken; less or more is not believed, but for none at all."""


class Ledger:
    """Decides what goes down which lane next, and what becomes of it."""

    def __init__(self, chunker: Chunker, max_crashes: int = 3, *, speculate: bool = False) -> None:
        self.chunker = chunker
        self.lanes: dict[int, Lane] = {}
        self.next = 0
        """Index of the first item not yet issued."""
        self.exhausted = False
        self.closed = False
        """The job is being drained: nothing new, only what is in flight already."""
        self.full = False
        """The sink's reorder buffer is at its bound: nothing new, only what fills the gap."""
        self.lag = 0.0
        """Seconds that the sink takes until what it has received is in its journal, if it has one."""
        self.limit: int | None = None
        """Items from this index on are not wanted any more (early stop in input order)."""
        self.done = 0
        self.failed = 0
        self.requeued = 0
        self.ahead = Ahead()
        """What is done of the items from `next` on."""
        self._outstanding: dict[int, Chunk] = {}
        self._pending: list[int] = []
        self._suspects = Suspects(self._outstanding, max_crashes)
        self.speculation = Speculation(self._outstanding, self.lanes, wanted=speculate)
        self.limited = False
        """Workers may be killed over what they run: whose fault a loss is, the slot's next process can tell."""
        self._retries: dict[int, Chunk] = {}
        self._later: list[tuple[float, int]] = []
        self.retried = 0
        self._look = inf
        self.dry = False
        """There was nothing to issue when a worker last had credit."""

    # lanes

    def on_ready(self, number: int) -> None:
        """A worker is ready on lane `number`, never seen before."""
        assert number not in self.lanes
        self.lanes[number] = Lane(number, self._suspects.pending)

    def on_lost(self, number: int, *, verdict: bool = False) -> int:
        """The worker of a lane is gone; return how many of its chunks go to others.

        In a job with limits these wait for the `verdict`, if there will be one.
        """
        lane = self.lanes.pop(number, None)
        if lane is None:
            return 0
        first = lane.running
        if first is not None:
            # Chunks are run in the order sent: the first without a receipt is the likeliest to have been running.
            self._suspects.on_lost(number, first, alone=lane.solo and len(first) == 1)
        self.speculation.on_lost(lane)
        requeued, unheard = 0, []
        for chunk in lane.held.values():
            chunk.attempt -= bool(chunk.doom)  # telling of what is known is none
            if chunk.twin or not (verdict and self.limited):
                requeued += self._pass_on(chunk)
            else:
                chunk.lane = 0
                unheard.append(chunk)
        if unheard:
            self._suspects.hear(number, unheard)
        requeued += len(unheard)
        self.requeued += requeued
        return requeued

    def on_verdict(self, number: int, verdict: Verdict) -> Chunk | None:
        """How the worker of a lost lane ended is known; return the chunk that is charged with it, if any is.

        That is the item it ran, if it is known which, or if the worker ended by its own fault the running chunk.
        """
        held = self._suspects.release(number)
        known = verdict.item if verdict.crashed or verdict.late else None
        charged = self._suspects.on_verdict(number, crashed=verdict.crashed and known is None)
        if known is not None and (charged := self._single_out(known, held)) is not None:
            if verdict.late:
                charged.doom, charged.late = verdict.how, True
                charged.attempt -= 1
            else:
                charged.crashes += 1
                charged.proven += 1
        if charged is not None and not charged.lane and self._outstanding.get(charged.start) is charged:
            held = [chunk for chunk in held if chunk is not charged]
            if charged.late or charged.got is not None:
                self._requeue(charged)
            else:
                self._suspect(charged, verdict.how)
        self._requeue_all(held)
        return charged

    def _single_out(self, item: int, held: list[Chunk]) -> Chunk | None:
        """Return a pending chunk of one item alone, cut out of its chunk, if nothing has become of it meanwhile.

        `held` are chunks that are about to be requeued; what is cut off them is pending.
        """
        chunk = next(iter(self._overlapping(item, item + 1)), None)
        if chunk is None or chunk.lane or chunk.doom or not chunk.attempt:
            return None
        if chunk.got is not None and chunk.got.overlaps(item, item + 1):
            return None
        if item + 1 < chunk.stop:
            self._requeue_new(chunk.cut(item + 1))
        alone = chunk
        if chunk.start < item:
            alone = self._outstanding[item] = chunk.cut(item)
            if chunk not in held:
                self._requeue(chunk)
        alone.got = None
        return alone

    def _requeue_new(self, chunk: Chunk) -> None:
        """Have a chunk wait that is not in the books: what is not done of it, nor to be tried again by itself."""
        for part in [chunk] if chunk.got is None else chunk.gaps():
            if self.limit is None or part.start < self.limit:
                self._outstanding[part.start] = part
                self._requeue(part)

    def _requeue_all(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._requeue(chunk)

    def waits(self, number: int) -> bool:
        """Whether chunks of a lost lane wait for the verdict on it."""
        return self._suspects.waits(number)

    def _suspect(self, chunk: Chunk, how: str = "") -> None:
        self._suspects.add(chunk, how)

    def on_leave(self, number: int, taken: int, cut: int = 0) -> int:
        """The worker takes no more and started no chunk after the `taken`-th; return how many it hands back.

        With a `cut` it hands back that chunk's items from there on too.
        """
        lane = self.lanes.get(number)
        if lane is None:
            return 0
        lane.leaving = True
        return self._hand_back(lane, taken, lane.sent) + self._cut(lane, taken, cut)

    def _hand_back(self, lane: Lane, after: int, upto: int) -> int:
        if lane.spare is not None and after < lane.spare.order <= upto:
            self.speculation.end(lane, begun=False)
        back = [chunk for chunk in lane.held.values() if after < chunk.order <= upto]
        for chunk in back:
            lane.release(chunk)
            chunk.attempt -= 1
        return sum([self._pass_on(chunk) for chunk in back])

    def _pass_on(self, chunk: Chunk) -> bool:
        """The lane of a chunk has it no more: another is to run it, unless one runs a copy. True: it waits for one."""
        if chunk.twin:
            self._promote(chunk)
            return False
        self._requeue(chunk)
        return True

    def _requeue(self, chunk: Chunk) -> None:
        chunk.lane = 0
        if chunk.got is not None:
            del self._outstanding[chunk.start]
            self._requeue_new(chunk)
        elif chunk.crashes:
            self._suspect(chunk)
        else:
            heappush(self._pending, chunk.start)

    # recalls

    def deadline(self) -> float | None:
        """When `due` and `overdue` are next worth asking."""
        look = min(self._look, self.speculation.look, self._suspects.deadline())
        if self._later:
            look = min(look, self._later[0][0])
        return look if look < inf else None

    def due(self, now: float) -> bool:
        """Make what is to be tried again pending as far as it is time; return whether there is any.

        So with what has waited long enough for a verdict.
        """
        unheard = self._suspects.late(now)
        for number in unheard:
            self._requeue_all(self._suspects.release(number))
        found = bool(unheard)
        while self._later and self._later[0][0] <= now:
            _, start = heappop(self._later)
            if start in self._outstanding and start in self._retries:
                heappush(self._later, (now + CHOOSY / 100, start))  # the rest of its chunk is not yet in
                break
            found = True
            chunk = self._retries.pop(start, None)
            if chunk is not None:
                self._outstanding[start] = chunk
                chunk.until = now + CHOOSY
                heappush(self._later, (chunk.until, start))
                self._requeue(chunk)
        return found

    def overdue(self, now: float) -> list[int]:
        """Return the lanes to be recalled now: those where chunks have waited too long, and those `hungry` returns."""
        if now < self._look:
            return []
        self._look = inf
        late = []
        if len(self.lanes) > 1:
            for lane in self.lanes.values():
                if lane.backlog > 0 and not lane.recalled and not lane.leaving:
                    if lane.due <= now:
                        late.append(lane.number)
                        lane.recall(now)
                    else:
                        self._look = min(self._look, lane.due)
        return late + (self.hungry(now) if self.dry else [])

    def hungry(self, now: float) -> list[int]:
        """There is nothing to issue. Return the lanes to be recalled so that workers without a chunk get one.

        Those give back what waits there, and of a chunk that has run for a while the items that have not been started.
        """
        self.dry = True
        if not self._outstanding:
            return []
        lanes = self.lanes.values()
        wanting = self._idle() - sum(lane.recalled for lane in lanes)
        if wanting <= 0:
            return []
        laden = []
        for lane in lanes:
            if lane.recalled or lane.leaving or lane.solo or lane.shared or not lane.held:
                continue
            if (lane.backlog > 0 and lane.typical >= QUICK) or lane.has_items_to_share(now):
                laden.append(lane)
            elif lane.has_items_to_share(inf):
                self._look = min(self._look, lane.since + PATIENCE)
        laden.sort(key=lambda lane: lane.since)  # with a heavy tail, what has run longest will run longest
        for lane in laden[:wanting]:
            lane.recall(now)
        return [lane.number for lane in laden[:wanting]]

    def speculate(self, now: float) -> dict[int, Chunk]:
        """There is nothing to issue, nor to recall. Return the idle lanes that are to have a copy of a slow chunk now.

        With each comes the chunk. `again` gives it to them.
        """
        speculation = self.speculation
        speculation.look = inf
        if not speculation.wanted or not self.dry or not self._outstanding or len(self.lanes) < 2:
            return {}
        if self._pending or self._suspects.pending:
            return {}
        return speculation.plan(now)

    def _idle(self) -> int:
        return sum(not lane.busy and not lane.leaving for lane in self.lanes.values())

    def on_returned(self, number: int, after: int, upto: int, cut: int = 0) -> int:
        """A recalled worker hands back the chunks after the `after`-th up to the `upto`-th; return how many.

        With a `cut` it hands back that chunk's items from there on too, to be shared by all who are idle.
        """
        lane = self.lanes.get(number)
        if lane is None or not lane.recalled:
            return 0
        lane.recalled = False
        lane.shallow = True
        back = self._hand_back(lane, after, upto)
        shared = self._cut(lane, after, cut)
        lane.shared = not shared  # nothing more is to be had of it
        return back + shared

    def _cut(self, lane: Lane, order: int, cut: int) -> bool:
        """The worker of a lane leaves the items from `cut` on of the chunk it runs; return whether it is so."""
        if lane.spare is not None and lane.spare.order == order and lane.spare.start < cut < lane.spare.stop:
            lane.spare.stop = cut
        running = next((chunk for chunk in lane.held.values() if chunk.order == order), None)
        if running is None or not running.start < cut < running.stop:
            return False
        rest = running.cut(cut)
        rest.attempt -= 1
        if running.got is not None and running.got.covers(running.start, running.stop):
            self._settle(running)
        self._share_out(rest)
        return True

    def _share_out(self, rest: Chunk) -> None:
        """Make a pending chunk of what one worker hands back, or several, one for each that is idle and one for it."""
        pieces = min(len(rest), self._idle() + 1)
        for n in range(pieces - 1, 0, -1):
            self._requeue_new(rest.cut(rest.start + len(rest) * n // (n + 1)))
        self._requeue_new(rest)

    # chunks down

    def again(self, number: int, now: float) -> Chunk | None:
        """Give the lane the first pending chunk, if any; the caller sends it or says `on_refused`.

        One that workers have ended over goes ahead of others, but only down a lane that holds nothing.
        """
        lane = self.lanes[number]
        if not lane.held and lane.spare is None and (suspect := self._suspects.take()) is not None:
            lane.solo = True
            return self._hold(suspect, lane, now)
        found, aside = None, []
        while self._pending and found is None:
            start = heappop(self._pending)
            chunk = self._outstanding.get(start)
            if chunk is None or chunk.lane or chunk.crashes:
                continue
            if chunk.got is not None:
                self._requeue(chunk)  # only what is not done of it
            elif chunk.avoid == number and len(self.lanes) > 1 and now < chunk.until:
                aside.append(start)
            else:
                found = chunk
        for start in aside:
            heappush(self._pending, start)
        if found is not None:
            return self._hold(found, lane, now)
        return self.speculation.take(lane, now) if self.speculation.planned else None

    @property
    def open(self) -> bool:
        """Whether any new item may be issued, whichever it is."""
        return not (self.full or self.closed or self.exhausted or self.limit is not None or self.ahead.count)

    def wanted(self, remaining: int | None, chunker: Chunker | None = None) -> int:
        """How many new items the next chunk should have; 0 when nothing new may be issued.

        `remaining` is how many there are, if known, of those whose chunks `chunker` sizes (None: the ledger's own).
        """
        if self.closed or self.exhausted:
            return 0
        if self.limit is None and not self.ahead.count:
            return 0 if self.full else (chunker or self.chunker).size(remaining, len(self.lanes))
        if self.full and not self.ahead.count:
            return 0  # while something behind `next` is done, what is next fills a gap
        room = self.ahead.room(self.next)
        bounds = [
            bound for bound in (room, None if self.limit is None else self.limit - self.next) if bound is not None
        ]
        return min((chunker or self.chunker).size(remaining, len(self.lanes)), max(0, min(bounds)))

    @property
    def skippable(self) -> int:
        """How many of the next items are done already: the source is to pass over them before more are issued."""
        return self.ahead.row(self.next)

    def on_skipped(self, count: int) -> None:
        """The source has passed over so many of them."""
        self.next += count
        self.ahead.passed(count)

    def issue(
        self,
        number: int,
        count: int,
        items: ItemKind,
        payload: Sequence[Buffer],
        now: float,
        task: int = 0,
        chunker: Chunker | None = None,
    ) -> Chunk:
        """Make the next `count` items a chunk of the lane; the caller sends it or says `on_refused`."""
        chunk = Chunk(self.next, self.next + count, items, payload, task, chunker or self.chunker)
        self.next = chunk.stop
        self.dry = False
        self._outstanding[chunk.start] = chunk
        return self._hold(chunk, self.lanes[number], now)

    def _hold(self, chunk: Chunk, lane: Lane, now: float) -> Chunk:
        if not lane.held:
            lane.since, lane.shared = now, False
        elif lane.due < self._look:
            self._look = lane.due
        lane.hold(chunk)
        chunk.attempt += 1
        return chunk

    def on_refused(self, chunk: Chunk) -> None:
        """The lane would not take the chunk just given to it: it was never sent."""
        lane = self.lanes[chunk.lane]
        lane.sent -= 1
        if chunk is lane.spare:
            self.speculation.end(lane, begun=False)
            return
        lane.release(chunk)
        lane.solo = False
        chunk.attempt -= 1
        chunk.lane = 0
        if chunk.crashes:
            self._suspects.put_back(chunk)
        else:
            heappush(self._pending, chunk.start)

    # receipts back

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
            freed = self._settle(chunk, now, receipt.lane)
        else:
            freed = self._on_part(receipt, now)
        if self.speculation.copies:
            return self.speculation.on_word(receipt) or freed
        return freed

    def _on_word(self, receipt: Receipt, now: float) -> Lane | None:
        """A run has ended, or a part of it has, whose outcome does not count. Return its lane if it is free now."""
        lane = self.lanes.get(receipt.lane)
        if lane is not None and lane.spare is not None and lane.spare.start <= receipt.start < lane.spare.stop:
            return self.speculation.on_again(receipt, now)
        chunk = next(iter(self._overlapping(receipt.start, receipt.stop)), None)
        if lane is None or chunk is None or chunk.lane != receipt.lane or chunk.attempt != receipt.attempt:
            return None
        if not chunk.twin or (len(chunk) > 1 and not receipt.void):
            return self._on_again(receipt, chunk, now)
        self._release(lane, chunk, now)
        self._promote(chunk)
        return lane

    def _promote(self, chunk: Chunk) -> None:
        """The copy of a chunk is its only run now; what failed in that already is to be tried again."""
        for receipt, heard in self.speculation.promote(chunk):
            self._on_again(receipt, chunk, heard)

    def _on_again(self, receipt: Receipt, chunk: Chunk, now: float) -> Lane | None:
        """Items of this chunk failed in its present attempt, and are to be tried again."""
        got = chunk.got or RangeSet()
        new = got.gaps(max(chunk.start, receipt.start), min(chunk.stop, receipt.stop))
        if not new:
            return None
        chunk.got = got
        for start, stop in new:
            part = chunk.part(start, stop)
            if not receipt.void:
                part.tries, part.avoid = chunk.tries + 1, receipt.lane
                self.retried += 1
            self._retries[start] = part
            heappush(self._later, (now + (receipt.again or 0.0), start))
            got.add(start, stop)
        whole = got.covers(chunk.start, self._wanted_of(chunk))
        return self._settle(chunk, now, receipt.lane) if whole else None

    def _on_part(self, receipt: Receipt, now: float) -> Lane | None:
        """A receipt of what is not, or no longer, one whole chunk."""
        start, stop = receipt.start, receipt.stop
        chunks = self._overlapping(start, stop)
        if chunks:
            self._observe(receipt, chunks[0])
        if len(chunks) == 1 and chunks[0].lane == receipt.lane and chunks[0].start <= start < stop <= chunks[0].stop:
            # Its own outcome in parts, which is common.
            new, freed = self._count(chunks[0], start, stop, now, receipt.lane)
            self.done += new
        else:
            new, freed = self._on_found(RangeSet([(start, stop)]), chunks, now, receipt.lane)
        if new:
            self.failed += receipt.failed
        return freed

    def on_done(self, done: RangeSet) -> None:
        """A sink that joins has these: the receipts were lost, or were for an earlier ventilator."""
        self._on_found(done, list(self._outstanding.values()), None)
        self.speculation.on_known(done)

    def _on_found(
        self, done: RangeSet, chunks: list[Chunk], now: float | None, sender: int = 0
    ) -> tuple[int, Lane | None]:
        """These are done, whether they are in these chunks, to be tried again, or not issued yet."""
        new, freed = 0, None
        for chunk in [*chunks, *self._retries.values()]:
            for start, stop in done.within(chunk.start, chunk.stop) or ():
                added, lane = self._count(chunk, start, stop, now, sender)
                new, freed = new + added, lane or freed
        last = done.last
        if last > self.next and (beyond := done.within(self.next, last)) is not None:
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
            return new, None
        if self._retries.get(chunk.start) is chunk:
            del self._retries[chunk.start]
            return new, None
        return new, self._settle(chunk, now, sender)

    def _overlapping(self, start: int, stop: int) -> list[Chunk]:
        first = self._outstanding.get(start)
        if first is not None and stop <= first.stop:
            return [first]
        return [c for c in self._outstanding.values() if c.start < stop and start < self._wanted_of(c)]

    def _observe(self, receipt: Receipt, chunk: Chunk) -> None:
        if not SHORTEST <= receipt.seconds <= LONGEST and receipt.seconds:
            return  # its clock was set meanwhile, or it is no zpipe worker: such a number would spoil all that follow
        size = max(receipt.size, chunk.size)
        chunk.chunker.observe(receipt.stop - receipt.start, receipt.seconds, size)
        ran = self.lanes.get(receipt.lane)
        if ran is not None:
            ran.observe(receipt.seconds, size, self.lag)

    def _settle(self, chunk: Chunk, now: float | None = None, sender: int = 0) -> Lane | None:
        """Forget a chunk that has all its receipts, the last from the lane `sender`; return the lane it was on.

        Of two lanes that ran it return the one that is free now.
        """
        del self._outstanding[chunk.start]
        lane = self.lanes.get(chunk.lane)
        if lane is not None:
            self._release(lane, chunk, now)
        return self.speculation.on_settled(chunk, sender) if chunk.twin else lane

    def _release(self, lane: Lane, chunk: Chunk, now: float | None = None) -> None:
        lane.release(chunk)
        lane.shallow = lane.solo = lane.shared = False
        if now is not None:
            lane.since = now

    def _wanted_of(self, chunk: Chunk) -> int:
        """Where the part of a chunk that is wanted ends."""
        return chunk.stop if self.limit is None else min(chunk.stop, self.limit)

    # ends

    def on_exhausted(self) -> None:
        """The source has no more items: the total is `next`."""
        self.exhausted = True

    def on_limit(self, limit: int) -> None:
        """Only items below `limit` are still wanted."""
        if self.limit is None or limit < self.limit:
            self.limit = limit
            for chunk in [c for c in self._outstanding.values() if c.start >= limit]:
                self._drop(chunk)
            for index in [index for index in self._retries if index >= limit]:
                del self._retries[index]
            self.speculation.on_limit(limit)

    def _drop(self, chunk: Chunk) -> None:
        del self._outstanding[chunk.start]
        if chunk.twin:
            self.speculation.end(self.lanes[chunk.twin])
        lane = self.lanes.get(chunk.lane)
        if lane is not None:
            lane.release(chunk)
            lane.solo = False

    @property
    def waiting(self) -> bool:
        """Whether chunks may wait to be sent again."""
        return bool(self._pending or self._suspects.pending or self.speculation.planned)

    @property
    def in_flight(self) -> int:
        """Chunks issued and not receipted, pending ones included."""
        return len(self._outstanding)

    @property
    def finished(self) -> bool:
        """Whether every item that is wanted has its receipt."""
        ended = self.exhausted or (self.limit is not None and self.next >= self.limit)
        return ended and not self._outstanding and not self._retries

    def check(self) -> None:
        """Assert that every outstanding chunk is in exactly one place."""
        self.speculation.check()
        held = 0
        for number, lane in self.lanes.items():
            held += len(lane.held)
            last = 0
            for start, chunk in lane.held.items():
                assert self._outstanding.get(start) is chunk, f"[{start}, {chunk.stop}) is held and forgotten"
                assert chunk.lane == number == lane.number, f"[{start}, {chunk.stop}) is in the wrong lane"
                assert chunk.order > last, "held is not in the order sent"
                assert chunk.attempt >= 1
                last = chunk.order
                assert not chunk.crashes or not lane.solo or len(lane.held) == 1
        issued = 0
        pending = None
        for start, chunk in self._outstanding.items():
            assert start == chunk.start
            issued += chunk.stop - start - (chunk.got.count if chunk.got is not None else 0)
            if chunk.lane:
                held -= 1
                continue
            pending = pending or {*self._pending, *self._suspects.pending, *self._suspects.waiting()}
            assert start in pending, f"[{start}, {chunk.stop}) is lost"
        assert not held, "a chunk belongs to a lane that does not have it"
        if self.limit is None:
            issued += sum(len(c) - (c.got.count if c.got is not None else 0) for c in self._retries.values())
            assert self.done + issued == self.next + self.ahead.count, (self.done, issued, self.next, self.ahead.count)
