"""The page that a slot's process shares with its supervisor: which item it runs, since when, and what that may take.

The rule: whoever runs the item writes, whoever watches reads, and neither waits for the other, so that an item that
overruns is seen from outside whatever its code holds on to. A job without limits writes nothing, unless its items run
on an event loop: then what is noted is the step that one of them takes there, from one await to the next, which holds
up all others, and which is to blame if the process ends meanwhile.
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
_STEP_SINCE, _STEP_ITEM, _STEP_LIMIT = range(4, 7)
_FIELDS = 7


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
        page = self._page
        while True:
            since, item, limit, memory, *step = page[:_FIELDS].tolist()
            if since == page[_SINCE] and step[0] == page[_STEP_SINCE]:
                break
        if step[0] and not 0.0 < since < step[0]:  # of two that run, what began first
            since, item, limit = step
        return Reading(since, int(item), limit, memory)

    def reset(self) -> None:
        """Forget what a process that is no more had written."""
        for field in range(_FIELDS):
            self._page[field] = 0.0

    def watched(self, task: Callable[..., Any], limit: float, memory: int) -> Callable[..., Any]:
        """Return a task that says when it begins and ends; 0 is no limit. Raises TaskError if that can't be watched."""
        self._announce(limit, memory)
        page, clock, current = self._page, time.monotonic, context.current

        def run(*args: Any, **kwargs: Any) -> Any:
            page[_ITEM], page[_LIMIT], page[_MEMORY] = current().index - self.shift, limit, memory
            page[_SINCE] = clock()
            try:
                return task(*args, **kwargs)
            finally:
                page[_SINCE] = 0.0

        return run

    def stepping(self, limit: float, memory: int) -> Callable[[int], object]:
        """Return what is called with an item when a step of it begins, and with -1 when that ends.

        No step may take longer than `limit` seconds (0: any time). Raises TaskError if that can't be watched.
        """
        if limit or memory:
            self._announce(limit, memory)
        page, clock = self._page, time.monotonic
        if memory:
            page[_MEMORY] = memory

        def step(item: int) -> None:
            if item < 0:
                page[_STEP_SINCE] = 0.0
            else:
                page[_STEP_ITEM], page[_STEP_LIMIT] = item, limit
                page[_STEP_SINCE] = clock()

        return step

    def _announce(self, limit: float, memory: int) -> None:
        if memory and not can_measure():
            raise TaskError("--max-memory needs Linux, for /proc: leave it out, or keep this host's workers away")
        self.tell(limit, memory)


def can_measure() -> bool:
    """Whether this system tells how much memory processes use."""
    return os.path.exists("/proc/self/statm")  # noqa: PTH110 - pathlib is slow to load
