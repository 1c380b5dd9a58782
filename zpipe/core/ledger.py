"""The ventilator's state: which chunk is where. Must not know of sockets, hosts, clocks or what items are.

A chunk is pending, held by exactly one lane, or receipted and forgotten. Credit is derived, `window − len(held)`,
never counted: a counted credit leaks with the first message lost. A lane's number is never used again, so whatever
comes late from a lane already lost names a lane that is not there. A receipt is good whoever it comes from.

A chunk may wait on a lane behind the one that runs, which hides the round trip. One that waits too long, or while
another worker has nothing to do, is recalled: the worker says which chunks it has not started, and others get those.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

from zpipe.core.chunking import Chunker, window
from zpipe.core.wire import Buffer, ItemKind, Receipt

__all__ = ["Chunk", "Lane", "Ledger"]

QUICK = 0.001
"""Seconds a chunk takes, below which those that wait are not recalled for another worker that is idle."""

PATIENCE = 0.005
"""Seconds a chunk may run at least before those that wait behind it are recalled."""

OVERDUE = 2.0
"""They are recalled when it has run this many times what the middle one of the lane's chunks takes."""

STEP = 1.15
"""By how much the guess at that middle one goes up or down with each chunk."""

VERDICTS = 10_000
"""Lost lanes of which it is remembered what they ran; how a worker ended is heard only when its slot joins again."""


class Chunk:
    """Items `[start, stop)`: their payload until receipted, and what befell them.

    The payload holds `skip` items ahead of them. `losses` counts workers lost with it for reasons outside (a signal, a
    host, a cut), `crashes` those that ended by their own fault while running it: only the second can be the items'
    doing. `proven` are those crashes in which it was one item, with nothing else on its lane. With a `doom` it is not
    run any more: its item fails, for this reason.
    """

    __slots__ = (
        "attempt", "chunker", "crashes", "doom", "items", "lane", "losses", "order", "payload", "proven", "size",
        "skip", "start", "stop", "task",
    )  # fmt: skip

    def __init__(
        self, start: int, stop: int, items: ItemKind, payload: Sequence[Buffer], task: int, chunker: Chunker
    ) -> None:
        self.start = start
        self.stop = stop
        self.items = items
        self.payload = payload
        self.task = task
        self.chunker = chunker
        self.size = sum(len(frame) if isinstance(frame, bytes) else memoryview(frame).nbytes for frame in payload)
        self.attempt = 0
        self.losses = 0
        self.crashes = 0
        self.proven = 0
        self.skip = 0
        self.doom = ""
        self.lane = 0
        self.order = 0


class Lane:
    """One worker's incarnation as the ledger sees it. `held` is in the order sent.

    `since` is when the first of them began, as far as known. `recalled`: it was asked for what waits, and has not
    answered. `shallow`: it was recalled behind a straggler, so nothing more waits here until that is done. `solo`: it
    holds a chunk that workers have ended over, and nothing else, so that it is known what ran.
    """

    __slots__ = (
        "_suspects", "held", "leaving", "number", "recalled", "receipts", "sent", "shallow", "since", "size", "solo",
        "typical", "window",
    )  # fmt: skip

    def __init__(self, number: int, suspects: list[int]) -> None:
        self._suspects = suspects
        self.number = number
        self.solo = False
        self.held: dict[int, Chunk] = {}
        self.window = 1
        self.sent = 0
        self.receipts = 0
        self.leaving = False
        self.recalled = False
        self.shallow = False
        self.since = 0.0
        self.typical = 0.0
        self.size = 0.0

    @property
    def credit(self) -> int:
        """How many more chunks may go down this lane now."""
        if self.leaving or self.recalled or self.solo:
            return 0
        return (1 if self.shallow or self._suspects else self.window) - len(self.held)

    @property
    def due(self) -> float:
        """When what waits here has waited too long."""
        return self.since + max(PATIENCE, OVERDUE * self.typical)

    def observe(self, seconds: float, size: int) -> None:
        """Smooth the chunk service time and weight, and set the window by them.

        Of the time it is the median, followed by small steps (Robbins and Monro, 1951): stragglers hardly move it.
        """
        if self.typical:
            self.typical = self.typical * STEP if seconds > self.typical else max(seconds, self.typical / STEP)
        else:
            self.typical = seconds
        self.size = 0.8 * self.size + 0.2 * size if self.size else float(size)
        self.receipts += 1
        # As deep as the lane has proved to be quick: a few light chunks say little of what comes behind them, and
        # what has been sent can't be had back.
        self.window = min(window(self.typical, self.size), 1 + self.receipts)


class Ledger:
    """Decides what goes down which lane next, and what becomes of it."""

    def __init__(self, chunker: Chunker, max_crashes: int = 3) -> None:
        self.max_crashes = max_crashes
        """Workers an item may take with it before it is given up."""
        self.chunker = chunker
        self.lanes: dict[int, Lane] = {}
        self.next = 0
        """Index of the first item not yet issued."""
        self.exhausted = False
        self.closed = False
        """The job is being drained: nothing new, only what is in flight already."""
        self.full = False
        """The sink's reorder buffer is at its bound: nothing new, only what fills the gap."""
        self.limit: int | None = None
        """Items from this index on are not wanted any more (early stop in input order)."""
        self.done = 0
        self.failed = 0
        self.requeued = 0
        self._outstanding: dict[int, Chunk] = {}
        self._pending: list[int] = []
        self._suspects: list[int] = []
        self._running: dict[int, tuple[Chunk, bool]] = {}
        self._look = inf

    # lanes

    def on_ready(self, number: int) -> None:
        """A worker is ready on lane `number`, never seen before."""
        assert number not in self.lanes
        self.lanes[number] = Lane(number, self._suspects)

    def on_lost(self, number: int) -> int:
        """The worker of a lane is gone; return how many of its chunks go to others."""
        lane = self.lanes.pop(number, None)
        if lane is None:
            return 0
        first = next(iter(lane.held.values()), None)
        if first is not None:
            # Chunks are run in the order sent: the first without a receipt is the likeliest to have been running.
            self._running[number] = first, lane.solo and first.stop - first.start == 1
            if len(self._running) > VERDICTS:
                del self._running[next(iter(self._running))]
            first.losses += 1
        for chunk in lane.held.values():
            self._requeue(chunk)
        self.requeued += len(lane.held)
        return len(lane.held)

    def on_verdict(self, number: int, *, crashed: bool) -> Chunk | None:
        """How the worker of a lost lane ended is known: if by its own fault, its running chunk is charged a crash."""
        chunk, proof = self._running.pop(number, (None, False))
        if chunk is None or not crashed:
            return None
        chunk.losses -= 1
        chunk.crashes += 1
        chunk.proven += proof
        if not chunk.lane and self._outstanding.get(chunk.start) is chunk:
            self._suspect(chunk)
        return chunk

    def _suspect(self, chunk: Chunk) -> None:
        """Workers ended by running this pending chunk: halve it, until the item whose fault it is is alone."""
        if chunk.stop - chunk.start > 1:
            middle = (chunk.start + chunk.stop) // 2
            rest = Chunk(middle, chunk.stop, chunk.items, chunk.payload, chunk.task, chunk.chunker)
            rest.skip = chunk.skip + middle - chunk.start
            rest.attempt, rest.crashes = chunk.attempt, chunk.crashes
            chunk.stop = middle
            self._outstanding[middle] = rest
            heappush(self._suspects, middle)
        elif chunk.proven and chunk.crashes >= self.max_crashes:
            chunk.doom = f"it was given up: {chunk.crashes} workers ended while they ran it"
        heappush(self._suspects, chunk.start)

    def on_leave(self, number: int, taken: int) -> int:
        """The worker takes no more and started no chunk after the `taken`-th; return how many it hands back."""
        lane = self.lanes.get(number)
        if lane is None:
            return 0
        lane.leaving = True
        back = self._hand_back(lane, taken, lane.sent)
        self.requeued += back
        return back

    def _hand_back(self, lane: Lane, after: int, upto: int) -> int:
        back = [chunk for chunk in lane.held.values() if after < chunk.order <= upto]
        for chunk in back:
            del lane.held[chunk.start]
            chunk.attempt -= 1
            self._requeue(chunk)
        return len(back)

    def _requeue(self, chunk: Chunk) -> None:
        chunk.lane = 0
        if chunk.crashes:
            self._suspect(chunk)
        else:
            heappush(self._pending, chunk.start)

    # recalls

    def deadline(self) -> float | None:
        """When `overdue` is next worth asking."""
        return self._look if self._look < inf else None

    def overdue(self, now: float) -> list[int]:
        """Return the lanes to be recalled now, because chunks have waited there too long and others might run them."""
        if now < self._look:
            return []
        self._look = inf
        late = []
        if len(self.lanes) > 1:
            for lane in self.lanes.values():
                if len(lane.held) > 1 and not lane.recalled and not lane.leaving:
                    if lane.due <= now:
                        late.append(lane.number)
                        lane.recalled = True
                    else:
                        self._look = min(self._look, lane.due)
        return late

    def hungry(self) -> list[int]:
        """There is nothing to issue. Return the lanes to be recalled so that workers without a chunk get one."""
        lanes = self.lanes.values()
        wanting = sum(not lane.held and not lane.leaving for lane in lanes) - sum(lane.recalled for lane in lanes)
        if wanting <= 0:
            return []
        laden = [
            lane
            for lane in lanes
            if len(lane.held) > 1 and lane.typical >= QUICK and not lane.recalled and not lane.leaving
        ]
        laden.sort(key=lambda lane: lane.since)  # with a heavy tail, what has run longest will run longest
        for lane in laden[:wanting]:
            lane.recalled = True
        return [lane.number for lane in laden[:wanting]]

    def on_returned(self, number: int, after: int, upto: int) -> int:
        """A recalled worker hands back the chunks after the `after`-th up to the `upto`-th; return how many."""
        lane = self.lanes.get(number)
        if lane is None or not lane.recalled:
            return 0
        lane.recalled = False
        lane.shallow = True
        return self._hand_back(lane, after, upto)

    # chunks down

    def again(self, number: int, now: float) -> Chunk | None:
        """Give the lane the first pending chunk, if any; the caller sends it or says `on_refused`.

        One that workers have ended over goes ahead of others, but only down a lane that holds nothing.
        """
        lane = self.lanes[number]
        while self._suspects and not lane.held:
            chunk = self._outstanding.get(heappop(self._suspects))
            if chunk is not None and not chunk.lane:
                lane.solo = True
                return self._hold(chunk, lane, now)
        while self._pending:
            chunk = self._outstanding.get(heappop(self._pending))
            if chunk is not None and not chunk.lane and not chunk.crashes:
                return self._hold(chunk, lane, now)
        return None

    def wanted(self, remaining: int | None, chunker: Chunker | None = None) -> int:
        """How many new items the next chunk should have; 0 when nothing new may be issued.

        `remaining` is how many there are, if known, of those whose chunks `chunker` sizes (None: the ledger's own).
        """
        if self.full or self.closed or self.exhausted or self.limit is not None:
            return 0
        return (chunker or self.chunker).size(remaining, len(self.lanes))

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
        self._outstanding[chunk.start] = chunk
        return self._hold(chunk, self.lanes[number], now)

    def _hold(self, chunk: Chunk, lane: Lane, now: float) -> Chunk:
        if not lane.held:
            lane.since = now
        elif lane.due < self._look:
            self._look = lane.due
        lane.sent += 1
        chunk.lane = lane.number
        chunk.order = lane.sent
        chunk.attempt += 1
        lane.held[chunk.start] = chunk
        return chunk

    def on_refused(self, chunk: Chunk) -> None:
        """The lane would not take the chunk just given to it: it was never sent."""
        lane = self.lanes[chunk.lane]
        lane.sent -= 1
        del lane.held[chunk.start]
        lane.solo = False
        chunk.attempt -= 1
        chunk.lane = 0
        heappush(self._suspects if chunk.crashes else self._pending, chunk.start)

    # receipts back

    def on_receipt(self, receipt: Receipt, now: float) -> Lane | None:
        """The sink has a chunk. Return the lane that has credit for it now, if there is one."""
        chunk = self._outstanding.get(receipt.start)
        if chunk is None or receipt.stop < self._wanted_of(chunk):
            return None
        self.failed += receipt.failed
        size = max(receipt.size, chunk.size)
        chunk.chunker.observe(receipt.stop - receipt.start, receipt.seconds, size)
        ran = self.lanes.get(receipt.lane)
        if ran is not None:
            ran.observe(receipt.seconds, size)
        lane = self._settle(chunk, receipt.stop, now)
        after = chunk.stop
        while after < receipt.stop and (rest := self._outstanding.get(after)) is not None and rest.stop <= receipt.stop:
            self._settle(rest, rest.stop, now)  # it was halved after the run that this is of
            after = rest.stop
        return lane

    def _settle(self, chunk: Chunk, stop: int, now: float) -> Lane | None:
        del self._outstanding[chunk.start]
        self.done += min(chunk.stop, stop) - chunk.start
        lane = self.lanes.get(chunk.lane)
        if lane is not None:
            del lane.held[chunk.start]
            lane.since = now
            lane.shallow = lane.solo = False
        return lane

    def _wanted_of(self, chunk: Chunk) -> int:
        """Where the part of a chunk that is wanted ends."""
        return chunk.stop if self.limit is None else min(chunk.stop, self.limit)

    def on_done(self, start: int, stop: int) -> None:
        """A sink that came back has `[start, stop)`: forget the chunks inside it, whose receipts were lost."""
        for chunk in [c for c in self._outstanding.values() if start <= c.start and self._wanted_of(c) <= stop]:
            self._drop(chunk)
            self.done += self._wanted_of(chunk) - chunk.start

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

    def _drop(self, chunk: Chunk) -> None:
        del self._outstanding[chunk.start]
        lane = self.lanes.get(chunk.lane)
        if lane is not None:
            del lane.held[chunk.start]
            lane.solo = False

    @property
    def in_flight(self) -> int:
        """Chunks issued and not receipted, pending ones included."""
        return len(self._outstanding)

    @property
    def finished(self) -> bool:
        """Whether every item that is wanted has its receipt."""
        return (self.exhausted or self.limit is not None) and not self._outstanding

    def check(self) -> None:
        """Assert that every outstanding chunk is in exactly one place."""
        places: dict[int, int] = {}
        for lane in self.lanes.values():
            last = 0
            for start, chunk in lane.held.items():
                assert self._outstanding.get(start) is chunk, f"[{start}, {chunk.stop}) is held and forgotten"
                assert chunk.lane == lane.number
                assert chunk.order > last, "held is not in the order sent"
                last = chunk.order
                places[start] = places.get(start, 0) + 1
                assert not chunk.crashes or not lane.solo or len(lane.held) == 1
        pending = {*self._pending, *self._suspects}
        for start, chunk in self._outstanding.items():
            assert start == chunk.start
            assert places.get(start, 0) == (1 if chunk.lane else 0), f"[{start}, {chunk.stop}) is in the wrong lanes"
            assert chunk.lane or start in pending, f"[{start}, {chunk.stop}) is lost"
            assert chunk.attempt >= (1 if chunk.lane else 0)
        if self.limit is None:
            issued = sum(chunk.stop - chunk.start for chunk in self._outstanding.values())
            assert self.done + issued == self.next, (self.done, issued, self.next)
