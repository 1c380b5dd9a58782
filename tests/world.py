"""A hostile world in virtual time: the real decisions of ventilator, sink and workers over a simulated network.

Every message passes through the real codec. Connections deliver in order, but with delays of their own, so that
messages overtake each other across connections; they are cut at any moment, losing what is under way, and the two
ends learn of it at different times, or only after the heartbeat. Results and receipts are doubled now and then.
Processes are killed and restarted at any step. After every step each node's `check()` runs. The same seed gives the
same world: nothing here iterates a set, and no order depends on hashing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from zpipe.core import wire
from zpipe.core.actions import Admit, End, Fill, Reply, Retire
from zpipe.core.chunking import Chunker
from zpipe.core.collector import Collector
from zpipe.core.director import Director, Phase
from zpipe.core.intake import Intake
from zpipe.core.ledger import Ledger
from zpipe.core.member import Close, Gone, Member, Open, Send, State
from zpipe.core.policy import Policy

VERSIONS = wire.Versions(wire.PROTOCOL, "0", "3.11", "3.1")
HEARTBEAT = 10.0


@dataclass
class Scenario:
    """What kind of world to make. Times in seconds; chances per message."""

    items: int = 60
    workers: int = 3
    chunk: int | None = None
    ordered: bool = False
    reorder: int = 1 << 20
    hits: tuple[int, ...] = ()
    chaos: float = 30.0
    kills: int = 4
    cuts: int = 4
    sink_cuts: int = 0
    terms: int = 0
    sink_dies: bool = False
    doubled: float = 0.05
    expect: int = 1
    endless: bool = False
    poison: tuple[int, ...] = ()
    flaky: tuple[int, ...] = ()
    drain_at: float | None = None


class Connection:
    """One transport connection: two ordered directions, cut for good at most once."""

    def __init__(self, world: World, client: Any, server: Any) -> None:
        self.world = world
        self.ends = [client, server]
        self.alive = True
        self.name = 0
        self._last = [0.0, 0.0]

    def send(self, side: int, frames: list[bytes]) -> None:
        """Send from `side` (0: client) to the other."""
        if not self.alive:
            return
        world = self.world
        at = max(self._last[side], world.now + world.delay())
        self._last[side] = at
        receiver = self.ends[1 - side]
        world.at(at, lambda: self.alive and receiver.receive(self, frames))

    def cut(self, told: tuple[bool, bool] = (True, True)) -> None:
        """Cut it. An end not told at once finds out by its heartbeat."""
        if not self.alive:
            return
        self.alive = False
        world = self.world
        for end, soon in zip(self.ends, told, strict=True):
            wait = world.delay() if soon else HEARTBEAT + world.delay()
            world.at(world.now + wait, lambda end=end: end.broken(self))


class Vent:
    """The ventilator: director and ledger, with lanes that a node connects to."""

    def __init__(self, world: World) -> None:
        s = world.scenario
        self.world = world
        self.director = Director("job", Policy(VERSIONS, expect=s.expect), Ledger(Chunker(s.chunk)))
        self.controls: dict[int, Connection] = {}
        self.lanes: dict[int, Connection | None] = {}
        self.tasked: dict[int, bool] = {}
        self.end: End | None = None
        self.names = 0

    def connected(self, connection: Connection) -> None:
        self.names += 1
        connection.name = self.names
        self.controls[self.names] = connection

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        message, _ = wire.decode(frames)
        if isinstance(message, wire.Returned):
            self.world.recalled += message.upto - message.after
            self.world.shared += message.cut > 0
        self.perform(self.director.on_message(str(connection.name).encode(), message, self.world.now))

    def broken(self, connection: Connection) -> None:
        for number, lane in list(self.lanes.items()):
            if lane is connection:
                self.perform(self.director.on_link_lost(number))
                return
        self.controls.pop(connection.name, None)

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Reply):
                self.reply(action.identity, action.message)
            elif isinstance(action, Admit):
                self.lanes[action.lane] = None
                self.reply(action.identity, self.director.welcome(action.lane, f"lane:{action.lane}"))
            elif isinstance(action, Retire):
                lane = self.lanes.pop(action.lane)
                if lane is not None:
                    lane.cut()
            elif isinstance(action, Fill):
                for lane in action.lanes:
                    self.fill(lane)
            elif isinstance(action, End):
                self.end = action

    def reply(self, identity: bytes, message: wire.Control) -> None:
        connection = self.controls.get(int(identity))
        if connection is not None:
            connection.send(1, wire.encode(message))

    def fill(self, number: int) -> None:
        ledger, world = self.director.ledger, self.world
        connection = self.lanes.get(number)
        if connection is None or number not in ledger.lanes:
            return
        if not self.tasked.get(number):
            self.tasked[number] = True
            connection.send(1, wire.encode(wire.Task("job", wire.JobSpec(wire.TaskSpec("import", "a:b")))))
        while self.director.may_issue and ledger.lanes[number].credit > 0:
            chunk = ledger.again(number, world.now)
            if chunk is None:
                left = None if world.scenario.endless else world.scenario.items - ledger.next
                wanted = ledger.wanted(left)
                count = wanted if left is None else min(wanted, left)
                if count == 0:
                    self.perform(self.director.on_hungry(world.now))
                    break
                chunk = ledger.issue(number, count, "lines", [world.payload(ledger.next, count)], world.now)
                if left is not None and ledger.next == world.scenario.items:
                    self.perform(self.director.on_exhausted())
            if world.chance(0.02):
                ledger.on_refused(chunk)
                world.at(world.now + world.delay(), lambda: self.fill(number))
                break
            body = wire.inline(chunk.payload) if world.chance(0.5) else None
            header = wire.Chunk(
                chunk.start, chunk.stop, chunk.attempt, chunk.items, 0, chunk.skip, chunk.doom, chunk.tries, body=body
            )
            message = wire.Chunks([header]) if body is not None and world.chance(0.5) else header
            connection.send(1, wire.encode(message, chunk.payload if body is None else ()))


class Node:
    """A member's transport: control and links, each reconnected or given up as the member decides."""

    links: tuple[str, ...] = ()

    def __init__(self, world: World, patience: float | None = None) -> None:
        self.world = world
        self.alive = True
        self.gone: Gone | None = None
        self.session = f"s{world.serial()}"
        self.member = Member(self.join, self.links, url="url", now=world.now, patience=patience)
        self.control: Connection | None = None
        self.open: dict[str, Connection] = {}
        world.at(world.now + world.delay(), self.dial)

    def join(self, turn: int) -> wire.Control:
        raise NotImplementedError

    def dial(self) -> None:
        if self.alive and self.control is None:
            self.control = Connection(self.world, self, self.world.vent)
            self.world.vent.connected(self.control)
            self.perform(self.member.on_control_up(self.world.now))

    def broken(self, connection: Connection) -> None:
        if not self.alive:
            return
        if connection is self.control:
            self.control = None
            self.perform(self.member.on_control_down(self.world.now))
            self.world.at(self.world.now + self.world.delay(), self.dial)
            return
        for name, other in list(self.open.items()):
            if other is connection:
                self.perform(self.member.on_link_down(name, self.world.now))

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if self.control is not None:
                    self.control.send(0, wire.encode(action.message))
            elif isinstance(action, Open):
                self.connect(action.welcome)
            elif isinstance(action, Close):
                for connection in self.open.values():
                    connection.cut()
                self.open.clear()
            elif isinstance(action, Gone):
                self.gone = action
                self.die()

    def connect(self, welcome: wire.Welcome) -> None:
        lanes = self.world.vent.lanes
        if welcome.lane in lanes and lanes[welcome.lane] is None:
            lanes[welcome.lane] = self.attach("lane", self.world.vent)
            self.world.soon(lambda: self.world.vent.director.on_linked(welcome.lane))
        else:
            self.world.soon(lambda: self.perform(self.member.on_link_down("lane", self.world.now)))

    def attach(self, name: str, server: Any) -> Connection:
        connection = Connection(self.world, self, server)
        self.open[name] = connection
        turn = self.member.turn
        self.world.soon(
            lambda: (
                self.alive
                and self.member.turn == turn
                and self.open.get(name) is connection
                and self.perform(self.member.on_link_up(name, self.world.now))
            )
        )
        return connection

    def die(self) -> None:
        self.alive = False
        for connection in [*self.open.values(), *([self.control] if self.control else [])]:
            connection.cut()
        self.open.clear()

    def tick(self) -> None:
        if self.alive:
            due = self.member.deadline()
            if due is not None and due <= self.world.now:
                self.perform(self.member.on_tick(self.world.now))


class Worker(Node):
    """A worker process. Control messages are heard while a chunk runs, unless its code holds the interpreter."""

    links = ("lane", "results")

    def __init__(self, world: World, slot: int, previous: int = 0, crashed: bool = False) -> None:
        self.slot, self.previous, self.crashed = slot, previous, crashed
        self.pid = world.serial()
        super().__init__(world)
        self.intake = Intake(self.member)
        self.inbox: list[tuple[Connection, list[bytes]]] = []
        self.later: list[Callable[[], None]] = []
        self.busy = False
        self.deaf = False
        self.start = self.stop = 0
        self.terminated = False

    def join(self, turn: int) -> wire.Control:
        return wire.Join(
            VERSIONS, self.session, turn, "host", self.pid, self.slot, self.previous, "killed", self.crashed
        )

    def connect(self, welcome: wire.Welcome) -> None:
        super().connect(welcome)
        if self.world.sink.alive:
            self.attach("results", self.world.sink)
        else:
            self.world.soon(lambda: self.perform(self.member.on_link_down("results", self.world.now)))

    def perform(self, actions: list[Any]) -> None:
        super().perform(self.intake.after(actions))

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        if connection is self.open.get("lane"):
            self.inbox.append((connection, frames))
        elif self.busy and self.deaf:
            self.later.append(lambda: self.hear(frames))
        elif self.alive:
            self.hear(frames)
        self.work()

    def broken(self, connection: Connection) -> None:
        """Monitors are looked at between chunks."""
        if self.busy:
            self.later.append(lambda: Node.broken(self, connection))
        else:
            Node.broken(self, connection)

    def hear(self, frames: list[bytes]) -> None:
        message, _ = wire.decode(frames)
        if isinstance(message, wire.Recall):
            self.take_in()
            self.perform(self.intake.on_recall(message, self.cut))
            return
        self.perform(self.intake.on_message(message, self.world.now))

    def cut(self) -> int:
        """Leave what has not been started of the chunk under way."""
        if not self.busy or self.stop - self.start < 2 or self.world.chance(0.2):
            return 0
        self.stop = self.world.random.randint(self.start + 1, self.stop - 1)
        return self.stop

    def take_in(self) -> None:
        """Take what has come down the lane, without running it."""
        inbox, self.inbox = self.inbox, []
        for connection, frames in inbox:
            message, payload = wire.decode(frames)
            if connection is not self.open.get("lane"):
                continue
            if isinstance(message, wire.Chunk):
                self.intake.on_chunks([(message, payload)])
            elif isinstance(message, wire.Chunks):
                self.intake.on_chunks([(chunk, [chunk.body]) for chunk in message.chunks])

    def work(self) -> None:
        """Start the next chunk, if there is one and none is running."""
        if not self.alive or self.busy or self.terminated:
            return
        self.take_in()
        entry = self.intake.start()
        if entry is None:
            return
        chunk, payload = entry
        size = chunk.stop - chunk.start
        inside = bytes(payload[0])[2 * chunk.skip : 2 * (chunk.skip + size)]
        assert inside == self.world.payload(chunk.start, size), "the items are not those of the range"
        self.busy, self.deaf = True, self.world.chance(0.2)
        self.start, self.stop = chunk.start, chunk.stop
        welcome = self.member.welcome
        seconds = self.world.service(chunk.start, chunk.stop)
        if chunk.doom:
            self.world.doomed.append(chunk.start)
            assert size == 1, "only an item that is alone may be given up"
        elif any(chunk.start <= index < chunk.stop for index in self.world.scenario.poison):
            self.world.at(self.world.now + seconds, lambda: self.world.crash(self))
            return
        self.world.at(self.world.now + seconds, lambda: self.ran(chunk, welcome, seconds))

    def ran(self, chunk: wire.Chunk, welcome: Any, seconds: float) -> None:
        if not self.alive:
            return
        self.busy = False
        self.world.ran(chunk, self.stop)
        hit = next((h for h in self.world.scenario.hits if chunk.start <= h < self.stop), None)
        stop = self.stop if hit is None else hit + 1
        results = self.open.get("results")
        if results is not None and self.member.welcome is welcome:
            self.deliver(results, chunk, welcome.lane, stop, hit, seconds)
        if self.terminated:
            self.perform(self.intake.on_terminate(self.world.now))
        later, self.later = self.later, []
        for action in later:
            if self.alive:
                action()
        self.work()

    def deliver(
        self, results: Connection, chunk: wire.Chunk, lane: int, stop: int, hit: int | None, seconds: float
    ) -> None:
        """Send what became of a chunk's items: flaky ones fail twice and are to be tried again."""
        flaky = [i for i in self.world.scenario.flaky if chunk.start <= i < stop and i != hit and chunk.tries < 2]
        self.world.failures += len(flaky)
        sent, at = [], chunk.start
        for index in [*flaky, stop]:
            if index > at:
                body = b"v" * (index - at)
                mine = hit if hit is not None and at <= hit < index else None
                sent.append(wire.Result("job", lane, at, index, chunk.attempt, seconds, hit=mine, body=body))
            if index < stop:
                after = self.world.random.random() * 3
                sent.append(wire.Result("job", lane, index, index + 1, chunk.attempt, 0.0, again=after, body=b""))
            at = index + 1
        messages: list[Any] = [wire.Results(sent)] if self.world.chance(0.3) else sent
        for message in messages:
            for _ in range(2 if self.world.chance(self.world.scenario.doubled) else 1):
                results.send(0, wire.encode(message))

    def terminate(self) -> None:
        self.terminated = True
        if self.alive and not (self.busy and self.deaf):
            self.perform(self.intake.on_terminate(self.world.now))


class SimSink(Node):
    """The sink: results in, receipts out, output kept as the list of indices written."""

    links = ("lane",)

    def __init__(self, world: World) -> None:
        s = world.scenario
        self.collector = Collector(ordered=s.ordered, reorder=s.reorder)
        self.written: list[int] = []
        self.finished: wire.Finished | None = None
        self.stopped = False
        super().__init__(world)

    def join(self, turn: int) -> wire.Control:
        c = self.collector
        return wire.SinkJoin(VERSIONS, self.session, turn, "host", 1, "sink:1", "values", c.job, list(c.done), c.limit)

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        message, _ = wire.decode(frames)
        if isinstance(message, wire.Result | wire.Results):
            for part in [message] if isinstance(message, wire.Result) else message.results:
                assert part.body is not None
                assert part.again is not None or len(part.body) == part.stop - part.start
                for result, _ in self.collector.on_result(part, [part.body], len(part.body)):
                    self.written.extend(range(result.start, result.stop))
            self.settle()
            return
        if isinstance(message, wire.Welcome):
            self.collector.job = message.job
        elif isinstance(message, wire.Total):
            self.collector.on_total(message.items)
            self.settle()
        elif isinstance(message, wire.Stop):
            self.stopped = True
        self.perform(self.member.on_message(message, self.world.now))

    def perform(self, actions: list[Any]) -> None:
        super().perform(actions)
        if any(isinstance(a, Send) and isinstance(a.message, wire.Ready) for a in actions):
            self.settle(again=True)

    def settle(self, again: bool = False) -> None:
        """Send what is due; after a cut the last word may have been lost, so it is said again."""
        if self.member.state is not State.READY or self.control is None:
            return
        c = self.collector
        receipts = c.take_receipts(again=again)
        if receipts or again:
            message = wire.encode(wire.Receipts("job", receipts, c.full, c.limit))
            for _ in range(2 if self.world.chance(self.world.scenario.doubled) else 1):
                self.control.send(0, message)
        if c.finished and (self.finished is None or again):
            self.finished = wire.Finished("job", c.counted, c.failed, c.duplicates, c.hit)
            self.control.send(0, wire.encode(self.finished))


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
