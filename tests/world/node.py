"""What all nodes of a world have in common: a clock, a pause now and then; and a member's transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import coding, wire
from zpipe.core.member import Close, Gone, Member, Open, Send

from .clock import Clock
from .network import Connection

if TYPE_CHECKING:
    from .engine import World

__all__ = ["UNTOUCHED", "VERSIONS", "Node", "Process"]

VERSIONS = wire.Versions(wire.PROTOCOL, "0", "3.11", "3.1")

UNTOUCHED = object()
"""What is returned by an action that has changed nothing, so that there is nothing new to check."""


class Process:
    """What runs somewhere: dead or alive, awake or not until `frozen`, with a clock of its own."""

    label = ""
    who = 0

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self.frozen = 0.0
        self.armed: float | None = None
        self.clock: Clock = world.clock()
        self.inbound: list[Connection] = []
        """Connections that others made to it."""

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self.clock.read(self.world.now)

    def deadline(self) -> float | None:
        """When, by its clock, `tick` is due."""
        raise NotImplementedError

    def tick(self) -> None:
        """It is."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert that what it holds makes sense."""
        raise NotImplementedError

    def arm(self) -> None:
        """See to it that it is woken when it is due, if not earlier."""
        if self.alive and (due := self.deadline()) is not None:
            world = self.world
            at = max(world.now, self.clock.when(due))
            if self.armed is None or at < self.armed:
                self.armed = at
                world.at(at, self.wake, self)

    def wake(self) -> object:
        """Do what is due, if anything is by now."""
        self.armed = None
        if self.alive and (due := self.deadline()) is not None and due <= self.now:
            self.tick()
            return None
        return UNTOUCHED

    def connections(self) -> list[Connection]:
        """All its connections that stand."""
        self.inbound = [connection for connection in self.inbound if connection.alive]
        return list(self.inbound)


class Node(Process):
    """A member's transport: control and links, each reconnected or given up as the member decides."""

    links: tuple[str, ...] = ()

    def __init__(self, world: World, patience: float | None = None) -> None:
        super().__init__(world)
        self.gone: Gone | None = None
        self.session = f"s{world.serial()}"
        self.member = Member(self.join, self.links, url="url", now=self.now, patience=patience)
        self.control: Connection | None = None
        self.open: dict[str, Connection] = {}
        world.at(world.now + world.delay(), self.dial, self)

    def join(self, turn: int) -> wire.Control:
        raise NotImplementedError

    def connections(self) -> list[Connection]:
        mine = [*self.open.values(), *([self.control] if self.control else [])]
        return [*(connection for connection in mine if connection.alive), *super().connections()]

    def dial(self) -> None:
        if not self.alive or self.control is not None:
            return
        world = self.world
        if not world.vent.alive:
            world.soon(self.dial, self)
            return
        if (when := world.reachable(self, world.vent)) > world.now:
            world.at(when + world.delay(), self.dial, self)
            return
        self.control = Connection(world, "control", self, world.vent)
        world.vent.connected(self.control)
        self.perform(self.member.on_control_up(self.now))

    def broken(self, connection: Connection) -> None:
        if not self.alive:
            return
        if connection is self.control:
            self.control = None
            self.perform(self.member.on_control_down(self.now))
            self.world.soon(self.dial, self)
            return
        for name, other in list(self.open.items()):
            if other is connection:
                self.perform(self.member.on_link_down(name, self.now))

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send):
                if self.control is not None:
                    self.control.send(0, coding.encode(action.message))
            elif isinstance(action, Open):
                self.connect(action.welcome)
            elif isinstance(action, Close):
                for connection in self.open.values():
                    connection.cut()
                self.open.clear()
            elif isinstance(action, Gone):
                self.gone = action
                self.vanish()

    def connect(self, welcome: wire.Welcome) -> None:
        lanes = self.world.vent.lanes
        if welcome.lane in lanes and lanes[welcome.lane] is None:
            lanes[welcome.lane] = self.attach("lane", self.world.vent)
            self.world.soon(lambda: self.world.vent.director.on_linked(welcome.lane), self.world.vent)
        else:
            self.world.soon(lambda: self.perform(self.member.on_link_down("lane", self.now)), self)

    def attach(self, name: str, server: Any) -> Connection:
        connection = Connection(self.world, name, self, server)
        self.open[name] = connection
        server.inbound.append(connection)
        turn = self.member.turn

        def up() -> None:
            if self.alive and self.member.turn == turn and self.open.get(name) is connection:
                self.perform(self.member.on_link_up(name, self.now))

        self.world.at(self.world.reachable(self, server) + self.world.delay(), up, self)
        return connection

    def vanish(self, told: tuple[bool, bool] = (True, True)) -> None:
        """End at once; whoever was connected finds out."""
        self.alive = False
        for connection in self.connections():
            connection.cut(told)
        self.open.clear()

    def deadline(self) -> float | None:
        return self.member.deadline()

    def tick(self) -> None:
        self.perform(self.member.on_tick(self.now))
