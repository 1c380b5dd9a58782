"""Transport connections: in order each, cut for good at most once, their two ends told of it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import World

__all__ = ["HEARTBEAT", "Connection"]

HEARTBEAT = 10.0
"""Seconds until an end finds out by itself that it is alone."""


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
