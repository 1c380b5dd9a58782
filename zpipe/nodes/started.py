"""A supervisor's process, started as early as can be: it loads its modules while this one does, and then is told.

This file imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

__all__ = ["Started", "cores", "stdout"]


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
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zpipe.nodes.slots"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=shared,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for fd in shared:
                os.close(fd)

    def tell(self, config: bytes) -> None:
        """Have it set to work; the config is a line of JSON."""
        assert self.process.stdin is not None
        self._told = True
        self.process.stdin.write(config + b"\n")
        self.process.stdin.flush()

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
