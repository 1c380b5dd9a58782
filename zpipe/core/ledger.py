"""The ventilator's state: which chunk is where. Must not know of sockets, hosts, clocks or what items are.

A chunk is pending, held by exactly one lane, or receipted and forgotten. Credit is derived, `window − len(held)`,
never counted: a counted credit leaks with the first message lost. A lane's number is never used again, so whatever
comes late from a lane already lost names a lane that is not there. A receipt is good whoever it comes from, be it a
worker of an earlier ventilator of the same job: what is done before it was issued is passed over in the source.

What no lane has waits in `Pending`, or for its time in `Retries`; what `Recalls` calls back from a lane comes in as
`on_returned`. What `Speculation` copies runs on a second lane too, as its spare: the chunk stays with the first unless
that is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from zpipe.core.again import Retries
from zpipe.core.ahead import Ahead
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Schedule
from zpipe.core.lane import Lane
from zpipe.core.pending import Pending
from zpipe.core.plan import Plan
from zpipe.core.ranges import RangeSet
from zpipe.core.recall import Recalls
from zpipe.core.spec import ItemKind
from zpipe.core.speculation import Speculation
from zpipe.core.suspects import Suspects, Verdict
from zpipe.core.wide import WideLane
from zpipe.core.wire import Buffer, Receipt

__all__ = ["Ledger"]

Payload = tuple[ItemKind, Sequence[Buffer]]

ASIDE = -1
"""In place of a lane's number: no lane is to have it."""

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
        self.unowned = 0
        """Results that count and came from a worker whose chunk they were not, or no longer."""
        self.ahead = Ahead()
        """What is done of the items from `next` on."""
        self._outstanding: dict[int, Chunk] = {}
        self._suspects = Suspects(self._outstanding, max_crashes)
        self._pending = Pending(self._outstanding, self._suspects)
        self.retries = Retries(self._outstanding)
        self.recalls = Recalls(self._outstanding, self.lanes)
        self.speculation = Speculation(self._outstanding, self.lanes, wanted=speculate)
        self.limited = False
        """Workers may be killed over what they run: whose fault a loss is, the slot's next process can tell."""
        self.plan: Plan | None = None
        """What goes by a schedule, if anything does: all of it then."""

    def follow(self, schedule: Schedule) -> Plan:
        """From now on what is issued is parked first, by the plan that this returns."""
        self.plan = Plan(schedule, self, self._outstanding, self._pending, self._suspects)
        return self.plan

    # lanes

    def on_ready(self, number: int, labels: frozenset[str] = frozenset()) -> None:
        """A worker is ready on lane `number`, never seen before, which can be asked for these labels."""
        assert number not in self.lanes
        self.recalls.on_ready()
        self.lanes[number] = Lane(number, self._suspects.pending, labels)

    def on_wide(self, number: int, task: int, items: int, *, busy: bool = False) -> None:
        """The worker of a lane runs so many items of this task at a time; it is `busy` with an earlier lane's still."""
        lane = self.lanes.get(number)
        if lane is None:
            return
        if not isinstance(lane, WideLane):
            lane = self.lanes[number] = WideLane(lane)
        lane.widen(task, items)
        lane.mixed = lane.mixed or busy

    def on_lost(self, number: int, *, verdict: bool = False) -> int:
        """The worker of a lane is gone; return how many of its chunks go to others.

        In a job with limits, and where many items ran at a time, these wait for the `verdict`, if there will be one.
        """
        lane = self.lanes.pop(number, None)
        if lane is None:
            return 0
        ran = lane.suspects
        if ran:
            alone = lane.solo and len(ran[0]) == 1 and not lane.mixed
            self._suspects.on_lost(number, ran, alone=alone, many=lane.wide > 0)
        self.speculation.on_lost(lane)
        requeued, unheard = 0, []
        for chunk in lane.held.values():
            chunk.attempt -= bool(chunk.doom)  # telling of what is known is none
            waits = verdict and not chunk.twin and (self.limited or lane.wide > 0)
            chunk.attempt -= chunk not in ran and not chunk.doom and (lane.wide > 0 or not waits)
            if not waits:
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

        That is the item it ran, if it is known which, or if the worker ended by its own fault the running chunk; of
        several that ran, all are charged, and the first is returned.
        """
        held = self._suspects.release(number)
        known = verdict.item if verdict.crashed or verdict.late else None
        if not self._suspects.ran_many(number):
            _discount(held, known)
        charged: list[Chunk] = []
        if known is None:
            charged = self._suspects.on_verdict(number, verdict)
        else:
            self._suspects.acquit(number)
        if known is not None and (alone := self._single_out(known, held)) is not None:
            charged = [alone]
            alone.fate = verdict.fate
            if verdict.late:
                alone.doom, alone.late = verdict.how, True
                alone.attempt -= 1
            else:
                alone.crashes += 1
                alone.proven += 1
        for chunk in charged:
            if chunk.lane or self._outstanding.get(chunk.start) is not chunk:
                continue
            held = [other for other in held if other is not chunk]
            if chunk.late or chunk.got is not None:
                self._pending.add(chunk)
            else:
                self._suspects.add(chunk, verdict.how)
        for chunk in held:
            self._pending.add(chunk)
        return charged[0] if charged else None

    def _single_out(self, item: int, held: list[Chunk]) -> Chunk | None:
        chunk = next(iter(self._overlapping(item, item + 1)), None)
        return self._pending.single_out(chunk, item, held) if chunk is not None else None

    def waits(self, number: int) -> bool:
        """Whether chunks of a lost lane wait for the verdict on it."""
        return self._suspects.waits(number)

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
            self._pending.on_unsent(chunk)
        return sum([self._pass_on(chunk) for chunk in back])

    def _pass_on(self, chunk: Chunk) -> bool:
        """The lane of a chunk has it no more: another is to run it, unless one runs a copy. True: it waits for one."""
        if chunk.twin:
            self._promote(chunk)
            return False
        self._pending.add(chunk)
        return True

    # time

    def deadline(self) -> float | None:
        """When `due`, or `overdue` of the recalls, are next worth asking."""
        look = min(self.recalls.look, self.speculation.look, self._suspects.deadline(), self.retries.deadline())
        look = min(look, self._pending.deadline())
        return look if look < inf else None

    def due(self, now: float) -> bool:
        """Make what is to be tried again pending as far as it is time; return whether there is any.

        So with what has waited long enough for a verdict.
        """
        unheard = self._suspects.late(now)
        for number in unheard:
            held = self._suspects.release(number)
            if not self._suspects.ran_many(number):
                _discount(held)
            for chunk in held:
                self._pending.add(chunk)
        again = self.retries.due(now)
        for chunk in again or ():
            self._pending.add(chunk)
        return self._pending.tick(now) or bool(unheard) or again is not None

    def speculate(self, now: float) -> dict[int, Chunk]:
        """There is nothing to issue, nor to recall. Return the idle lanes that are to have a copy of a slow chunk now.

        With each comes the chunk. `again` gives it to them.
        """
        speculation = self.speculation
        speculation.look = inf
        if not speculation.wanted or not self.recalls.dry or not self._outstanding or len(self.lanes) < 2:
            return {}
        if (self._pending.starts and self.plan is None) or self._suspects.pending:
            return {}
        return speculation.plan(now)

    # chunks that come back

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
        self.recalls.on_answered(lane)
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
        self._pending.on_unsent(rest)
        lane.weigh(running)
        if running.got is not None and running.got.covers(running.start, running.stop):
            self._settle(running)
        self._share_out(rest)
        return True

    def _share_out(self, rest: Chunk) -> None:
        """Make a pending chunk of what one worker hands back, or several, one for each that is idle and one for it."""
        pieces = min(len(rest), self.recalls.idle() + 1)
        for n in range(pieces - 1, 0, -1):
            self._pending.add_new(rest.cut(rest.start + len(rest) * n // (n + 1)))
        self._pending.add_new(rest)

    # chunks down

    def again(self, number: int, now: float) -> Chunk | None:
        """Give the lane the first pending chunk, if any; the caller sends it or says `on_refused`.

        One that workers have ended over goes ahead of others, but only down a lane that holds nothing.
        """
        lane = self.lanes[number]
        if not lane.held and lane.spare is None and (suspect := self._suspects.take(lane.labels)) is not None:
            lane.solo = True
            self._pending.on_suspect(suspect)
            return self._hold(suspect, lane, now)
        if self._pending.starts:
            found = self._pending.take(lane, now, only=len(self.lanes) == 1, full=self.full)
            if found is not None:
                self.recalls.dry = self.recalls.dry and self.plan is None
                return self._hold(found, lane, now)
        return self.speculation.take(lane, now) if self.speculation.planned else None

    @property
    def open(self) -> bool:
        """Whether any new item may be issued, whichever it is."""
        if self.full or self.closed or self.exhausted or self.retries.crowded:
            return False
        return self.limit is None and not self.ahead.count

    def wanted(self, remaining: int | None, chunker: Chunker | None = None) -> int:
        """How many new items the next chunk should have; 0 when nothing new may be issued.

        `remaining` is how many there are, if known, of those whose chunks `chunker` sizes (None: the ledger's own).
        """
        if self.closed or self.exhausted or self.retries.crowded:
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
        self.recalls.dry = False
        self._outstanding[chunk.start] = chunk
        return self._hold(chunk, self.lanes[number], now)

    def set_aside(self, count: int, batch: Payload, task: int = 0, chunker: Chunker | None = None) -> Chunk:
        """Make the next `count` items a chunk that no lane is to have, until it is done or `release`d."""
        chunk = Chunk(self.next, self.next + count, *batch, task, chunker or self.chunker)
        chunk.lane = ASIDE
        self.next = chunk.stop
        self._outstanding[chunk.start] = chunk
        return chunk

    def is_aside(self, chunk: Chunk) -> bool:
        """Whether a chunk that was set aside still is."""
        return chunk.lane == ASIDE and self._outstanding.get(chunk.start) is chunk

    def release(self, chunk: Chunk) -> bool:
        """Have a chunk that was set aside run after all; False: it is done, or no longer wanted."""
        if not self.is_aside(chunk):
            return False
        self._pending.add(chunk)
        return True

    def _hold(self, chunk: Chunk, lane: Lane, now: float) -> Chunk:
        if not lane.held:
            lane.since, lane.shared = now, False
        elif lane.due < self.recalls.look:
            self.recalls.look = lane.due
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
        self._pending.put_back(chunk)

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
            self.unowned += receipt.lane != chunk.lane and receipt.lane != chunk.twin
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
        chunk = next(iter(self._overlapping(receipt.start, receipt.stop, lane)), None)
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
        if not self.retries.put_off(receipt, chunk, now):
            return None
        whole = chunk.got is not None and chunk.got.covers(chunk.start, self._wanted_of(chunk))
        return self._settle(chunk, now, receipt.lane) if whole else self._lighten(chunk)

    def _on_part(self, receipt: Receipt, now: float) -> Lane | None:
        """A receipt of what is not, or no longer, one whole chunk."""
        start, stop = receipt.start, receipt.stop
        chunks = self._overlapping(start, stop, self.lanes.get(receipt.lane))
        if chunks:
            self._observe(receipt, chunks[0])
        if len(chunks) == 1 and chunks[0].lane == receipt.lane and chunks[0].start <= start < stop <= chunks[0].stop:
            # Its own outcome in parts, which is common.
            new, freed = self._count(chunks[0], start, stop, now, receipt.lane)
            self.done += new
        else:
            new, freed = self._on_found(RangeSet([(start, stop)]), chunks, now, receipt.lane)
            self.unowned += new > 0
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
        for chunk in [*chunks, *self.retries.chunks.values()]:
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
            return new, self._lighten(chunk)
        if self.retries.chunks.get(chunk.start) is chunk:
            self.retries.drop(chunk)
            return new, None
        return new, self._settle(chunk, now, sender)

    def _lighten(self, chunk: Chunk) -> Lane | None:
        """A part of a chunk needs no run any more; return its lane if that has room for as much now."""
        lane = self.lanes.get(chunk.lane)
        if lane is None or not lane.wide:
            return None
        lane.weigh(chunk)
        return lane

    def _overlapping(self, start: int, stop: int, lane: Lane | None = None) -> list[Chunk]:
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

    def close(self) -> None:
        """The job is being drained: nothing new is issued."""
        self.closed = True
        if self.plan is not None:
            self.plan.close()

    def on_exhausted(self) -> None:
        """The source has no more items: the total is `next`."""
        self.exhausted = True

    def on_limit(self, limit: int) -> None:
        """Only items below `limit` are still wanted."""
        if self.limit is None or limit < self.limit:
            self.limit = self._pending.limit = limit
            for chunk in [c for c in self._outstanding.values() if c.start >= limit]:
                self._drop(chunk)
            self.retries.on_limit(limit)
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
        return bool(self._pending.starts or self._suspects.pending or self.speculation.planned)

    @property
    def in_flight(self) -> int:
        """Chunks issued and not receipted, pending ones included."""
        return len(self._outstanding)

    @property
    def finished(self) -> bool:
        """Whether every item that is wanted has its receipt."""
        ended = self.exhausted or (self.limit is not None and self.next >= self.limit)
        dropped = self.plan is not None and self.plan.dropped
        return ended and not (self._outstanding or self.retries.chunks or dropped)

    def check(self) -> None:
        """Assert that every outstanding chunk is in exactly one place."""
        self.speculation.check()
        self.retries.check()
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
            lane.check()
        issued = 0
        pending = None
        for start, chunk in self._outstanding.items():
            assert start == chunk.start
            issued += chunk.stop - start - (chunk.got.count if chunk.got is not None else 0)
            if chunk.lane:
                held -= chunk.lane != ASIDE
                continue
            pending = pending or {*self._pending.starts, *self._suspects.pending, *self._suspects.waiting()}
            assert start in pending, f"[{start}, {chunk.stop}) is lost"
        assert not held, "a chunk belongs to a lane that does not have it"
        if self.limit is None:
            issued += sum(len(c) - (c.got.count if c.got is not None else 0) for c in self.retries.chunks.values())
            issued += self.plan.dropped if self.plan is not None else 0
            assert self.done + issued == self.next + self.ahead.count, (self.done, issued, self.next, self.ahead.count)
        if self.plan is not None:
            self.plan.agenda.check()


def _discount(held: list[Chunk], item: int | None = None) -> None:
    """Of what a lost worker held, in the order sent, count no attempt of chunks that it can't have come to.

    They are run in turn, and each is told of at once: so it came no further than the first, or than the `item` that it
    is known to have run.
    """
    last = next((n for n, chunk in enumerate(held) if item is not None and chunk.start <= item < chunk.stop), 0)
    for chunk in held[last + 1 :]:
        chunk.attempt -= not chunk.doom
