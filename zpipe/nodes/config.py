"""What a process that starts workers tells their supervisor. Must not know how they work: it does without that."""

from __future__ import annotations

import msgspec

from zpipe.net.keys import Keys
from zpipe.running.allowed import Allowed

__all__ = ["Config"]


class Config(msgspec.Struct, frozen=True):
    """What a supervisor has to know. `patience`: seconds to look for a ventilator (None: for ever).

    `terse`: say of a worker that ended only what its ventilator, in the same terminal, does not say anyway.
    """

    url: str
    slots: int
    heartbeat: float = 10.0
    patience: float | None = None
    stay: bool = False
    terse: bool = False
    stdout: int = -1
    """An open file for what tasks print; without one it goes where errors go."""
    orders: int = -1
    """A pipe that brings lines: how many slots there are to be from now on."""
    path: list[str] = []
    """The embedding process's module search path."""
    authkey: bytes = b""
    """Its multiprocessing authentication key, by which tasks reach its managers."""
    steady: bool = False
    """Whether an interrupt from the terminal is for the embedding process alone, which may go on after it."""
    keys: Keys | None = None
    """What the ventilator is to be shown."""
    allowed: Allowed | None = None
    """What workers may run, if not everything."""
    concurrency: int = 0
    """Items of a coroutine function that each runs at a time (0: what the job says)."""
    labels: list[str] = []
    """What tells them from others."""
