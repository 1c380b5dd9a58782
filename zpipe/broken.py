"""The two errors of an embedded pipeline that are also concurrent.futures' own, so that code which moves over meets
the exceptions it knows. Apart from the others because their bases are slow to import.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from zpipe.errors import ZpipeError

__all__ = ["BrokenPipeline", "WorkerLost"]


class BrokenPipeline(BrokenProcessPool, ZpipeError):
    """The pipeline has ended before its time: nothing that is pending will have an outcome, nothing more is taken."""


class WorkerLost(BrokenProcessPool, ZpipeError):
    """An item was given up: the workers that ran it ended by it, one after another. The pipeline goes on."""
