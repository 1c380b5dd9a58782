"""How often does a worker stand for want of its next chunk, and what does that cost? In virtual time: noise is nil.

The ledger itself deals out sleeps, as in `balance` and `unequal`, to workers that are reckoned and not run. A message
takes 0.2 ms, and so does all that a worker does between two chunks. A chunk that is there when the last one ends is
handed over in that time; one that is not is a round trip away. What is told is the share of the best list schedule
(the median of 20 draws), or of the workers' time for stages; how many hand-overs there were, which part of them had to
wait, and how often chunks were called back.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

import harness
from balance import late, pareto, rare
from unequal import DRAWS
from workloads import SLEEPERS, list_schedule, lognormal

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.ledger import Ledger
from zpipe.core.wire import Receipt

MESSAGE = 0.0002
"""Seconds a message takes."""

BETWEEN = 0.0002
"""Seconds a worker takes between two chunks, if the next one is there."""

SIZE = 50
"""Bytes of a chunk; small ones are all alike."""

Item = Sequence[float]
"""The seconds that it takes in each stage."""


class Slot:
    """A worker: what it has been sent, and what it runs."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Chunk, int, int]] = deque()
        self.arrived = self.taken = 0
        self.running: tuple[Chunk, int, int, list[float]] | None = None
        """The chunk, where it starts and ends, and when each of its items does."""


class Floor:
    """The ledger, workers and stages of one job. Results are in no order, and read as far ahead as there is room."""

    def __init__(self, workers: int, stages: int) -> None:
        self.ledger = Ledger(Chunker())
        self.chunkers = [Chunker() for _ in range(stages)]
        self.ready: list[deque[Item]] = [deque() for _ in range(stages)]
        self.slots = {number: Slot() for number in range(1, workers + 1)}
        for number in self.slots:
            self.ledger.on_ready(number)
        self.now = self.end = 0.0
        self.handed = self.waited = self.recalls = self.done = 0
        self._items: dict[int, tuple[int, Item]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial, self._turn = count(), 0

    def run(self, items: Sequence[Item]) -> None:
        """See all items through all stages."""
        self.ready[0].extend(items)
        self._share(list(self.slots))
        while self.done < len(items):
            due = self.ledger.deadline()
            if due is not None and due <= self._events[0][0]:
                self.now = max(self.now, due)
                self._recall(self.ledger.recalls.overdue(self.now), items=self.ledger.recalls.dry)
                continue
            self.now, _, call = heappop(self._events)
            call()

    def _at(self, when: float, call: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._serial), call))

    # the ventilator

    def _share(self, numbers: list[int]) -> None:
        lanes, hungry = sorted((self.ledger.lanes[n] for n in numbers), key=lambda lane: len(lane.held)), False
        while lanes:
            lanes = [lane for lane in lanes if lane.credit > 0]
            for lane in lanes:
                chunk = self.ledger.again(lane.number, self.now) or self._issue(lane.number)
                if chunk is None:
                    hungry, lanes = True, []
                    break
                self._at(self.now + MESSAGE, partial(self._arrive, lane.number, chunk, chunk.start, chunk.stop))
        if hungry:
            self._recall(self.ledger.recalls.hungry(self.now), items=True)

    def _issue(self, number: int) -> Chunk | None:
        for _ in self.ready:
            self._turn = (self._turn + 1) % len(self.ready)
            there, chunker = self.ready[self._turn], self.chunkers[self._turn]
            if there:
                wanted = min(len(there), self.ledger.wanted(None if self._turn else len(there), chunker))
                for item in range(self.ledger.next, self.ledger.next + wanted):
                    self._items[item] = self._turn, there.popleft()
                return self.ledger.issue(number, wanted, "pickle", [bytes(SIZE)], self.now, self._turn, chunker)
        return None

    def _recall(self, numbers: list[int], *, items: bool) -> None:
        self.recalls += len(numbers)
        for number in numbers:
            self._at(self.now + MESSAGE, partial(self._hand_back, number, items))

    def _returned(self, number: int, taken: int, arrived: int, cut: int) -> None:
        back = self.ledger.returns.on_returned(number, taken, arrived, cut)
        self._share(list(self.slots) if back else [number])

    def _receive(self, number: int, start: int, stop: int, seconds: float) -> None:
        lane = self.ledger.account.on_receipt(Receipt(start, stop, number, seconds, 0, SIZE), self.now)
        passed_on = False
        for index in range(start, stop):
            stage, item = self._items.pop(index)
            if stage + 1 < len(self.ready):
                self.ready[stage + 1].append(item)
                passed_on = True
            else:
                self.done += 1
        self._share(list(self.slots) if passed_on else [lane.number] if lane is not None else [])

    # a worker

    def _arrive(self, number: int, chunk: Chunk, start: int, stop: int) -> None:
        slot = self.slots[number]
        slot.arrived += 1
        slot.waiting.append((slot.arrived, chunk, start, stop))
        if slot.running is None:
            self.waited += slot.arrived > 1
            self._begin(number)

    def _begin(self, number: int) -> None:
        slot = self.slots[number]
        slot.running = None
        if not slot.waiting:
            return
        slot.taken, chunk, start, stop = slot.waiting.popleft()
        at, ends = self.now + BETWEEN, []
        for index in range(start, stop):
            stage, item = self._items[index]
            ends.append(at := at + item[stage])
        self.handed += 1
        self._run(number, (chunk, start, stop, ends))

    def _run(self, number: int, what: tuple[Chunk, int, int, list[float]]) -> None:
        self.slots[number].running = what
        self._at(what[3][-1], partial(self._end, number, what, self.now))

    def _end(self, number: int, what: tuple[Chunk, int, int, list[float]], began: float) -> None:
        if self.slots[number].running is what:  # else it was cut
            self.end = self.now
            self._at(self.now + MESSAGE, partial(self._receive, number, what[1], what[2], self.now - began))
            self._begin(number)

    def _hand_back(self, number: int, items: bool) -> None:
        slot, cut = self.slots[number], 0
        slot.waiting.clear()
        if items and slot.running is not None:
            chunk, start, stop, ends = slot.running
            kept = sum(end <= self.now for end in ends) + 1  # what is begun is ended
            if start + kept < stop:
                cut = start + kept
                self._run(number, (chunk, start, cut, ends[:kept]))
        self._at(self.now + MESSAGE, partial(self._returned, number, slot.taken, slot.arrived, cut))


def dealt(items: Sequence[Item], workers: int) -> Floor:
    """Return what became of these items on so many workers."""
    floor = Floor(workers, len(items[0]))
    floor.run(items)
    return floor


def of_list(make: Callable[[int], list[float]], draws: int) -> tuple[float, list[Floor]]:
    """Return the share of the best list schedule that draws of sleeps reached, and what became of them."""
    floors, shares = [], []
    for seed in range(draws):
        sleeps = make(seed)
        floors.append(dealt([(one,) for one in sleeps], SLEEPERS))
        shares.append(list_schedule(sleeps) / floors[-1].end)
    return statistics.median(shares), floors


def main() -> None:
    """Reckon, print."""
    options = harness.arguments(__doc__ or "", draws=20)
    found: dict[str, tuple[float, list[Floor]]] = {}
    for make in (lognormal, pareto, rare, late):
        found[f"{make.__name__}, of the list schedule"] = of_list(make, options.draws)
    for name, draw in DRAWS.items():
        for workers in (4, 8):
            items = draw(count=100 * workers)
            floor = dealt(items, workers)
            found[f"{name}, {workers} workers"] = sum(map(sum, items)) / workers / floor.end, [floor]
    rows = [["", "share", "hand-overs", "waited", "recalls"]]
    figures: dict[str, Any] = {}
    for name, (share, floors) in found.items():
        handed, waited, recalls = (
            sum(getattr(one, what) for one in floors) for what in ("handed", "waited", "recalls")
        )
        figures[name] = {"share": share, "handed": handed, "waited": waited, "recalls": recalls}
        rows.append([name, f"{share:.3f}", f"{handed:,}", f"{waited / handed:.1%}", f"{recalls / handed:.1%}"])
    harness.report(options, harness.environment(), {"floors": figures}, harness.table(rows))


if __name__ == "__main__":
    main()
