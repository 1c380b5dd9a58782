"""Which tasks are coroutine functions. Decided without asyncio, which a worker of other tasks need not load.

A task that returns awaitables without being a coroutine function (it wraps one, say) shows by its first value. This
file does not run anything.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CONCURRENCY", "Awaiting", "is_async", "is_awaitable"]

CONCURRENCY = 100
"""Items of a coroutine function that one slot runs at a time unless it is told another number."""

_COROUTINE = 0x80 | 0x100
"""Code flags: `async def`, and a generator that types.coroutine has made one."""

_MARKS = ("_is_coroutine_mark", "_is_coroutine_marker", "_is_coroutine")
"""What inspect.markcoroutinefunction, or asyncio in older Pythons, leaves on a function that is to count as one."""


class Awaiting(BaseException):
    """A task taken for an ordinary function has returned awaitables: `values`, by position in the chunk."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__("the task returns awaitables")
        self.values = values


def is_awaitable(value: Any) -> bool:
    """Tell whether a value is to be awaited."""
    return hasattr(type(value), "__await__")


def is_async(task: Any) -> bool:
    """Tell whether a task is a coroutine function, a partial or a method of one, or an object that is called as one."""
    seen = 0
    while seen < 100:
        seen += 1
        if any(getattr(task, mark, None) is not None for mark in _MARKS):
            return True
        inner = getattr(task, "__func__", None)  # a method
        if inner is None and hasattr(task, "func") and hasattr(task, "keywords"):  # a partial
            inner = task.func
        if inner is None:
            break
        task = inner
    code = getattr(task, "__code__", None)
    if code is None and not isinstance(task, type):
        code = getattr(getattr(type(task), "__call__", None), "__code__", None)  # noqa: B004 - what it is, not whether
    return bool(getattr(code, "co_flags", 0) & _COROUTINE)
