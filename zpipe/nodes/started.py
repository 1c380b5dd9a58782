"""A supervisor's process, started as early as can be: it loads its modules while this one does, and then is told.

A process of its own, that has nothing of this one's but zpipe itself: a script may have threads, open files and locks.
A command line has none yet, and forks its supervisor off (`zpipe.nodes.forked`). This file imports nothing that takes
time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import IO, Protocol

import zpipe

__all__ = ["Process", "Started", "cores", "stdout"]

BEGIN = """\
import gc, sys
gc.disable()
if sys.path[:1] == [""]: del sys.path[0]
import importlib, typing
sys.path.insert(0, sys.argv.pop())
import zpipe
sys.path.append(sys.path.pop(0))
from zpipe import light
light.load()
from zpipe.nodes.slots import main
main("cloudpickle")
"""
"""What it runs, with the folder of this zpipe as an argument.

What lies in the current folder, which may well be called zpipe or as something that zpipe loads, is left aside until
that has loaded: from then on there are only tasks to come. A script's own functions take cloudpickle.
"""


class Process(Protocol):
    """As much of subprocess.Popen as is used here."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""

    def wait(self) -> int:
        """Return its exit status, once it has ended."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stdout() -> int:
    """Return the open file for what tasks print, -1 for none."""
    try:
        os.fstat(1)
    except OSError:
        return -1
    return 1


class Started:
    """A process that awaits a supervisor's config, with an open file for what tasks print, unless that is -1.

    `process` is the process, `orders` the end of its pipe that is ours; `fds` are that pipe and the file as it has
    them, for the config.
    """

    def __init__(self, stdout: int) -> None:
        self._told = False
        there, self.orders = os.pipe()
        out = os.dup(stdout) if stdout >= 0 else -1  # ours is not the supervisor's, which speaks to us
        self.fds = there, out
        shared = [fd for fd in self.fds if fd >= 0]
        # An interrupt while its interpreter starts would have it print where it was.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = self._begin(shared)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for fd in shared:
                os.close(fd)

    def _begin(self, shared: list[int]) -> Process:
        import subprocess

        folder = os.path.dirname(os.path.dirname(os.path.abspath(zpipe.__file__)))  # noqa: PTH100, PTH120 - slow to load
        return subprocess.Popen(
            [sys.executable, "-c", BEGIN, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=shared,
        )

    def tell(self, config: bytes) -> None:
        """Have it set to work; the config is a line of JSON. If it is no more, that is for who hears it to notice."""
        assert self.process.stdin is not None
        self._told = True
        left = config + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while left:
                left = left[os.write(self.process.stdin.fileno(), left) :]

    def ended(self, seconds: float) -> bool:
        """Wait so long at most for its end; return whether it came."""
        if self.process.poll() is not None:
            return True
        try:
            fd = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):  # there is no such thing here
            return self._look(seconds)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(1000 * seconds)
        finally:
            os.close(fd)
        return self.process.poll() is not None

    def _look(self, seconds: float) -> bool:
        until, pause = time.monotonic() + seconds, 0.001
        while self.process.poll() is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(0.05, 2 * pause)
        return self.process.poll() is not None

    def let_go(self) -> None:
        """Close the lifeline, once nobody else holds it: whatever is still there is killed by the kernel."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.orders >= 0:
            os.close(self.orders)
            self.orders = -1

    def abandon(self) -> None:
        """End it, unless it has been told: then whoever did is to see to its end."""
        if self._told:
            return
        with contextlib.suppress(OSError):
            self.let_go()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
