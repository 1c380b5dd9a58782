"""The page that a slot's process shares with its supervisor: which item it runs, since when, and what that may take.

The rule: whoever runs the item writes, whoever watches reads, and neither waits for the other, so that an item that
overruns is seen from outside whatever its code holds on to. A job without limits writes nothing.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from zpipe import context
from zpipe.errors import TaskError

__all__ = ["Reading", "Stopwatch", "can_measure"]

_SINCE, _ITEM, _LIMIT, _MEMORY = range(4)


class Reading(msgspec.Struct, frozen=True):
    """What the page says: the running `item`, `since` when it runs (0: none does), its time limit, and the memory's.

    Times are seconds of the monotonic clock, which is the same for all processes of a machine; memory is bytes.
    """

    since: float
    item: int
    limit: float
    memory: float


class Stopwatch:
    """The page, made by the supervisor before it forks. In the child `tell(seconds, bytes)` is to announce limits."""

    def __init__(self) -> None:
        self._page = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
        self.shift = 0
        """By how much the numbers that items are told of by are above those they have in the job."""
        self.tell: Callable[[float, int], object] = lambda _seconds, _bytes: None

    def read(self) -> Reading:
        """Return what the page says now, of one moment."""
        while True:
            since, item, limit, memory = self._page[:4].tolist()
            if since == self._page[_SINCE]:
                return Reading(since, int(item), limit, memory)

    def reset(self) -> None:
        """Forget what a process that is no more had written."""
        for field in range(4):
            self._page[field] = 0.0

    def watched(self, task: Callable[..., Any], limit: float, memory: int) -> Callable[..., Any]:
        """Return a task that says when it begins and ends; 0 is no limit. Raises TaskError if that can't be watched."""
        if memory and not can_measure():
            raise TaskError("--max-memory needs Linux, for /proc: leave it out, or keep this host's workers away")
        self.tell(limit, memory)
        page, clock, current = self._page, time.monotonic, context.current

        def run(*args: Any, **kwargs: Any) -> Any:
            page[_ITEM], page[_LIMIT], page[_MEMORY] = current().index - self.shift, limit, memory
            page[_SINCE] = clock()
            try:
                return task(*args, **kwargs)
            finally:
                page[_SINCE] = 0.0

        return run


def can_measure() -> bool:
    """Whether this system tells how much memory processes use."""
    return os.path.exists("/proc/self/statm")  # noqa: PTH110 - pathlib is slow to load
