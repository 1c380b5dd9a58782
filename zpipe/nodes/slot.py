"""The process of one slot, from its fork on: a worker, and what it tells its supervisor."""

from __future__ import annotations

import os
import signal

import msgspec

from zpipe.net.keys import Keys
from zpipe.nodes.past import Past
from zpipe.nodes.worker import Worker
from zpipe.running.allowed import Allowed
from zpipe.running.stopwatch import Stopwatch

__all__ = ["LEFT", "LIMITS", "READY", "REFUSED", "SPENT", "TERMINATED", "Config", "be_worker"]

LEFT, REFUSED, TERMINATED, SPENT = 100, 101, 102, 103
"""How a slot's process says that it left in order, that a fresh one would fare no better, that it was told to leave, or
that a fresh one is to take its place. All else is a crash."""

READY = b"\0ready "
"""What a worker tells its supervisor once it has loaded a task: from then on its death is not a false start."""

LIMITS = b"\0limits "
"""And what it tells before it runs a task with limits: its slot, seconds, bytes."""

AFTER = 10.0
"""Seconds for which a process that takes the place of one recycled or killed looks for its ventilator."""


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


def be_worker(config: Config, number: int, past: Past, stopwatch: Stopwatch, voice: int, *, follows: bool) -> int:
    """Be the worker of a slot; return the exit status that tells the supervisor how it went.

    `voice` is a pipe to the supervisor. `follows`: it takes the place of a process that ended over what it ran.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2 if config.stdout < 0 else config.stdout, 1)  # what tasks print must not mix with results

    def ready() -> None:
        os.write(voice, READY + b"%d\n" % number)

    def say(text: str) -> None:
        for line in text.splitlines():
            os.write(voice, line.encode(errors="replace")[:4000] + b"\n")

    def limits(seconds: float, memory: int) -> None:
        os.write(voice, LIMITS + b"%d %.9g %d\n" % (number, seconds, memory))

    stopwatch.tell = limits
    worker = Worker(
        config.url,
        slot=number,
        say=say,
        ready=ready,
        past=past,
        heartbeat=config.heartbeat,
        patience=config.patience,
        stay=config.stay,
        keys=config.keys,
        stopwatch=stopwatch,
        first_patience=AFTER if follows and not config.stay else None,
        allowed=config.allowed,
        concurrency=config.concurrency,
        labels=config.labels,
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    gone = worker.run()
    if gone.error and follows and not worker.reached:
        worker.close()
        return LEFT  # the job came to its end meanwhile
    if gone.error and not config.terse:
        say(gone.error)
    worker.close()
    if gone.error:
        return REFUSED
    if worker.spent and worker.terminated:
        return SPENT
    return TERMINATED if worker.terminated else LEFT
