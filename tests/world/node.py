"""What sink and workers of a world have in common: a member's transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import wire
from zpipe.core.member import Close, Gone, Member, Open, Send

from .network import Connection

if TYPE_CHECKING:
    from .engine import World

__all__ = ["VERSIONS", "Node"]

VERSIONS = wire.Versions(wire.PROTOCOL, "0", "3.11", "3.1")


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
