"""How often each may come: a few times at once, and from then on at a steady pace, whoever else comes how often."""

from __future__ import annotations

__all__ = ["Turnstile"]


class Turnstile:
    """Lets each connection through `burst` times at once, and then once every `every` seconds.

    That is the generic cell rate algorithm (ITU-T I.371): of each it remembers one time, up to which it has used up its
    turns; of `remembered` connections at most, which costs those forgotten nothing.
    """

    def __init__(self, burst: int = 20, every: float = 1.0, remembered: int = 10_000) -> None:
        self._slack, self._every, self._remembered = (burst - 1) * every, every, remembered
        self._until: dict[bytes, float] = {}

    def on_comer(self, who: bytes, now: float) -> bool:
        """One comes; return whether it may pass."""
        until = max(now, self._until.pop(who, now))
        passes = until - now <= self._slack
        self._until[who] = until + self._every * passes
        if len(self._until) > self._remembered:
            del self._until[next(iter(self._until))]
        return passes
