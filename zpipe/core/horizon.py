"""What a sink elsewhere knows of how far has been issued. Must not know what becomes of a result.

Its ventilator tells it ahead of the chunks, but on another connection, so that a result may come before that word, and
a result of what was never issued looks the same. Neither is dropped, nor counts: it is held, the ventilator is asked,
and the answer, which is younger than the result, says which of the two it is. What is told without having been asked
for may be older, and only lets through. What is held has a bound, and nothing more is to be taken while it is at that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zpipe.core.wire import Buffer, Result

__all__ = ["Early", "Horizon"]

MOST = 64 << 20
"""Bytes that are held at most, but for one result."""

APIECE = 1024
"""Bytes that a result is taken to have besides its payload."""


class Early(msgspec.Struct, frozen=True):
    """A result of `size` bytes that came ahead of the word that it could be one; `doubt` is the question about it."""

    result: Result
    payload: Sequence[Buffer]
    size: int
    doubt: int


class Horizon:
    """Holds results of items that nobody has told were issued. `known` is up to where that was told."""

    def __init__(self, most: int = MOST) -> None:
        self.known = 0
        self._most = most
        self._held: list[Early] = []
        self._bytes = 0
        self._asked = self._answered = 0
        self._due = False

    def hold(self, result: Result, payload: Sequence[Buffer], size: int) -> None:
        """Keep a result that goes beyond what is known, and have the ventilator asked."""
        # One question at a time: those that come meanwhile are the next one's.
        self._held.append(Early(result, payload, size, self._asked + 1))
        self._bytes += size + APIECE
        if self._asked == self._answered:
            self._due = True

    @property
    def full(self) -> bool:
        """Whether so much is held that nothing more is to be taken for now."""
        return self._bytes > self._most

    def take_doubt(self, *, again: bool = False) -> int:
        """Return the number of the question to be asked now, 0 if there is none; `again`: the last one may be lost."""
        if self._due:
            self._due = False
            self._asked += 1
            return self._asked
        return self._asked if again and self._asked > self._answered else 0

    def on_issued(self, items: int, doubt: int) -> tuple[list[Early], int]:
        """So many were issued when question `doubt` was answered (0: nothing was asked).

        Return the results that may count now, and the number of those that never could.
        """
        self.known = max(self.known, items)
        if self._answered < doubt <= self._asked:
            self._answered = doubt
        early, self._held, strays = self._held, [], 0
        ready = []
        for held in early:
            if held.result.stop <= self.known:
                ready.append(held)
            elif held.doubt <= self._answered:
                strays += 1
            else:
                self._held.append(held)
                continue
            self._bytes -= held.size + APIECE
        if self._held and self._asked == self._answered:
            self._due = True
        return ready, strays

    def clear(self) -> None:
        """It is another job, of which nothing is known."""
        self.known, self._held, self._bytes, self._due = 0, [], 0, False
        self._answered = self._asked

    def check(self) -> None:
        """Assert that what is held is beyond what is known, and is or will be asked about."""
        assert self._bytes == sum(held.size + APIECE for held in self._held)
        for held in self._held:
            assert held.result.stop > self.known
            assert self._answered < held.doubt <= self._asked + 1
            assert self._due or self._asked > self._answered
