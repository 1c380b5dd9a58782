"""The ventilator of a world: the real director and ledger, with lanes that a node connects to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import wire
from zpipe.core.actions import Admit, End, Fill, Reply, Retire
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
        policy = Policy(VERSIONS, expect=s.expect, speculate=s.speculate)
        self.director = Director("job", policy, Ledger(Chunker(s.chunk), speculate=s.speculate))
        self.controls: dict[int, Connection] = {}
        self.lanes: dict[int, Connection | None] = {}
        self.tasked: dict[int, bool] = {}
        self.end: End | None = None
        self.names = 0

    def connected(self, connection: Connection) -> None:
        self.names += 1
        connection.name = self.names
        self.controls[self.names] = connection
        self.inbound.append(connection)

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        message, _ = wire.decode(frames)
        if isinstance(message, wire.Returned):
            self.world.recalled += message.upto - message.after
            self.world.shared += message.cut > 0
        self.perform(self.director.on_message(str(connection.name).encode(), message, self.now))

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
            chunk = ledger.again(number, self.now)
            if chunk is None:
                left = None if world.scenario.endless else world.scenario.items - ledger.next
                wanted = ledger.wanted(left)
                count = wanted if left is None else min(wanted, left)
                if count == 0:
                    self.perform(self.director.on_hungry(self.now))
                    break
                chunk = ledger.issue(number, count, "lines", [world.payload(ledger.next, count)], self.now)
                if left is not None and ledger.next == world.scenario.items:
                    self.perform(self.director.on_exhausted())
            if world.chance(world.scenario.refused):
                ledger.on_refused(chunk)
                world.soon(lambda: self.fill(number), self)
                break
            body = wire.inline(chunk.payload) if world.chance(0.5) else None
            header = wire.Chunk(
                chunk.start, chunk.stop, chunk.attempt, chunk.items, 0, chunk.skip, chunk.doom, chunk.tries, body=body
            )
            message = wire.Chunks([header]) if body is not None and world.chance(0.5) else header
            connection.send(1, wire.encode(message, chunk.payload if body is None else ()))

    def deadline(self) -> float | None:
        return self.director.deadline()

    def tick(self) -> None:
        self.perform(self.director.on_tick(self.now))

    def check(self) -> None:
        self.director.check()
