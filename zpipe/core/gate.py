"""Who may join a job at all, and what is told of those who may not. Must not know what nodes do once they are in."""

from __future__ import annotations

from zpipe.core import wire
from zpipe.core.actions import Action, Reply, Tell
from zpipe.core.complaints import Complaints
from zpipe.core.policy import Policy
from zpipe.core.roster import AnyJoin, Roster, differs, name_of
from zpipe.core.turnstile import Turnstile

__all__ = ["Gate"]

SHUNNED = 10_000
"""Connections that broke the rules of which is remembered that they did."""


class Gate:
    """Lets those in of whom `policy` has nothing to say."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._complaints = Complaints()
        self._rejects = Complaints(most=16)
        self._turnstile = Turnstile()
        self._shunned: dict[bytes, None] = {}

    def hears(self, identity: bytes) -> bool:
        """Whether what this connection says is worth reading."""
        return identity not in self._shunned

    def on_comer(self, identity: bytes, join: AnyJoin, roster: Roster, now: float) -> list[Action] | None:
        """A process asks to join; return what comes of it if it may not, None if it may."""
        reason = differs(self._policy.versions, join.versions, mixed=self._policy.mixed)
        if reason:
            return self.refuse(identity, join, reason, now)
        if roster.has_other(identity, join.session):
            return self.on_malformed(identity, "two processes joined by one connection", now)
        if not self._turnstile.on_comer(identity, now):
            return [Reply(identity, wire.Hold("it has joined too often in a short time"))]
        return None

    def refuse(self, identity: bytes, join: AnyJoin, reason: str, now: float) -> list[Action]:
        """Turn a process away for good, and tell of it."""
        told = self.tell_of(join, "refused", f"refused {name_of(join)}: {reason}", now)
        return [Reply(identity, wire.Refuse(reason)), *told]

    def tell_of(self, join: AnyJoin, kind: str, text: str, now: float) -> list[Action]:
        """Tell that a node can't take part, unless that was told of it, or of too many others just now."""
        told = self._rejects.on_fault(name_of(join), kind, text, now)
        return [Tell(told, error=True)] if told else []

    def on_malformed(self, identity: bytes, error: str, now: float) -> list[Action]:
        """A control connection sent what the protocol does not allow: nothing it says is heard any more."""
        if identity in self._shunned:
            return []
        self._shunned[identity] = None
        if len(self._shunned) > SHUNNED:
            del self._shunned[next(iter(self._shunned))]
        ours = self._policy.versions
        reason = f"this ventilator speaks zpipe {ours.zpipe}, protocol {ours.protocol}, and could not read: {error}"
        told = f"dropped a malformed message on the control port: {error}"
        told = self._complaints.on_fault(identity.hex(), "malformed", told, now)
        return [Reply(identity, wire.Refuse(reason)), *([Tell(told)] if told else [])]
