"""A pipe that ties a process to another: when that vanishes, even by SIGKILL, this one is killed."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import sys

__all__ = ["tie"]

F_SETSIG = 10
"""Linux: which signal a descriptor's changes raise; `fcntl` does not name it everywhere."""


def tie(fd: int, *, group: bool) -> None:
    """Have this process (or its whole `group`) killed when the last writer of the pipe `fd` is gone."""
    if hasattr(os, "O_ASYNC") and hasattr(fcntl, "F_SETOWN") and sys.platform == "linux":
        fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid() if group else os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        with selectors.DefaultSelector() as poll:
            poll.register(fd, selectors.EVENT_READ)
            if poll.select(0):  # the writer went before this was armed: no change is left to come
                _kill_self(group)
        return
    import threading

    def watch() -> None:
        while os.read(fd, 1):
            pass
        _kill_self(group)

    threading.Thread(target=watch, daemon=True, name="zpipe-lifeline").start()


def _kill_self(group: bool) -> None:
    if group:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
