"""The clockwork of a world: events in virtual time, mishaps, checks after every step, the verdict at the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from zpipe.core import wire
from zpipe.core.director import Phase

from .network import Connection
from .scenario import Scenario
from .sink import SimSink
from .ventilator import Vent
from .worker import Worker

__all__ = ["Crash", "World"]


@dataclass
class Crash(AssertionError):
    """A broken invariant, with all that is needed to see it again."""

    seed: int
    scenario: Scenario
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.scenario}\n" + "\n".join(self.trace[-25:])


class World:
    """One run of one scenario from one seed."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.seed, self.scenario = seed, scenario
        self.random = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._serial = 0
        self.trace: list[str] = []
        self.executions: dict[int, int] = {}
        self.recalled = 0
        self.shared = 0
        self.crashes = 0
        self.failures = 0
        self.doomed: list[int] = []
        self.vent = Vent(self)
        self.sink = SimSink(self)
        self.workers = [Worker(self, slot) for slot in range(scenario.workers)]
        self.seen = 0
        self.counted: dict[int, int] = {}
        if not scenario.items:
            self.vent.perform(self.vent.director.on_exhausted())
        self.mishaps()

    # clockwork

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def at(self, when: float, action: Callable[[], Any]) -> None:
        heappush(self._events, (when, self.serial(), action))

    def soon(self, action: Callable[[], Any]) -> None:
        self.at(self.now + self.delay(), action)

    def delay(self) -> float:
        return self.random.choice((0.0005, 0.002, 0.05, self.random.random()))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def payload(self, start: int, count: int) -> bytes:
        """Items as bytes that tell which they are, two each."""
        return b"".join((index % 65_536).to_bytes(2, "big") for index in range(start, start + count))

    def service(self, start: int, stop: int) -> float:
        return sum(0.001 if i % 7 else 0.2 + i % 5 for i in range(start, stop)) * self.random.random()

    def ran(self, chunk: wire.Chunk, stop: int) -> None:
        self.trace.append(f"{self.now:8.3f} ran [{chunk.start}, {stop}) attempt {chunk.attempt}")
        for index in range(chunk.start, stop):
            self.executions[index] = self.executions.get(index, 0) + 1

    # mishaps

    def mishaps(self) -> None:
        s = self.scenario
        plans = [*[self.kill] * s.kills, *[self.cut] * s.cuts, *[self.cut_sink] * s.sink_cuts, *[self.term] * s.terms]
        for plan in plans:
            self.at(self.random.random() * s.chaos, plan)
        if s.sink_dies:
            self.at(self.random.random() * s.chaos, self.sink_death)
        if s.drain_at is not None:
            self.at(s.drain_at, lambda: self.vent.perform(self.vent.director.on_drain("drained", 130)))

    def pick(self) -> Worker | None:
        alive = [worker for worker in self.workers if worker.alive]
        return self.random.choice(alive) if alive else None

    def kill(self) -> None:
        worker = self.pick()
        if worker is None or self.vent.end is not None:
            return
        self.trace.append(f"{self.now:8.3f} kill slot {worker.slot}")
        silent = self.chance(0.3)
        worker.alive = False
        for connection in [*worker.open.values(), *([worker.control] if worker.control else [])]:
            connection.cut((True, not silent))
        crashed = self.chance(0.5)
        self.at(self.now + self.random.random(), lambda: self.restart(worker, crashed))

    def crash(self, worker: Worker) -> None:
        """A worker ends by what it runs."""
        if worker.alive:
            self.crashes += 1
            worker.die()
            self.at(self.now + self.random.random(), lambda: self.restart(worker, True))

    def restart(self, worker: Worker, crashed: bool = False) -> None:
        if self.vent.end is None:
            self.workers.append(Worker(self, worker.slot, worker.pid, crashed))

    def cut(self) -> None:
        worker = self.pick()
        if worker is not None:
            self._cut_one([*worker.open.values(), *([worker.control] if worker.control else [])])

    def cut_sink(self) -> None:
        sink = self.sink
        self._cut_one([*sink.open.values(), *([sink.control] if sink.control else [])])

    def _cut_one(self, connections: list[Connection]) -> None:
        if connections:
            self.trace.append(f"{self.now:8.3f} cut")
            self.random.choice(connections).cut((self.chance(0.6), self.chance(0.6)))

    def term(self) -> None:
        worker = self.pick()
        if worker is not None and self.vent.end is None:
            self.trace.append(f"{self.now:8.3f} term slot {worker.slot}")
            worker.terminate()
            self.at(self.now + 1.0 + self.random.random(), lambda: self.restart(worker))

    def sink_death(self) -> None:
        if self.vent.end is not None:
            return
        self.trace.append(f"{self.now:8.3f} the sink dies")
        old = self.sink
        old.alive = False
        for connection in [*old.open.values(), *([old.control] if old.control else [])]:
            connection.cut()
        for worker in self.workers:
            if "results" in worker.open:
                worker.open["results"].cut()
        self.at(self.now + self.random.random(), self.new_sink)

    def new_sink(self) -> None:
        self.sink = SimSink(self)
        self.seen = 0
        self.counted.clear()

    # the run

    def run(self, limit: float = 600.0) -> World:
        """Run to the end, checking after every step. Raises Crash."""
        try:
            while self._events and self.now < limit:
                self.now, _, action = heappop(self._events)
                action()
                self.steps += 1
                self.check()
                if self.steps % 16 == 0 or not self._events or self._events[0][0] > self.now + 1.0:
                    self.wake()
                if self.vent.end is not None and not any(node.alive for node in [*self.workers, self.sink]):
                    break
            self.verdict()
        except AssertionError as error:
            raise Crash(self.seed, self.scenario, [*self.trace, repr(error)]) from error
        return self

    def wake(self) -> None:
        for node in [*self.workers, self.sink]:
            node.tick()
        director = self.vent.director
        if (late := director.deadline()) is not None and late <= self.now:
            self.vent.perform(director.on_tick(self.now))
        due = [d for node in [*self.workers, self.sink] if node.alive and (d := node.member.deadline()) is not None]
        if (late := director.deadline()) is not None:
            due.append(late)
        if due and (not self._events or min(due) < self._events[0][0]):
            self.at(max(self.now, min(due)), lambda: None)

    def check(self) -> None:
        self.vent.director.check()
        self.sink.collector.check()
        self.sink.member.check()
        for place, index in enumerate(self.sink.written[self.seen :], self.seen):
            assert index not in self.counted, f"item {index} was written twice"
            assert not self.scenario.ordered or index == place, f"item {index} was written out of order"
            self.counted[index] = place
        self.seen = len(self.sink.written)
        for worker in self.workers:
            if worker.alive:
                worker.intake.check()

    def verdict(self) -> None:
        s, sink, end = self.scenario, self.sink, self.vent.end
        assert end is not None, f"the job never ended: {self.vent.director.waiting('URL')!r}"
        if s.sink_dies and end.error:
            return
        if s.drain_at is not None and end.error:
            assert end.status == 130
            assert sink.stopped
            return
        assert not end.error, end.error
        assert self.vent.director.phase is Phase.OVER
        if s.hits and s.ordered:
            assert sink.written == list(range(min(s.hits) + 1)), sink.written
        elif s.hits:
            assert sink.collector.hit in s.hits
            assert sink.collector.hit in sink.written
        else:
            assert sorted(sink.written) == list(range(s.items)), "items are missing"
            assert sink.finished is not None
            assert sink.finished.done == s.items
            assert sorted(set(self.doomed)) == sorted(s.poison), "given up, and not to blame, or the other way round"
        assert not any(worker.alive for worker in self.workers), "a worker never left"
