"""The task that chaos is made of: quick and slow items, each telling that it was run."""

from __future__ import annotations

import os
import time

TICKS = "ticks"
"""A file that grows by a byte with each run of an item: the clock of the mishaps."""


def worth(item: int) -> int:
    """What becomes of an item."""
    return item * item % 9_973


def work(item: int) -> int:
    """Take between nothing and half a second."""
    if item % 400 == 399:
        time.sleep(0.5)
    elif item % 3:
        time.sleep(item % 16 / 1000)
    ticks = os.open(TICKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(ticks, b".")
    os.close(ticks)
    return worth(item)
