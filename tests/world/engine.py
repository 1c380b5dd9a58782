"""The clockwork of a world: events in virtual time, mishaps, checks after every step, the verdict at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from zpipe.core import wire
from zpipe.core.lifecycle import Phase

from .clock import Clock
from .crash import Crash
from .faults import SINK, VENTILATOR, Fault, inflict, plan
from .network import HEARTBEAT, Connection
from .node import UNTOUCHED, Process
from .scenario import Scenario
from .sink import FULL, SimSink
from .ventilator import Vent
from .wide import WideWorker
from .worker import Worker

__all__ = ["World"]

SPIN = 50_000
"""Steps that no world takes, unless it spins; one in some thousands takes 10,000."""


class World:
    """One run of one scenario from one seed; `faults` are the mishaps in place of those drawn from the seed."""

    def __init__(
        self, seed: int, scenario: Scenario, faults: Sequence[Fault] | None = None, *, verbose: bool = False
    ) -> None:
        self.seed, self.scenario, self.verbose = seed, scenario, verbose
        self.random = random.Random(seed)
        self._draw = self.random.random
        self.now = 0.0
        self.steps = 0
        self._lively = 0.0
        self._events: list[tuple[float, int, Callable[[], Any], Process | None]] = []
        self._serial = 0
        self._splits: list[tuple[float, tuple[int, ...]]] = []
        self.trace: list[str] = []
        self.executions: dict[int, int] = {}
        self.recalled = 0
        self.shared = 0
        self.late = 0
        self.vents = 0
        self._issued = 0
        self.full = False
        """The disk with the journal is."""
        self.resumed = 0
        self.crashes = 0
        self.failed_runs: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        """How often an item has failed and was to be tried again."""
        self.doomed: list[int] = []
        self.expired = 0
        self.accused: list[int] = []
        """Items that were run alone when their worker was killed, as if by its own fault: once may be proof enough."""
        self.timed_out: list[int] = []
        self.accidents = 0
        self.overran: dict[int, int] = {}
        self.vent = Vent(self)
        self.sink = SimSink(self)
        self.workers = [self.new_worker(slot) for slot in range(scenario.workers)]
        self.vent.start()
        if scenario.drain_at is not None:
            self.at(scenario.drain_at, lambda: self.vent.interrupted("drained"))
        if scenario.cancel_at is not None:
            self.at(scenario.cancel_at, lambda: self.vent.asked("cancel"))
        for _ in range(scenario.pauses):
            begin = self._draw() * scenario.chaos
            self.at(begin, lambda: self.vent.asked("pause"))
            self.at(begin + self._draw() * 5.0, lambda: self.vent.asked("unpause"))
        self.faults = list(plan(seed, scenario) if faults is None else faults)
        for fault in self.faults:
            if not fault.step:
                self.at(fault.at, lambda fault=fault: inflict(self, fault))
        self._by_step = sorted((fault for fault in self.faults if fault.step), key=lambda fault: -fault.step)

    # clockwork

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def at(self, when: float, action: Callable[[], Any], owner: Process | None = None) -> None:
        """Have an action done at a time: by its owner, who may be asleep, and whom alone it changes (None: anybody)."""
        self._serial += 1
        heappush(self._events, (when, self._serial, action, owner))

    def soon(self, action: Callable[[], Any], owner: Process | None = None) -> None:
        self.at(self.now + self.delay(), action, owner)

    def delay(self) -> float:
        which = self._draw()
        return 0.0005 if which < 0.25 else 0.002 if which < 0.5 else 0.05 if which < 0.75 else self._draw()

    def chance(self, probability: float) -> bool:
        return self._draw() < probability

    def clock(self) -> Clock:
        """The clock of a new node."""
        if not self.scenario.clocks:
            return Clock()
        return Clock(self.random.choice((0.0, 1e3, 1e6)) * self._draw(), self.random.choice((0.5, 0.999, 1.001, 2.0)))

    def tell(self, text: str) -> None:
        """Note something for the trace."""
        self.trace.append(f"{self.now:8.3f} {text}")

    def payload(self, start: int, count: int) -> bytes:
        """Items as bytes that tell which they are, two each."""
        return b"".join((index % 65_536).to_bytes(2, "big") for index in range(start, start + count))

    def service(self, start: int, stop: int) -> float:
        if self.scenario.pace:
            return (stop - start) * self.scenario.pace * self._draw()
        return sum(0.001 if i % 7 else 0.2 + i % 5 for i in range(start, stop)) * self._draw()

    def misfortunes(self, start: int, stop: int) -> list[wire.Failure]:
        """Which of these items fail for good this time."""
        unlucky = [i for i in self.scenario.unlucky if start <= i < stop and self.chance(0.5)]
        for index in unlucky:
            self.failed_runs[index] = self.failed_runs.get(index, 0) + 1
        return [wire.Failure(index, "E", "it happens") for index in unlucky]

    @property
    def issued(self) -> int:
        """How many items any ventilator has issued so far."""
        self._issued = max(self._issued, self.vent.director.ledger.next)
        return self._issued

    def forgery(self, job: str, lane: int) -> wire.Result:
        """A result of items that were not issued yet, and perhaps never are."""
        start = self.issued + self.random.choice((0, 1, 7, 1 << 40))
        stop = start + self.random.randint(1, 3)
        self.tell(f"forges [{start}, {stop})")
        return wire.Result(job, lane, start, stop, 1, 0.0, body=b"v" * (stop - start))

    def lively(self) -> None:
        """Something goes on."""
        self._lively = self.now

    def kept(self, start: int, stop: int, failures: list[wire.Failure]) -> list[bytes]:
        """The outcomes of these items by themselves: which run it was of, and whether it failed."""
        if not self.scenario.kinds:
            return []
        failed = {failure.index for failure in failures}
        run = self.serial()
        return [
            b""
            if self.chance(self.scenario.unkept)
            else b"%c %d %d" % (b"ve"[i in failed], i % self.scenario.kinds, run)
            for i in range(start, stop)
        ]

    def ran(self, chunk: wire.Chunk, stop: int) -> None:
        self.tell(f"ran [{chunk.start}, {stop}) attempt {chunk.attempt}")
        self._lively = self.now
        for index in range(chunk.start, stop):
            self.executions[index] = self.executions.get(index, 0) + 1

    # who is where

    def worker(self, slot: int) -> Worker | None:
        """The process that is alive in a slot."""
        return next((worker for worker in self.workers if worker.slot == slot and worker.alive), None)

    def process(self, who: int) -> Process | None:
        """The process of that number, if it is alive."""
        if who == VENTILATOR:
            return self.vent
        if who == SINK:
            return self.sink if self.sink.alive else None
        return self.worker(who)

    def connections(self, who: int) -> list[Connection]:
        """Its connections that stand."""
        process = self.process(who)
        return process.connections() if process is not None else []

    def reachable(self, client: Process, server: Process) -> float:
        """When the one can next connect to the other; it may be now."""
        until = max(self.now, server.frozen)
        for end, group in self._splits:
            if (client.who in group) != (server.who in group):
                until = max(until, end)
        return until

    # what faults do

    def network_split(self, group: tuple[int, ...], span: float) -> None:
        """Cut a group of nodes off from the others for a while: long enough, and both sides give each other up."""
        end = self.now + span
        self._splits = [split for split in self._splits if split[0] > self.now] + [(end, group)]
        for node in [self.sink, *self.workers]:
            for connection in node.connections() if node.alive else ():
                if (connection.ends[0].who in group) != (connection.ends[1].who in group):
                    if span < HEARTBEAT:
                        connection.stall(end + self.delay())
                    else:
                        connection.cut((False, False))

    def freeze(self, who: int, span: float) -> None:
        """Stop a process for a while: long enough, and others give it up."""
        process = self.process(who)
        if process is None:
            return
        process.frozen = max(process.frozen, self.now + span)
        if span > HEARTBEAT:
            for connection in process.connections():
                self.at(self.now + HEARTBEAT + self.delay(), connection.cut)

    def crash(self, worker: Worker, item: int | None, late: bool, *, crashed: bool) -> None:
        """A worker ends by what it runs; its slot's next process may know which item that was."""
        if worker.alive:
            self.crashes += crashed
            self.tell(f"{worker.label} {'is killed' if late else 'crashes'} over {item}")
            worker.vanish()
            soon = self._draw() * (0.1 if item is not None else 1.0)
            self.at(self.now + soon, lambda: self.restart(worker, crashed, item, late))

    def restart(self, worker: Worker, crashed: bool = False, item: int | None = None, late: bool = False) -> None:
        if self.vent.end is None:
            self.workers.append(self.new_worker(worker.slot, worker.pid, crashed, item, late))

    def new_worker(self, *given: Any) -> Worker:
        return (WideWorker if self.scenario.width else Worker)(self, *given)

    def new_sink(self) -> None:
        self.full = False  # else there would be no starting it
        self.sink = SimSink(self, self.sink.disk)

    def new_ventilator(self) -> None:
        self._issued = self.issued
        self.vent = Vent(self)
        self.vent.start()

    def resume(self) -> None:
        """A person has made room on the disk, and gives all commands again."""
        self.tell("there is room again, and it all begins again")
        self.resumed += 1
        self.vent.vanish()
        self.new_sink()
        self.new_ventilator()
        for slot in range(self.scenario.workers):
            self.workers.append(self.new_worker(slot))

    # the run

    def run(self, limit: float = 600.0) -> World:
        """Run to the end, or until nothing was run for `limit` seconds. Check after every step. Raises Crash."""
        try:
            self._run(limit)
            self.verdict()
        except Exception as error:
            raise Crash(self.seed, self.scenario, self.faults, self.trace, error) from error
        return self

    def _run(self, limit: float) -> None:
        events, by_step = self._events, self._by_step
        while events and events[0][0] < self._lively + limit:
            when, _, action, owner = heappop(events)
            self.now = when
            if owner is not None and owner.frozen > when:
                self.at(owner.frozen, action, owner)
                continue
            changed = action() is not UNTOUCHED
            self.steps += 1
            while by_step and by_step[-1].step <= self.steps:
                inflict(self, by_step.pop())
                owner = None
            if owner is None:
                self.check()
            elif owner.alive:
                if changed:
                    owner.check()
                owner.arm()
            assert self.steps < SPIN, "the world spins"
            if self.vent.end is not None and not self.sink.alive and not any(worker.alive for worker in self.workers):
                if self.vent.end.error != FULL:
                    break
                self.resume()

    def check(self) -> None:
        """Check everybody; after a step of one node, that one is enough: nothing has changed in the others."""
        for process in [self.vent, self.sink, *self.workers]:
            if process.alive:
                process.check()
                process.arm()

    def verdict(self) -> None:
        """What has to be true at the end."""
        self.check()
        s, sink, end = self.scenario, self.sink, self.vent.end
        assert end is not None, f"the job never ended: {self.vent.director.waiting('URL')!r}"
        if s.sink_dies and not s.journal and end.error:
            return
        if (s.drain_at is not None or s.cancel_at is not None) and end.error:
            assert end.status == 130, end
            # One that is dead by then comes back to no ventilator, or to the next one, which goes on with the job.
            died = not sink.alive and sink.gone is None
            told = sink.stopped or (sink.gone is not None and sink.gone.error)
            assert died or told, "the sink was never told that the job has failed"
            return
        assert not end.error, end.error
        assert self.vent.director.lifecycle.phase is Phase.OVER
        if s.hits and s.ordered:
            assert sink.written == list(range(min(s.hits) + 1)), sink.written
            done = sink.finished.done if sink.finished is not None else 0
            assert done == len(sink.written) or (sink.finished is None and s.journal), f"{done} are said to be done"
        elif s.hits:
            assert sink.collector.hit in s.hits, f"ended by item {sink.collector.hit}"
            assert sink.collector.hit in sink.written, "the hit was not written"
        else:
            assert sorted(sink.written) == list(range(s.items)), "items are missing"
            assert sink.collector.finished, "the sink does not know that it has all"
            # One that died with its last word under way has not said it again: its journal has all, and that was heard.
            assert sink.finished.done == s.items if sink.finished is not None else s.journal
            doomed, poison = set(self.doomed), {*s.poison, *s.suicides}
            assert poison <= doomed, f"not given up: {sorted(poison - doomed)}"
            assert doomed <= poison.union(self.accused), f"given up: {sorted(doomed - poison)}"
            assert sorted(set(self.timed_out)) == sorted(s.overruns), "timed out, not to blame, or the other way round"
        assert not any(worker.alive for worker in self.workers), "a worker never left"
        if not self.faults and not s.poison and not s.overruns and not s.suicides and not s.speculate:
            if s.kinds and not (s.unkept or s.refused or s.hits):
                for kind in range(s.kinds):
                    runs = sum(
                        count - self.failed.get(i, 0) for i, count in self.executions.items() if i % s.kinds == kind
                    )
                    wanted = kind not in s.stored and kind < s.items
                    assert runs == wanted, f"the items of kind {kind} were run {runs} times"
            for index, count in self.executions.items():
                assert count <= 1 + self.failed.get(index, 0), f"item {index} was run {count} times without need"
