"""Processes that a system leaves behind are ours: counted as our work, and ended before the next one's turn (Linux).

A daemon's parent ends at once, so it would be nobody's child: its work would count as others' noise. As their
subreaper (`prctl(2)`) this process becomes the parent of all such.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection

import harness

__all__ = ["adopt", "end"]

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of all orphans below this process from now on."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(spare: Collection[int] = (), patience: float = 2.0) -> None:
    """End and reap what is below this process, but for `spare`; the first half of its time it may end by itself."""
    began = time.monotonic()
    while children := [child for child in harness.descendants(os.getpid()) if child not in spare]:
        late = time.monotonic() - began > patience / 2
        for child in children if late else ():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        _reap()
        if time.monotonic() - began > patience:
            return
        time.sleep(0.02)
    _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
