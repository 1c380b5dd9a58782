"""The ventilator of a world: the real director and ledger, with lanes that a node connects to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import coding, wire
from zpipe.core.actions import Admit, End, Fill, Reply, Retire, Skip
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.policy import Policy
from zpipe.core.sieve import Answer, Loaded, Sieve
from zpipe.core.spec import JobSpec, TaskSpec

from .faults import VENTILATOR
from .network import Connection
from .node import VERSIONS, Process
from .planning import fill_by_plan, schedule_of

if TYPE_CHECKING:
    from .engine import World

__all__ = ["Vent"]


class Vent(Process):
    """The ventilator: director and ledger, with lanes that a node connects to."""

    label = "ventilator"
    who = VENTILATOR

    def __init__(self, world: World) -> None:
        super().__init__(world)
        s = world.scenario
        number = world.serial()
        # One that comes back may be asked for chunks of another size.
        chunker = Chunker(s.chunk and max(1, s.chunk + (5 * world.vents) % 7))
        world.vents += 1
        self.director = Director(
            f"job {number}",
            Policy(VERSIONS, expect=s.expect, speculate=s.speculate),
            Ledger(chunker, speculate=s.speculate),
            fingerprint={"task": "f"},
            base=1000 * number,
        )
        if s.rows:
            self.director.ledger.most = lambda _chunker, _lane: world.random.randint(1, s.rows)
        self.director.ledger.returns.limited = bool(s.overruns or s.known)
        if s.planned:
            self.director.ledger.follow(schedule_of(world))
        self.controls: dict[int, Connection] = {}
        self.lanes: dict[int, Connection | None] = {}
        self.tasked: dict[int, bool] = {}
        self.end: End | None = None
        self.names = 0
        self.read = 0
        self.results: Connection | None = None
        self.linked = False
        self.known: dict[bytes, bytes] = {}
        """Outcomes by kind, of those that were run for this ventilator."""
        self.outcomes: dict[bytes, set[bytes]] = {}
        """All that may be told of a kind."""
        if s.kinds:
            self.director.sieve = Sieve(self.director.ledger, most=world.random.choice((1, 5, 1000)))

    def start(self) -> None:
        """Look at the source: there may be nothing in it."""
        if not self.world.scenario.items:
            self.perform(self.director.lifecycle.on_exhausted())

    def vanish(self) -> None:
        """End at once; whoever was connected finds out."""
        self.alive = False
        for connection in self.connections():
            connection.cut()

    def connected(self, connection: Connection) -> None:
        self.names += 1
        connection.name = self.names
        self.controls[self.names] = connection
        self.inbound.append(connection)

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        if not self.alive:
            return
        message, _ = coding.decode(frames)
        if isinstance(message, wire.Returned):
            self.world.recalled += message.upto - message.after
            self.world.shared += message.cut > 0
        self.perform(self.director.on_message(str(connection.name).encode(), message, self.now))
        self.sift()

    def asked(self, wish: Any) -> None:
        """A person asks for something, on a connection that is gone before the answer."""
        if not self.alive:
            return
        self.world.tell(f"{wish}, please")
        message, _ = coding.decode(coding.encode(wire.Ask(wish)))
        self.perform(self.director.on_message(b"0", message, self.now))
        self.sift()
        assert (
            self.director.lifecycle.paused == (wish == "pause")
            or self.director.lifecycle.draining
            or self.end is not None
        )

    def interrupted(self, why: str) -> None:
        """A person presses Ctrl-C."""
        if self.alive:
            self.world.tell(f"is to be {why}")
            self.perform(self.director.lifecycle.on_drain(why, 130))

    def broken(self, connection: Connection) -> None:
        if not self.alive:
            return
        for number, lane in list(self.lanes.items()):
            if lane is connection:
                self.perform(self.director.on_link_lost(number))
                return
        if connection is self.results:
            self.results, self.linked = None, False
            self.world.soon(self.sift, self)
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
            elif isinstance(action, Skip):
                self.skip()
            elif isinstance(action, End):
                self.end = action

    def reply(self, identity: bytes, message: wire.Control) -> None:
        connection = self.controls.get(int(identity))
        if connection is not None:
            connection.send(1, coding.encode(message))

    def may_fill(self, number: int) -> bool:
        """Whether a lane is linked and work may go down it, the task ahead of all."""
        connection = self.lanes.get(number)
        if connection is None or number not in self.director.ledger.lanes or not self.alive:
            return False
        if not self.tasked.get(number):
            self.tasked[number] = True
            connection.send(1, coding.encode(wire.Task(self.director.job, JobSpec(TaskSpec("import", "a:b")))))
        return self.director.lifecycle.may_issue

    def fill(self, number: int) -> None:
        ledger, world = self.director.ledger, self.world
        if not self.may_fill(number):
            return
        if ledger.plan is not None:
            fill_by_plan(self)
            return
        while self.director.lifecycle.may_issue and ledger.lanes[number].credit > 0:
            chunk = ledger.again(number, self.now)
            if chunk is None and self.director.sieve is not None:
                chunk = self.sifted(number, self.director.sieve)
                if chunk is None:
                    self.perform(self.director.on_hungry(self.now))
                    break
            elif chunk is None:
                self.skip()
                left = None if world.scenario.endless else world.scenario.items - ledger.next
                wanted = ledger.wanted(left)
                count = wanted if left is None else min(wanted, left)
                if count == 0:
                    self.perform(self.director.on_hungry(self.now))
                    break
                chunk = self.row(number, left) or ledger.issue(
                    number, count, "lines", [world.payload(ledger.next, count)], self.now
                )
                self.look()
            if not self.send(chunk, number):
                break

    def row(self, number: int, left: int | None) -> Chunk | None:
        """Make a row of what comes next, if there are rows in this world, and it is more than one chunk."""
        ledger, size = self.director.ledger, self.director.ledger.chunker.fixed
        most = ledger.row(number, ledger.chunker, left) if self.world.scenario.rows and size else 1
        if size is None or most < 2:
            return None
        count = size * most if left is None else min(size * most, left)
        bodies = [
            self.world.payload(start, min(size, ledger.next + count - start))
            for start in range(ledger.next, ledger.next + count, size)
        ]
        return ledger.issue(number, count, "lines", bodies, self.now, grain=size) if len(bodies) > 1 else None

    def send(self, chunk: Chunk, number: int) -> bool:
        """Send a chunk down a lane, which may refuse it."""
        world, connection = self.world, self.lanes[number]
        assert connection is not None
        assert not self.director.lifecycle.paused, "a chunk is sent in a pause"
        self.perform(self.director.on_issuing())
        if world.chance(world.scenario.refused):
            self.director.ledger.on_refused(chunk)
            world.soon(lambda: self.fill(number), self)
            return False
        inside = chunk.grain or world.chance(0.5)
        body = coding.inline(chunk.payload) if inside and not chunk.grain else None
        header = chunk.told(body)
        message = wire.Chunks([header]) if inside and world.chance(0.5) else header
        connection.send(1, coding.encode(message, () if inside else chunk.payload))
        return True

    def skip(self) -> None:
        """Pass over what is done already."""
        ledger, sieve = self.director.ledger, self.director.sieve
        while ledger.skippable:
            count = self.world.random.randint(1, ledger.skippable)
            if sieve is not None:
                sieve.skip(count)
                self.read = max(self.read, ledger.next + count)
            ledger.on_skipped(count)
            self.look()

    # what need not be run

    def sifted(self, number: int, sieve: Sieve) -> Chunk | None:
        """Make a chunk of what comes next and is to be run, once what comes before is set aside."""
        ledger = self.director.ledger
        while True:
            wanted = self.pass_by(sieve)
            if not wanted or not sieve.waiting:
                return None
            taken = sieve.take(wanted)
            if taken is not None:
                chunk = ledger.issue(number, *taken, self.now)
                self.look()
                return chunk
            if sieve.loaded is not None and not self.world.chance(0.9):
                return None  # too much is set aside, perhaps
            if not self.pass_by(sieve, once=True):
                return None

    def pass_by(self, sieve: Sieve, *, once: bool = False) -> int:
        """Set aside what comes next as far as it need not be run; return how many may be issued then."""
        ledger, s, world = self.director.ledger, self.world.scenario, self.world
        while True:
            self.skip()
            left = None if s.endless else s.items - ledger.next
            wanted = ledger.wanted(left)
            wanted = wanted if left is None else min(wanted, left)
            if not wanted or self.director.lifecycle.paused:
                return 0
            if not sieve.waiting:
                count = world.random.randint(1, 12) if left is None else min(world.random.randint(1, 12), left)
                kinds = [b"%d" % (i % s.kinds) for i in range(self.read, self.read + count)]
                assert self.read == ledger.next
                self.store(sieve)
                stored = {kind: b"v %s 0" % kind for kind in kinds if int(kind) in s.stored}
                for kind, outcome in stored.items():
                    self.outcomes.setdefault(kind, set()).add(outcome)
                known = {kind: self.known[kind] for kind in kinds if kind in self.known}
                sieve.load(
                    Loaded(range(self.read, self.read + count), kinds, self.cut(self.read), known=known, stored=stored)
                )
                self.read += count
            passed = sieve.set_aside(wanted)
            self.look()
            if not passed:
                return 0 if once else wanted

    def store(self, sieve: Sieve) -> None:
        """Remember what became of the kinds that were run."""
        for found in sieve.found:
            self.known[found.digest] = found.outcome
            self.outcomes.setdefault(found.digest, set()).add(found.outcome)
        sieve.found.clear()

    def cut(self, first: int) -> Any:
        return lambda start, stop: ("lines", [self.world.payload(first + start, stop - start)])

    def sift(self) -> None:
        """Set aside what can be, and tell what is known."""
        sieve = self.director.sieve
        if sieve is None or not self.alive or self.end is not None:
            return
        self.store(sieve)
        if self.director.sink.taken and self.pass_by(sieve):
            for number in list(self.director.ledger.lanes):
                self.fill(number)  # what has come to the front is theirs
        if self.ready_to_tell():
            while sieve.answers:
                self.tell(sieve, sieve.answers.popleft())

    def ready_to_tell(self) -> bool:
        """Whether there is a connection to the sink; if not, make one."""
        world = self.world
        if self.results is None and self.director.sink.taken and world.sink.alive:
            self.results = connection = Connection(world, "results", self, world.sink)
            world.sink.inbound.append(connection)
            world.at(world.reachable(self, world.sink) + world.delay(), lambda: self.on_linked(connection), self)
        return self.linked

    def on_linked(self, connection: Connection) -> None:
        if self.results is connection and connection.alive and self.director.sieve is not None:
            self.linked = True
            self.director.sieve.tell_again()
            self.sift()

    def tell(self, sieve: Sieve, answer: Answer) -> None:
        """Send the sink outcomes that nobody ran for."""
        world, chunk, results = self.world, answer.chunk, self.results
        assert results is not None
        if world.chance(world.scenario.refused):
            sieve.on_refused(answer)
            self.perform(self.director.on_released())
            return
        if world.chance(world.scenario.refused):
            sieve.answers.appendleft(answer)
            world.soon(self.sift, self)
            self.linked = False
            results.cut()
            return
        self.perform(self.director.on_issuing())
        failures = []
        for index, outcome in zip(range(chunk.start, chunk.stop), answer.outcomes, strict=True):
            kind = b"%d" % (index % world.scenario.kinds)
            assert outcome in self.outcomes[kind], f"item {index} is told {outcome!r}, which is nobody's"
            if outcome[:1] == b"e":
                failures.append(wire.Failure(index, "E", "as another one"))
        body = b"v" * len(chunk)
        message = wire.Result(self.director.job, 0, chunk.start, chunk.stop, 1, 0.0, failures, body=body)
        world.tell(f"told [{chunk.start}, {chunk.stop})")
        world.lively()
        results.send(0, coding.encode(message))
        sieve.on_told(answer)

    def look(self) -> None:
        """See whether that was all."""
        s, ledger = self.world.scenario, self.director.ledger
        if not s.endless and ledger.next == s.items and not ledger.exhausted:
            self.perform(self.director.lifecycle.on_exhausted())

    def deadline(self) -> float | None:
        return self.director.deadline()

    def tick(self) -> None:
        self.perform(self.director.on_tick(self.now))

    def check(self) -> None:
        self.director.check()
        if self.director.sieve is not None:
            self.director.sieve.check()
