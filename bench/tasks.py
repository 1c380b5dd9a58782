"""The functions that the benchmarks run, the same ones in every system. Imports nothing but the standard library."""

from __future__ import annotations

import os
import time

__all__ = ["nap", "noop", "stamp", "step", "when"]


def noop(item: int) -> int:
    """Return the item."""
    return item


def when(item: int) -> tuple[int, float]:
    """Return the item and the time, on the clock that all processes of a host share."""
    return item, time.monotonic()


def nap(seconds: float) -> tuple[float, float]:
    """Sleep; return when it began and ended, on the clock that all processes of a host share."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def stamp(item: int) -> tuple[int, int, int, float]:
    """Return the item, which attempt at it this is, who runs it and since when; takes a fifth of a millisecond."""
    from zpipe.context import current

    began = time.monotonic()
    while time.monotonic() - began < 0.0002:
        pass
    return item, current().attempt, os.getpid(), began


def step(item: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """Sleep as long as the item says of this stage; return it with how long that was. It has those before already."""
    wanted, slept = item
    began = time.monotonic()
    time.sleep(wanted[len(slept)])
    return wanted, [*slept, time.monotonic() - began]
