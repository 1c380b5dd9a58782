"""Transport connections: each delivers in order, is cut for good at most once, and its two ends are told of it apart.

A direction may fall silent on its own. What was under way when a connection is cut is lost, but perhaps not all of it:
some may have reached the other end's buffers already, and is read there after the news of the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zpipe.core import coding

if TYPE_CHECKING:
    from .engine import World

__all__ = ["HEARTBEAT", "Connection"]

HEARTBEAT = 10.0
"""Seconds until an end finds out by itself that it hears nothing."""


class Connection:
    """One transport connection from `client` to `server`, of a `kind`: control, lane or results."""

    __slots__ = ("_last", "_sent", "_through", "alive", "ends", "kind", "mute", "name", "world")

    def __init__(self, world: World, kind: str, client: Any, server: Any) -> None:
        self.world = world
        self.kind = kind
        self.ends = (client, server)
        self.alive = True
        self.name = 0
        self.mute = [False, False]
        """By side (0: client): whether what it sends is lost, unbeknown to it."""
        self._last = [world.now, world.now]
        self._sent = [0, 0]
        self._through = [1 << 60, 1 << 60]

    def __str__(self) -> str:
        return f"{self.kind} of {self.ends[0].label}"

    def send(self, side: int, frames: list[Any]) -> None:
        """Send from `side` to the other."""
        if not self.alive or self.mute[side]:
            return
        world = self.world
        at = world.now + world.delay()
        last = self._last
        if at < last[side]:
            at = last[side]
        else:
            last[side] = at
        self._sent[side] = number = self._sent[side] + 1
        receiver = self.ends[1 - side]
        if world.verbose:
            world.tell(f"{self.ends[side].label} to {receiver.label}, there at {at:.3f}: {coding.decode(frames)[0]}")

        def deliver() -> None:
            if number <= self._through[side]:
                receiver.receive(self, frames)

        world.at(at, deliver, receiver)

    def stall(self, until: float) -> None:
        """Nothing sent from now on arrives before `until`."""
        self._last = [max(last, until) for last in self._last]

    def silence(self, side: int) -> None:
        """Lose all that `side` sends from now on: the other end's heartbeat finds out, and cuts the connection."""
        if self.alive and not self.mute[side]:
            self.mute[side] = True
            self.world.at(self.world.now + HEARTBEAT + self.world.delay(), self.cut, None)

    def cut(self, told: tuple[bool, bool] = (True, True)) -> None:
        """Cut it. An end not told at once finds out by its heartbeat."""
        if not self.alive:
            return
        self.alive = False
        world = self.world
        for side in (0, 1):
            end = self.ends[side]
            wait = world.delay() if told[side] else HEARTBEAT + world.delay()
            world.at(world.now + wait, lambda end=end: end.broken(self), end)
            if world.chance(0.5):
                self._through[side] = world.random.randint(0, self._sent[side])
            elif world.chance(0.8):
                self._through[side] = 0
