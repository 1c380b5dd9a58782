"""Whether an item that failed is tried again, and when: exponential backoff with full jitter (Brooker, 2015).

A task may decide for itself by raising `Retry` or `Reject`. This file does not know what runs the task.
"""

from __future__ import annotations

import random

from zpipe.core.spec import JobSpec
from zpipe.core.wire import LONGEST
from zpipe.errors import Reject, Retry

__all__ = ["Rule"]

ASKED = 3
"""How often an item whose task raises Retry is tried again in a job that has no retries of its own."""


class Rule:
    """What a job has to say about items that fail."""

    def __init__(self, spec: JobSpec) -> None:
        self._most = spec.retries
        self._delay, self._max_delay = spec.retry_delay, spec.retry_max_delay
        self._names = set(spec.retry_on)

    def after(self, error: BaseException, tries: int) -> float | None:
        """Return in how many seconds the item is tried again, None if it is not; `tries` failed before this one."""
        if isinstance(error, Reject):
            return None
        if isinstance(error, Retry):
            if tries >= (self._most or ASKED):
                return None
            return self._jitter(tries) if error.after is None else min(max(0.0, error.after), LONGEST)
        if tries >= self._most or (self._names and not self._is_named(error)):
            return None
        return self._jitter(tries)

    def _jitter(self, tries: int) -> float:
        return random.uniform(0.0, min(LONGEST, self._max_delay, self._delay * 2.0 ** min(tries, 60)))  # noqa: S311

    def _is_named(self, error: BaseException) -> bool:
        return any(
            kind.__name__ in self._names or f"{kind.__module__}.{kind.__qualname__}" in self._names
            for kind in type(error).__mro__
        )
