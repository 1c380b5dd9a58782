"""What stages do in the tests of chains. Imported by the workers as `pipeline.steps`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path


def plus(n: int, item: int) -> int:
    """The item and `n`."""
    return item + n


def fails_on(n: int, item: int) -> int:
    """Give the item back, unless it can be divided by `n`."""
    if item % n == 0:
        raise ValueError(item)
    return item


def copies(n: int, item: int) -> list[int]:
    """As many outputs as the item's remainder by `n` says."""
    return [item * 10 + k for k in range(item % n)]


def yields(n: int, item: int) -> Iterator[int]:
    """The same, one by one; halfway it fails for some."""
    for k in range(item % n):
        if k == 2 and item % 7 == 0:
            raise KeyError(item)
        yield item * 10 + k


def divides(n: int, item: int) -> bool:
    """Whether `n` divides the item."""
    return item % n == 0


def remainder(n: int, item: int) -> int:
    """The item's remainder by `n`."""
    return item % n


def slow(seconds: float, item: int) -> int:
    """Take a while."""
    time.sleep(seconds)
    return item


def dies_once(folder: str, item: int) -> int:
    """The first worker that has an item that 50 divides is killed over it."""
    mark = Path(folder, str(item))
    if item % 50 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def waits_for(path: str, item: int) -> int:
    """Give the item back once there is a file."""
    until = time.monotonic() + 60.0
    while not Path(path).exists() and time.monotonic() < until:
        time.sleep(0.005)
    return item
