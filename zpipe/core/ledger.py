"""The ventilator's state: which chunk is where. Must not know of sockets, hosts, clocks or what items are.

A chunk is pending, held by exactly one lane, or receipted and forgotten. Credit is derived, `window − len(held)`,
never counted: a counted credit leaks with the first message lost. A lane's number is never used again, so whatever
comes late from a lane already lost names a lane that is not there. A receipt is good whoever it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from zpipe.core.chunking import Chunker, window
from zpipe.core.wire import Buffer, ItemKind, Receipt

__all__ = ["Chunk", "Lane", "Ledger"]

QUICK = 0.001
"""Seconds a chunk takes, below which it is worth having others wait behind it even near the end."""

VERDICTS = 10_000
"""Lost lanes of which it is remembered what they ran; how a worker ended is heard only when its slot joins again."""


class Chunk:
    """Items `[start, stop)`: their payload until receipted, and what befell them.

    `losses` counts workers lost with it for reasons outside (a signal, a host, a cut), `crashes` those that ended by
    their own fault while running it: only the second can be the items' doing.
    """

    __slots__ = ("attempt", "crashes", "items", "lane", "losses", "order", "payload", "size", "start", "stop")

    def __init__(self, start: int, stop: int, items: ItemKind, payload: Sequence[Buffer]) -> None:
        self.start = start
        self.stop = stop
        self.items = items
        self.payload = payload
        self.size = sum(len(frame) if isinstance(frame, bytes) else memoryview(frame).nbytes for frame in payload)
        self.attempt = 0
        self.losses = 0
        self.crashes = 0
        self.lane = 0
        self.order = 0


class _Outlook:
    """Whether the job's end is near, which all lanes of a ledger go by."""

    __slots__ = ("near",)

    def __init__(self) -> None:
        self.near = False


class Lane:
    """One worker's incarnation as the ledger sees it. `held` is in the order sent."""

    __slots__ = ("_outlook", "held", "leaving", "number", "receipts", "seconds", "sent", "size", "window")

    def __init__(self, number: int, outlook: _Outlook) -> None:
        self._outlook = outlook
        self.number = number
        self.held: dict[int, Chunk] = {}
        self.window = 1
        self.sent = 0
        self.receipts = 0
        self.leaving = False
        self.seconds = 0.0
        self.size = 0.0

    @property
    def credit(self) -> int:
        """How many more chunks may go down this lane now.

        Near the job's end no chunk waits behind another, unless they are so quick that the round trip costs more.
        """
        if self.leaving:
            return 0
        window = 1 if self._outlook.near and self.seconds >= QUICK else self.window
        return window - len(self.held)

    def observe(self, seconds: float, size: int) -> None:
        """Smooth the chunk service time and weight, and set the window by them."""
        self.seconds = 0.8 * self.seconds + 0.2 * seconds if self.seconds else seconds
        self.size = 0.8 * self.size + 0.2 * size if self.size else float(size)
        self.receipts += 1
        # As deep as the lane has proved to be quick: a few light chunks say little of what comes behind them, and
        # what has been sent can't be had back.
        self.window = min(window(self.seconds, self.size), 1 + self.receipts)


class Ledger:
    """Decides what goes down which lane next, and what becomes of it."""

    def __init__(self, chunker: Chunker) -> None:
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
        self._running: dict[int, Chunk] = {}
        self._outlook = _Outlook()

    # lanes

    def on_ready(self, number: int) -> None:
        """A worker is ready on lane `number`, never seen before."""
        assert number not in self.lanes
        self.lanes[number] = Lane(number, self._outlook)

    def on_lost(self, number: int) -> int:
        """The worker of a lane is gone; return how many of its chunks go to others."""
        lane = self.lanes.pop(number, None)
        if lane is None:
            return 0
        first = next(iter(lane.held.values()), None)
        if first is not None:
            # Chunks are run in the order sent: only the first without a receipt can have been running.
            self._running[number] = first
            if len(self._running) > VERDICTS:
                del self._running[next(iter(self._running))]
            first.losses += 1
        for chunk in lane.held.values():
            self._requeue(chunk)
        return len(lane.held)

    def on_verdict(self, number: int, *, crashed: bool) -> Chunk | None:
        """How the worker of a lost lane ended is known: if by its own fault, its running chunk is charged a crash."""
        chunk = self._running.pop(number, None)
        if chunk is None or not crashed:
            return None
        chunk.losses -= 1
        chunk.crashes += 1
        return chunk

    def on_leave(self, number: int, taken: int) -> int:
        """The worker takes no more and has taken the first `taken` chunks sent; return how many it handed back."""
        lane = self.lanes.get(number)
        if lane is None:
            return 0
        lane.leaving = True
        back = [chunk for chunk in lane.held.values() if chunk.order > taken]
        for chunk in back:
            del lane.held[chunk.start]
            chunk.attempt -= 1
            self._requeue(chunk)
        return len(back)

    def _requeue(self, chunk: Chunk) -> None:
        chunk.lane = 0
        self.requeued += 1
        heappush(self._pending, chunk.start)

    # chunks down

    def again(self, number: int) -> Chunk | None:
        """Give the lane the first pending chunk, if any; the caller sends it or says `on_refused`."""
        while self._pending:
            chunk = self._outstanding.get(heappop(self._pending))
            if chunk is not None and not chunk.lane:
                return self._hold(chunk, self.lanes[number])
        return None

    def wanted(self, remaining: int | None) -> int:
        """How many new items the next chunk should have; 0 when nothing new may be issued."""
        if self.full or self.closed or self.exhausted or self.limit is not None:
            return 0
        self._outlook.near = self.chunker.near(remaining, len(self.lanes))
        return self.chunker.size(remaining, len(self.lanes))

    def issue(self, number: int, count: int, items: ItemKind, payload: Sequence[Buffer]) -> Chunk:
        """Make the next `count` items a chunk of the lane; the caller sends it or says `on_refused`."""
        chunk = Chunk(self.next, self.next + count, items, payload)
        self.next = chunk.stop
        self._outstanding[chunk.start] = chunk
        return self._hold(chunk, self.lanes[number])

    def _hold(self, chunk: Chunk, lane: Lane) -> Chunk:
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
        chunk.attempt -= 1
        chunk.lane = 0
        heappush(self._pending, chunk.start)

    # receipts back

    def on_receipt(self, receipt: Receipt) -> Lane | None:
        """The sink has a chunk. Return the lane that has credit for it now, if there is one."""
        chunk = self._outstanding.get(receipt.start)
        if chunk is None or receipt.stop < self._wanted_of(chunk):
            return None
        del self._outstanding[receipt.start]
        items = receipt.stop - receipt.start
        self.done += items
        self.failed += receipt.failed
        size = max(receipt.size, chunk.size)
        self.chunker.observe(items, receipt.seconds, size)
        ran = self.lanes.get(receipt.lane)
        if ran is not None:
            ran.observe(receipt.seconds, size)
        lane = self.lanes.get(chunk.lane)
        if lane is not None:
            del lane.held[chunk.start]
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
        self._outlook.near = True

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
        pending = set(self._pending)
        for start, chunk in self._outstanding.items():
            assert start == chunk.start
            assert places.get(start, 0) == (1 if chunk.lane else 0), f"[{start}, {chunk.stop}) is in the wrong lanes"
            assert chunk.lane or start in pending, f"[{start}, {chunk.stop}) is lost"
            assert chunk.attempt >= (1 if chunk.lane else 0)
        if self.limit is None:
            issued = sum(chunk.stop - chunk.start for chunk in self._outstanding.values())
            assert self.done + issued == self.next, (self.done, issued, self.next)
