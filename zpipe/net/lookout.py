"""Waiting for what comes at once, if it did the last time, without the sleep that it takes a core so long to end.

A core that sleeps takes up to a fifth of a round trip to be up again. So whoever had soon what was waited for keeps
looking for a while the next time, and makes room for all others each time it has looked.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Lookout"]

BRISK = 0.0005
"""Seconds for which one keeps looking before one sleeps, if the last wait was no longer than that."""

CROWDED, RESPITE = 0.00005, 0.05
"""Seconds that others take of the room made for them, from which on nobody looks like that for a while: who makes room
waits for its next turn, and who sleeps is woken ahead of others.
"""

T = TypeVar("T")

_make_room: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))


class Lookout:
    """Whoever waits, time and again, for one kind of thing."""

    def __init__(self) -> None:
        self._brisk = 0.0
        """From when on to keep looking."""

    def wait(self, look: Callable[[Any], T], most: Any) -> T:
        """Return what `look(most)` does, which waits as long as that says; `look(0)` waits for nothing."""
        now = time.monotonic
        looked = began = now()
        found = look(0)
        while not found and self._brisk <= looked < began + BRISK:
            _make_room()
            came, looked = looked, now()
            found = look(0)
            if looked - came > CROWDED:
                self._brisk = looked + RESPITE
        found = found or look(most)
        if now() >= began + BRISK:
            self._brisk = math.inf
        elif self._brisk == math.inf:
            self._brisk = 0.0
        return found
