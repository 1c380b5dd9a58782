"""What an embedded pipeline tells, where there is no terminal of its own: the log, or a function of the script's."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from zpipe.report.progress import Snapshot

__all__ = ["CallProgress", "LogProgress"]

LOG = logging.getLogger("zpipe")

LATE = 5.0
"""Seconds of waiting after which that is told of, and again as often."""


class LogProgress:
    """News go to the log named `zpipe`: errors, and what is waited for too long, as warnings, the rest as infos."""

    def __init__(self) -> None:
        self._note = ""
        self._due = 0.0

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Warn if the pipeline has work and waits."""
        if snapshot.note and snapshot.note == self._note:
            LOG.warning("%s", snapshot.note)
        self._note = snapshot.note
        self._due = now + LATE

    def say(self, text: str, *, error: bool = False) -> None:
        """Log it."""
        LOG.log(logging.WARNING if error else logging.INFO, "%s", text)

    def close(self, snapshot: Snapshot, /) -> None:
        """Do nothing."""

    def deadline(self, now: float, /) -> float:
        """Return when to look next; there is no hurry."""
        if not self._due:
            self._due = now + LATE
        return self._due


class CallProgress(LogProgress):
    """A function is called with a Snapshot, at most every `every` seconds, and at the end; news go to the log.

    It is called in the pipeline's thread. One that raises is called no more.
    """

    def __init__(self, call: Callable[[Snapshot], object], every: float = 0.1) -> None:
        super().__init__()
        self._call: Callable[[Snapshot], object] | None = call
        self._every = every
        self._last: Snapshot | None = None
        self._show = 0.0

    def update(self, snapshot: Snapshot, now: float, /) -> None:
        """Call with what is new."""
        if now >= self._due:
            super().update(snapshot, now)
        self._show = now + self._every
        if self._last is None or (snapshot.done, snapshot.workers) != (self._last.done, self._last.workers):
            self._tell(snapshot)

    def _tell(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if self._call is not None:
            try:
                self._call(snapshot)
            except Exception:
                LOG.exception("the progress function failed, and is called no more")
                self._call = None

    def close(self, snapshot: Snapshot, /) -> None:
        """Call a last time."""
        self._tell(snapshot)

    def deadline(self, now: float, /) -> float:
        """Return when the next call is due."""
        return min(max(now, self._show), super().deadline(now)) if self._call is not None else math.inf
