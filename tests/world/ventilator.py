"""The ventilator of a world: the real director and ledger, with lanes that a node connects to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import wire
from zpipe.core.actions import Admit, End, Fill, Reply, Retire, Skip
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.policy import Policy

from .faults import VENTILATOR
from .network import Connection
from .node import VERSIONS, Process

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
        self.director.ledger.limited = bool(s.overruns or s.known)
        self.controls: dict[int, Connection] = {}
        self.lanes: dict[int, Connection | None] = {}
        self.tasked: dict[int, bool] = {}
        self.end: End | None = None
        self.names = 0

    def start(self) -> None:
        """Look at the source: there may be nothing in it."""
        if not self.world.scenario.items:
            self.perform(self.director.on_exhausted())

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
        message, _ = wire.decode(frames)
        if isinstance(message, wire.Returned):
            self.world.recalled += message.upto - message.after
            self.world.shared += message.cut > 0
        self.perform(self.director.on_message(str(connection.name).encode(), message, self.now))

    def asked(self, wish: Any) -> None:
        """A person asks for something, on a connection that is gone before the answer."""
        if not self.alive:
            return
        self.world.tell(f"{wish}, please")
        message, _ = wire.decode(wire.encode(wire.Ask(wish)))
        self.perform(self.director.on_message(b"0", message, self.now))
        assert self.director.paused == (wish == "pause") or self.director.draining or self.end is not None

    def interrupted(self, why: str) -> None:
        """A person presses Ctrl-C."""
        if self.alive:
            self.world.tell(f"is to be {why}")
            self.perform(self.director.on_drain(why, 130))

    def broken(self, connection: Connection) -> None:
        if not self.alive:
            return
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
            elif isinstance(action, Skip):
                self.skip()
            elif isinstance(action, End):
                self.end = action

    def reply(self, identity: bytes, message: wire.Control) -> None:
        connection = self.controls.get(int(identity))
        if connection is not None:
            connection.send(1, wire.encode(message))

    def fill(self, number: int) -> None:
        ledger, world = self.director.ledger, self.world
        connection = self.lanes.get(number)
        if connection is None or number not in ledger.lanes or not self.alive:
            return
        if not self.tasked.get(number):
            self.tasked[number] = True
            connection.send(1, wire.encode(wire.Task(self.director.job, wire.JobSpec(wire.TaskSpec("import", "a:b")))))
        while self.director.may_issue and ledger.lanes[number].credit > 0:
            chunk = ledger.again(number, self.now)
            if chunk is None:
                self.skip()
                left = None if world.scenario.endless else world.scenario.items - ledger.next
                wanted = ledger.wanted(left)
                count = wanted if left is None else min(wanted, left)
                if count == 0:
                    self.perform(self.director.on_hungry(self.now))
                    break
                chunk = ledger.issue(number, count, "lines", [world.payload(ledger.next, count)], self.now)
                self.look()
            assert not self.director.paused, "a chunk is sent in a pause"
            if world.chance(world.scenario.refused):
                ledger.on_refused(chunk)
                world.soon(lambda: self.fill(number), self)
                break
            body = wire.inline(chunk.payload) if world.chance(0.5) else None
            header = wire.Chunk(
                chunk.start,
                chunk.stop,
                chunk.attempt,
                chunk.items,
                0,
                chunk.skip,
                chunk.doom,
                chunk.tries,
                body,
                chunk.late,
            )
            message = wire.Chunks([header]) if body is not None and world.chance(0.5) else header
            connection.send(1, wire.encode(message, chunk.payload if body is None else ()))

    def skip(self) -> None:
        """Pass over what is done already."""
        ledger = self.director.ledger
        while ledger.skippable:
            ledger.on_skipped(self.world.random.randint(1, ledger.skippable))
            self.look()

    def look(self) -> None:
        """See whether that was all."""
        s, ledger = self.world.scenario, self.director.ledger
        if not s.endless and ledger.next == s.items and not ledger.exhausted:
            self.perform(self.director.on_exhausted())

    def deadline(self) -> float | None:
        return self.director.deadline()

    def tick(self) -> None:
        self.perform(self.director.on_tick(self.now))

    def check(self) -> None:
        self.director.check()
