"""What is told of peers that break the rules: each peer's fault once, and few faults a minute, however many there are.

Whoever floods a port must not flood the log, nor the memory of who has been told of.
"""

from __future__ import annotations

__all__ = ["Complaints"]


class Complaints:
    """Says which faults a person is told of: `most` in `span` seconds at most, of `remembered` peers."""

    def __init__(self, most: int = 8, span: float = 60.0, remembered: int = 1000) -> None:
        self._most, self._span, self._remembered = most, span, remembered
        self._known: dict[tuple[str, str], None] = {}
        self._kinds: set[str] = set()
        self._often: dict[tuple[str, str], int] = {}
        self._since = 0.0
        self._told = 0
        self._hushed = 0
        self.count = 0
        """Faults there were."""

    def on_fault(self, who: str, kind: str, text: str, now: float, *, after: int = 1) -> str:
        """A peer did something of this kind, for the `after`-th time at least; return what is to be told, if anything.

        Of peers that are not known (`who` is empty) it is told only if nobody was told to have done it.
        """
        self.count += 1
        if (who, kind) in self._known or (not who and kind in self._kinds):
            return ""
        if after > 1:
            self._often[who, kind] = often = self._often.pop((who, kind), 0) + 1
            if often < after:
                if len(self._often) > self._remembered:
                    del self._often[next(iter(self._often))]
                return ""
        if not self._told or now >= self._since + self._span:
            self._since, self._told = now, 0
        if self._told >= self._most:
            self._hushed += 1
            return ""
        self._told += 1
        self._kinds.add(kind)
        self._known[who, kind] = None
        if len(self._known) > self._remembered:
            del self._known[next(iter(self._known))]
        hushed, self._hushed = self._hushed, 0
        return f"{text} ({hushed:,} more like this were not told of)" if hushed else text
