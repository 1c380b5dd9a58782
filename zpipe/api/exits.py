"""What becomes of a script's pipelines when its process ends, or is forked. Must not know how they do their work."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

__all__ = ["CUT", "INTERRUPTED", "register"]

CUT = "the pipeline was shut down before all of this iterator's items were pulled"

INTERRUPTED = "interrupted"
"""Why a pipeline was aborted whose script knows about it."""


class _Leaving(Protocol):
    def close(self, why: str, *, cut: bool) -> None:
        """Take nothing more, and pull no more items."""

    def abort(self, why: str) -> None:
        """End at once."""

    def join(self) -> None:
        """Wait for the end."""

    def orphan(self) -> None:
        """In a forked child: let go of what is the parent's."""


_open: weakref.WeakSet[_Leaving] = weakref.WeakSet()


def register(pipeline: _Leaving) -> None:
    """From now on, for as long as it is there, see to a pipeline when the process ends."""
    _open.add(pipeline)


def _at_exit() -> None:
    """Whatever was handed over is still done; then nothing is left running."""
    pipelines = list(_open)
    last = getattr(sys, "last_type", None)  # what ended the script, unless it is somebody's session
    interrupted = last is not None and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")
    try:
        for pipeline in pipelines:
            pipeline.close("cannot schedule new futures after interpreter shutdown", cut=True)
            if interrupted:
                pipeline.abort(INTERRUPTED)
        for pipeline in pipelines:
            pipeline.join()
    except KeyboardInterrupt:  # the interpreter would say where, and nobody waits for results any more
        for pipeline in pipelines:
            pipeline.abort(INTERRUPTED)
        for pipeline in pipelines:
            pipeline.join()


def _in_child() -> None:
    for pipeline in list(_open):
        pipeline.orphan()
    _open.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_child)
