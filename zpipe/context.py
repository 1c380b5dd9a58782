"""What a task may ask about the item it is working on.

The rule: it costs nothing per item. The runner says once per chunk where it starts and which list its outcomes go
to; the running item's index is worked out only when it is asked for. Items of which many run at a time, on an event
loop, each have a context variable. This file does not know what runs the task.
"""

from __future__ import annotations

from collections.abc import Sized
from contextvars import ContextVar

import msgspec

__all__ = ["Context", "current", "enter", "item", "leave", "running"]


class Context(msgspec.Struct, frozen=True, gc=False):
    """The running item: its `index` in the job (from 0) and `attempt` (from 1), the worker's name, the job's id."""

    index: int
    attempt: int
    worker: str
    job: str


_Chunk = tuple[int, Sized, int, str, str]
"""The running chunk's start, the outcomes known of it, its attempt, the worker and the job."""

_running: _Chunk | None = None

item: ContextVar[tuple[int, int, str, str] | None] = ContextVar("zpipe item", default=None)
"""What `current` tells in the context of an item of its own: index, attempt, worker and job."""


def current() -> Context:
    """Return what is known of the item that the calling task is working on.

    Raises RuntimeError outside a task.
    """
    own = item.get()
    if own is not None:
        return Context(*own)
    if _running is None:
        raise RuntimeError("zpipe.current() tells of the running item: call it inside a task, while an item runs")
    start, outcomes, attempt, worker, job = _running
    return Context(start + len(outcomes), attempt, worker, job)


def enter(chunk: _Chunk) -> _Chunk | None:
    """Let `current` answer for this chunk until `leave`, which takes what is returned; `running` in fewer steps."""
    global _running
    before, _running = _running, chunk
    return before


def leave(before: _Chunk | None) -> None:
    """End what `enter` began."""
    global _running  # noqa: PLW0603 - one chunk runs at a time, and tasks are called with their item alone
    _running = before


class running:  # noqa: N801 - used as a function; a generator's context manager costs a microsecond more
    """Let `current` answer for a chunk that begins at `start` and whose outcomes gather in `outcomes`, one an item."""

    __slots__ = ("_before", "_chunk")

    def __init__(self, start: int, outcomes: Sized, attempt: int, worker: str, job: str) -> None:
        self._chunk = (start, outcomes, attempt, worker, job)
        self._before: _Chunk | None = None

    def __enter__(self) -> None:
        global _running
        self._before, _running = _running, self._chunk

    def __exit__(self, *_: object) -> None:
        global _running  # noqa: PLW0603 - one chunk runs at a time, and tasks are called with their item alone
        _running = self._before
