"""Whose turn it is among the items of a key: one at a time, in their order. Must not know of time, rates or priorities.

An item's turn comes when none of its key is under way, nor one ahead of it about to be again.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any

from zpipe.core.chunk import Chunk

__all__ = ["Turns"]

REMEMBERED = 10_000
"""Keys of which is remembered who had them last."""


class Turns:
    """The lines of parked chunks behind the keys they claim. `is_parked` tells whether one still is."""

    def __init__(self, is_parked: Callable[[Chunk], bool]) -> None:
        self._is_parked = is_parked
        self._lines: dict[Any, list[tuple[int, int, Chunk]]] = {}
        self._busy: dict[Any, float] = {}
        self._homes: dict[Any, int] = {}

    @property
    def any(self) -> bool:
        """Whether there is any key with something in line, or under way."""
        return bool(self._lines or self._busy)

    def put(self, key: Any, chunk: Chunk, serial: int) -> None:
        """Have a chunk wait in its key's line. No two have the same `serial`."""
        heappush(self._lines.setdefault(key, []), (chunk.start, serial, chunk))

    def next(self, key: Any) -> Chunk | None:
        """Return the chunk whose turn it is, if it is any's."""
        first = self._first(key)
        return first if first is not None and first.start < self._busy.get(key, inf) else None

    def _first(self, key: Any) -> Chunk | None:
        line = self._lines.get(key)
        while line and (not self._is_parked(line[0][2]) or (line[0][2].doom and not line[0][2].late)):
            heappop(line)
        if line:
            return line[0][2]
        self._lines.pop(key, None)
        return None

    def take(self, key: Any, lane: int = 0) -> None:
        """A chunk of this key goes down a lane, which is its home from now on, unless it is only told of there (0)."""
        self._busy[key] = -inf
        if lane:
            self._homes.pop(key, None)
            self._homes[key] = lane
            if len(self._homes) > REMEMBERED:
                del self._homes[next(iter(self._homes))]

    def home(self, key: Any) -> int:
        """Return the lane that had this key last, 0 if that is not known."""
        return self._homes.get(key, 0)

    def on_flight(self, busy: dict[Any, float]) -> list[Any]:
        """Of these keys something is under way, or is about to be again from that index on. Return those set free."""
        before, self._busy = self._busy, busy
        return [key for key, bound in before.items() if bound < busy.get(key, inf)]

    def check(self, chunk: Chunk, key: Any, called: set[Any]) -> None:
        """Assert that a parked chunk is in its line, and that somebody has been `called` from there, or will be."""
        assert any(entry[2] is chunk for entry in self._lines.get(key, [])), (
            f"[{chunk.start}, {chunk.stop}) is not in its line"
        )
        assert key in self._busy or key in called, f"nobody calls for {key!r}"
