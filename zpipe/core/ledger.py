"""The ventilator's state: which chunk is where. Must not know of sockets, hosts, clocks or what items are.

A chunk is pending, held by exactly one lane, or receipted and forgotten. Credit is derived, `window − len(held)`,
never counted: a counted credit leaks with the first message lost. A lane's number is never used again, so whatever
comes late from a lane already lost names a lane that is not there.

What no lane has waits in `Pending`, or for its time in `Retries`. What `Recalls` calls back from a lane, and what a
lost one had, is for `Returns` to see to; receipts are for the `Account`. What `Speculation` copies runs on a second
lane too, as its spare: the chunk stays with the first unless that is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from zpipe.core.account import Account
from zpipe.core.again import Retries
from zpipe.core.chunk import ASIDE, Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Schedule
from zpipe.core.grains import quick
from zpipe.core.lane import PATIENCE, Lane
from zpipe.core.pending import Pending
from zpipe.core.plan import Plan
from zpipe.core.recall import Recalls
from zpipe.core.returns import Returns
from zpipe.core.spec import ItemKind
from zpipe.core.speculation import Speculation
from zpipe.core.suspects import Suspects
from zpipe.core.wide import WideLane
from zpipe.core.wire import Buffer

__all__ = ["Ledger"]

Payload = tuple[ItemKind, Sequence[Buffer]]


class Ledger:
    """Decides what goes down which lane next."""

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
        self.most: Callable[[Chunker, Lane], int] = lambda chunker, lane: min(quick(chunker), lane.credit)
        """How many chunks of a chunker a row may have that goes down a lane now."""
        self._wide: list[int] = []
        """Lanes whose workers have said that they run many items at a time; some may be gone."""
        self._outstanding: dict[int, Chunk] = {}
        self._suspects = Suspects(self._outstanding, max_crashes)
        self._pending = Pending(self._outstanding, self._suspects)
        self.retries = Retries(self._outstanding)
        self.recalls = Recalls(self._outstanding, self.lanes)
        self.speculation = Speculation(self._outstanding, self.lanes, wanted=speculate)
        self.account = Account(
            self._outstanding, self.lanes, self._pending, self.retries, self.speculation, lambda: self.next
        )
        self.returns = Returns(
            self._outstanding,
            self.lanes,
            self.account,
            self._pending,
            self._suspects,
            self.recalls,
            self.speculation,
        )
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
            self._wide.append(number)
        lane.widen(task, items)
        lane.mixed = lane.mixed or busy

    @property
    def wide(self) -> bool:
        """Whether a worker runs many items at a time: how long one takes tells little of the next then."""
        wide = self._wide
        while wide and wide[-1] not in self.lanes:
            wide.pop()
        return bool(wide)

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
        late = self.returns.due(now)
        again = self.retries.due(now)
        for chunk in again or ():
            self._pending.add(chunk)
        return self._pending.tick(now) or late or again is not None

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
                if found.grain and (edge := self._edge(found, lane)) < found.stop:
                    self._pending.add_new(found.cut(edge))
                return self._hold(found, lane, now)
        return self.speculation.take(lane, now) if self.speculation.planned else None

    @property
    def open(self) -> bool:
        """Whether any new item may be issued, whichever it is."""
        if self.full or self.closed or self.exhausted or self.retries.crowded:
            return False
        return self.account.limit is None and not self.account.ahead.count

    def wanted(self, remaining: int | None, chunker: Chunker | None = None) -> int:
        """How many new items the next chunk should have; 0 when nothing new may be issued.

        `remaining` is how many there are, if known, of those whose chunks `chunker` sizes (None: the ledger's own).
        """
        if self.closed or self.exhausted or self.retries.crowded:
            return 0
        if self.account.limit is None and not self.account.ahead.count:
            return 0 if self.full else (chunker or self.chunker).size(remaining, len(self.lanes))
        if self.full and not self.account.ahead.count:
            return 0  # while something behind `next` is done, what is next fills a gap
        room, limit = self.account.ahead.room(self.next), self.account.limit
        bounds = [bound for bound in (room, None if limit is None else limit - self.next) if bound is not None]
        return min((chunker or self.chunker).size(remaining, len(self.lanes)), max(0, min(bounds)))

    def row(self, number: int, chunker: Chunker, remaining: int | None) -> int:
        """How many chunks of a fixed size may go down a lane as one row: more than one only where they are quick.

        `remaining` is how many items there are, if known. Each still is what is lost, tried again and charged.
        """
        lane, size = self.lanes[number], chunker.fixed
        if size is None or self.plan is not None or self.speculation.wanted or self.wide:
            return 1
        if self.account.limit is not None or self.account.ahead.count or chunker.capped:
            return 1
        most = self.most(chunker, lane)
        if remaining is not None:
            most = min(most, remaining // (2 * len(self.lanes) * size))
        return max(1, most)

    def _edge(self, row: Chunk, lane: Lane) -> int:
        """Return where as much of a row ends as may go down a lane now."""
        return min(row.stop, row.start - row.skip + max(1, self.most(row.chunker, lane)) * row.grain)

    @property
    def skippable(self) -> int:
        """How many of the next items are done already: the source is to pass over them before more are issued."""
        return self.account.ahead.row(self.next)

    def on_skipped(self, count: int) -> None:
        """The source has passed over so many of them."""
        self.next += count
        self.account.ahead.passed(count)

    def issue(
        self,
        number: int,
        count: int,
        items: ItemKind,
        payload: Sequence[Buffer],
        now: float,
        task: int = 0,
        chunker: Chunker | None = None,
        grain: int = 0,
    ) -> Chunk:
        """Make the next `count` items a chunk of the lane; the caller sends it or says `on_refused`.

        With a `grain` it is a row of chunks of so many items.
        """
        chunk = Chunk(self.next, self.next + count, items, payload, task, chunker or self.chunker, grain)
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
        lane.hold(chunk)
        if lane.count > 1 and lane.since + PATIENCE < self.recalls.look:
            self.recalls.on_wait(lane)
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

    # ends

    def close(self) -> None:
        """The job is being drained: nothing new is issued."""
        self.closed = True
        if self.plan is not None:
            self.plan.close()

    def on_exhausted(self) -> None:
        """The source has no more items: the total is `next`."""
        self.exhausted = True

    @property
    def waiting(self) -> bool:
        """Whether chunks may wait to be sent again."""
        return bool(self._pending.starts or self._suspects.pending or self.speculation.planned)

    @property
    def in_flight(self) -> int:
        """Chunks issued and not receipted, pending ones included, and a row as one."""
        return len(self._outstanding)

    @property
    def chunks(self) -> int:
        """As `in_flight`, but with each chunk of a row by itself: what a person is told."""
        return sum(chunk.left for chunk in self._outstanding.values())

    @property
    def finished(self) -> bool:
        """Whether every item that is wanted has its receipt."""
        ended = self.exhausted or (self.account.limit is not None and self.next >= self.account.limit)
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
        if self.account.limit is None:
            issued += sum(len(c) - (c.got.count if c.got is not None else 0) for c in self.retries.chunks.values())
            issued += self.plan.dropped if self.plan is not None else 0
            done, ahead = self.account.done, self.account.ahead.count
            assert done + issued == self.next + ahead, (done, issued, self.next, ahead)
        if self.plan is not None:
            self.plan.agenda.check()
