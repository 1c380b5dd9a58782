"""Coroutine functions for the tests of the embedding API. Those that wait for others give up after two minutes."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import zpipe

PATIENCE = 120.0

running: Counter[str] = Counter()
"""How many calls there were of each kind, in this process."""

state: dict[str, Any] = {}

variable = contextvars.ContextVar("variable", default=0)


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.01)


async def _meet(kind: str, item: Any) -> Any:
    running[kind] += 1
    await _until(lambda: running[kind] >= 150)
    return item


async def meet(item: Any) -> Any:
    """Wait until 150 calls run in this process."""
    return await _meet("meet", item)


async def meet_again(item: Any) -> Any:
    """The same for others."""
    return await _meet("meet again", item)


async def meet_at_last(item: Any) -> Any:
    """And others."""
    return await _meet("meet at last", item)


async def until_told(item: Any) -> Any:
    """Wait until `tell` was called in this process."""
    await _until(lambda: running["told"] > 0)
    return item


def tell() -> str:
    """An ordinary function, for which others wait."""
    running["told"] += 1
    return "told"


async def count(_: Any) -> int:
    """Tell how many of these run now."""
    running["count"] += 1
    try:
        await asyncio.sleep(0.01)
        return running["count"]
    finally:
        running["count"] -= 1


async def begin(value: int) -> None:
    """Set up."""
    state["loop"] = asyncio.get_running_loop()
    variable.set(value)


async def has_begun(_: Any) -> tuple[bool, int, int]:
    """Tell what `begin` has left, and this call's index."""
    return asyncio.get_running_loop() is state["loop"], variable.get(), zpipe.current().index


async def sets_context(item: int) -> int:
    """Set a context variable after a moment; tell what it was."""
    await asyncio.sleep(0.001)
    before = variable.get()
    variable.set(item + 1)
    return before


async def raises(item: int) -> int:
    """Raise something, by the item."""
    await asyncio.sleep(0)
    if item == 5:
        await asyncio.sleep(600)
    errors: list[BaseException] = [
        KeyError(item),
        SystemExit(3),
        asyncio.CancelledError(),
        StopIteration(),
        zpipe.Reject("no"),
    ]
    if item < len(errors):
        raise errors[item]
    return item


async def answers_on_three(item: int) -> int:
    """3 has an answer at once."""
    await asyncio.sleep(0.0 if item == 3 else 0.1)
    return item


async def after_a_moment(item: int) -> int:
    """Give the item back."""
    await asyncio.sleep(0.005)
    return item
