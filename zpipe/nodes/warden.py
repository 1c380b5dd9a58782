"""Whether a slot's process is to be killed over what it runs, and what is known of it afterwards. Kills nothing itself.

Time is an item's: from its start to its end. Memory is what the process and all that it has started have in RAM (the
resident set, of which pages shared between them count for each). It is looked at ten times a second, so that one that
grows fast is somewhat over its limit before it is killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import inf

from zpipe.core.wire import Fate
from zpipe.running.stopwatch import Reading, Stopwatch

__all__ = ["Warden", "resident"]

LOOK = 0.1
"""Seconds between two looks at a process's memory."""

LEAST = 0.002
"""Seconds between two looks at anything."""


class Warden:
    """Watches one slot. `measure(pid)` returns the bytes that a process and what it has started hold."""

    def __init__(self, measure: Callable[[int], int] | None = None) -> None:
        self.stopwatch = Stopwatch()
        self.due: float | None = None
        """When `look` is next worth calling; None while there are no limits."""
        self._measure = measure or resident
        self._limit = inf
        self._measured = False
        self._overran: Reading | None = None
        self._ran = 0.0
        self._held = 0
        self._killed = False

    def begin(self) -> None:
        """A new process begins."""
        self.stopwatch.reset()
        self.due, self._limit, self._measured = None, inf, False
        self._overran, self._ran, self._held, self._killed = None, 0.0, 0, False

    def on_limits(self, seconds: float, memory: int, now: float) -> None:
        """The process will run a task with these limits, besides those it had before; 0 is none."""
        if seconds:
            self._limit = min(self._limit, seconds)
        self._measured = self._measured or bool(memory)
        if not self._killed:
            self.due = now

    def look(self, pid: int, now: float) -> bool:
        """Whether the process is to be killed; sets when to look again."""
        page = self.stopwatch.read()
        late = page.since + page.limit if page.since and page.limit else inf
        held = self._measure(pid) if self._measured and page.memory else 0
        if late <= now:
            self._overran, self._ran = page, now - page.since
        elif held > page.memory:
            self._held = held
        self._killed = late <= now or bool(self._held)
        # Whatever begins from now on can't be late before the least of the limits has passed.
        next_one = min(late, now + self._limit, now + LOOK if self._measured else inf)
        self.due = None if self._killed else max(next_one, now + LEAST)
        return self._killed

    def explain(self, how: str, crashed: bool) -> tuple[str, bool, int | None, bool]:
        """Return how the process ended, given what its wait status tells: in words, by its own fault or not, the item
        it ran if that is known and matters, and whether that ran too long.
        """
        page = self.stopwatch.read()
        item = page.item if page.since else None
        if self._held:
            size, limit = _size(self._held), _size(int(page.memory))
            return f"it used {size} of memory, and its limit is {limit}", True, item, False
        if self._overran is None:
            return how, crashed, item if crashed else None, False
        if page.since != self._overran.since:
            return "killed as the item that it had run too long came to its end", False, None, False
        return f"it ran for {self._ran:.3g} s, and its limit is {page.limit:g} s", False, item, True

    def fate(self, code: int, now: float) -> Fate:
        """Return what else is known of a process that has ended with this code, monotonic time `now`."""
        page = self.stopwatch.read()
        if self._overran is not None and page.since != self._overran.since:
            return Fate()  # the item that it was killed over had just come to its end: nobody else is to blame
        took = now - page.since if page.since else 0.0
        return Fate("", time.time() - took if took else 0.0, took, code)

    @property
    def killed(self) -> bool:
        """Whether `look` has had the process killed."""
        return self._killed


def resident(pid: int) -> int:
    """Return the bytes that a process and all it has started have in RAM, as Linux tells; 0 for one that is no more."""
    pages, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                pages += int(file.read().split()[1])
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a name each, ten times a second
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    waiting += map(int, file.read().split())
        except OSError:  # it has ended, or the kernel does not tell of children
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def _size(size: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GB"
