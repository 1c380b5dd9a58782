"""Coroutine functions that the tests' jobs are made of. Those that wait for others give up after two minutes."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import zpipe

PATIENCE = 120.0

running: list[Any] = []
"""The items that have been begun in this process."""


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.01)


async def meet(item: Any) -> Any:
    """Wait until 200 items run in this process at the same time."""
    running.append(item)
    await _until(lambda: len(running) >= 200)
    return item


def lazily(item: Any) -> Awaitable[Any]:
    """Give an awaitable back, without being a coroutine function."""
    return meet_five(item)


async def meet_five(item: Any) -> Any:
    """Wait until five items run in this process at the same time, or have."""
    running.append(item)
    await _until(lambda: len(running) >= 5)
    return item


class _Called:
    async def __call__(self, item: Any) -> Any:
        return await meet_five(item)


called = _Called()
bound = functools.partial(meet_five)


async def same(item: Any) -> Any:
    """Give the item back after a moment."""
    await asyncio.sleep(0.001)
    return item


async def pid(item: Any) -> int:
    """Tell which process this is."""
    await asyncio.sleep(0.001)
    return os.getpid()


async def flaky(item: int) -> int:
    """Fail at the first try of every third, and for good on 8; ask for another try on 4."""
    await asyncio.sleep(0.001)
    attempt = zpipe.current().attempt
    if item == 8:
        raise zpipe.Reject("not this one")
    if item == 4 and attempt < 3:
        raise zpipe.Retry(after=0.01)
    if item % 3 == 0 and attempt < 2:
        raise KeyError(item)
    return item


async def hang(item: int) -> int:
    """Wait for ever on 3, and again when that is cancelled."""
    try:
        await asyncio.sleep(600 if item == 3 else 0.001)
    except asyncio.CancelledError:
        await asyncio.sleep(600)
    return item


async def block(item: int) -> int:
    """Hold up the loop on 3."""
    await asyncio.sleep(0.001)
    if item == 3:
        time.sleep(600)
    return item


async def segfault(item: int) -> int:
    """End the process on 17."""
    await asyncio.sleep(0.001)
    if item == 17:
        signal.raise_signal(signal.SIGSEGV)  # in this thread, as a fault is: it does not run on
    return item


async def held(item: int) -> int:
    """Note that it runs, and wait for a file `gate`."""
    with Path("begun").open("a") as file:
        file.write(f"{item} {os.getpid()}\n")
    await _until(Path("gate").exists)
    return item


async def first_of(item: int) -> bool:
    """Tell whether it is 5, at once; all others take long."""
    await asyncio.sleep(0.0 if item == 5 else 600)
    return item == 5


def begun() -> list[tuple[int, int]]:
    """What `held` has noted, in the current folder."""
    return [(int(a), int(b)) for a, b in map(str.split, Path("begun").read_text().splitlines())]
