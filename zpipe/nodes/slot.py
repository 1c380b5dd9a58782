"""The process of one slot, from its fork on: a worker, and what it tells its supervisor."""

from __future__ import annotations

import os
import signal

from zpipe.nodes.config import Config
from zpipe.nodes.past import Past
from zpipe.nodes.worker import Worker
from zpipe.running.stopwatch import Stopwatch

__all__ = ["LEFT", "LIMITS", "READY", "REFUSED", "SPENT", "TERMINATED", "be_worker"]

LEFT, REFUSED, TERMINATED, SPENT = 100, 101, 102, 103
"""How a slot's process says that it left in order, that a fresh one would fare no better, that it was told to leave, or
that a fresh one is to take its place. All else is a crash."""

READY = b"\0ready "
"""What a worker tells its supervisor once it has loaded a task: from then on its death is not a false start."""

LIMITS = b"\0limits "
"""And what it tells before it runs a task with limits: its slot, seconds, bytes."""

AFTER = 10.0
"""Seconds for which a process that takes the place of one recycled or killed looks for its ventilator."""


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
