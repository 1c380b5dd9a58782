"""The worker's decisions: what it holds, what it runs, what it hands back. Knows nothing of tasks or sockets.

A worker counts the chunks it has taken from its lane. That one number tells the ventilator exactly which of the
chunks sent down were never started, since a lane keeps its order.
"""

from __future__ import annotations

from typing import Any

from zpipe.core import wire
from zpipe.core.member import Action, Close, Member, Open, State

__all__ = ["Intake"]


class Intake:
    """One worker. Its `member` carries the connection events; this counts chunks and leaves in order."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.taken = 0

    def on_chunk(self) -> bool:
        """A chunk came up the lane; return whether to run it. One that is not run is another worker's."""
        if self.member.state is not State.READY:
            return False
        self.taken += 1
        return True

    def on_message(self, message: Any, now: float) -> list[Action]:
        """The ventilator said something on the control connection."""
        return self.after(self.member.on_message(message, now))

    def after(self, actions: list[Action]) -> list[Action]:
        """Note what the member's actions mean for the count: a new lane starts from nothing."""
        if any(isinstance(action, Open | Close) for action in actions):
            self.taken = 0
        return actions

    def on_terminate(self, now: float) -> list[Action]:
        """Asked to go (SIGTERM): hand back what was not started, and wait for the receipts of the rest."""
        welcome = self.member.welcome
        leave = wire.Leave(welcome.lane, self.taken) if welcome is not None else None
        return self.after(self.member.on_leave(leave, now))

    def on_unfit(self, reason: str, now: float) -> list[Action]:
        """The task can't be loaded here: say so; the ventilator answers with a refusal."""
        welcome = self.member.welcome
        if welcome is None:
            return []
        return self.after(self.member.on_leave(wire.Unfit(welcome.lane, reason), now))

    def check(self) -> None:
        """Assert that the count belongs to a lane."""
        self.member.check()
        assert self.taken == 0 or self.member.welcome is not None or self.member.state is State.GONE
