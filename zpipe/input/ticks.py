"""Items that are times: each comes when it is that time, for ever.

What was missed while nobody looked (the machine slept, the clock was set) is not made up for, but for the last of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import count
from zoneinfo import ZoneInfo

from zpipe.core.spec import Codec
from zpipe.errors import UsageError
from zpipe.input.feeder import FeederSource

__all__ = ["TickSource", "cron_source", "every_source", "local_zone", "on_time"]

LOOK = 30.0
"""Seconds after which the clock is looked at again: it may have been set meanwhile."""


class TickSource(FeederSource):
    """The times that `times()` gives, in rising order, as ISO 8601. Those that are passed over are not waited for."""

    def __init__(self, times: Callable[[], Iterator[datetime]], name: str, codec: Codec = "pickle") -> None:
        self._over_now = threading.Event()
        super().__init__(lambda: on_time(times(), _now, self._over_now.wait), name, codec=codec)

    def skip(self, most: int) -> int:
        """Count so many items as done: they were other times, which do not come again."""
        self._taken += most
        return most

    def close(self) -> None:
        """Wait no more."""
        self._over_now.set()
        super().close()


def on_time(times: Iterator[datetime], now: Callable[[], datetime], wait: Callable[[float], bool]) -> Iterator[str]:
    """Yield each of these times once it is `now`; `wait(seconds)` says whether nobody wants them any more."""
    when, following = next(times), next(times)
    while True:
        while (left := (when - now()).total_seconds()) > 0:
            if wait(min(left, LOOK)):
                return
        while following <= now():
            when, following = following, next(times)
        yield when.isoformat(timespec="milliseconds" if when.microsecond else "seconds")
        when, following = following, next(times)


def every_source(seconds: float, codec: Codec = "pickle") -> TickSource:
    """Return the times from now on, so many seconds apart. Raises UsageError."""
    if not seconds >= 0.001:
        raise UsageError(f"--every {seconds:g}: give a span from 1ms on, such as 30s or 5m")

    def times() -> Iterator[datetime]:
        first, step = _now(), timedelta(seconds=seconds)
        return (first + n * step for n in count())

    return TickSource(times, f"--every {seconds:g}s", codec)


def cron_source(expression: str, codec: Codec = "pickle") -> TickSource:
    """Return the times that a cron expression names, in this machine's time zone. Raises UsageError."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise UsageError("--cron needs the package cronsim: pip install 'zpipe[cron]'") from None
    try:
        CronSim(expression, _now())
    except CronSimError as error:
        raise UsageError(
            f"--cron {expression!r} can't be read: {error}; write minute, hour, day, month and weekday, such as "
            "'0 2 * * *' for two in the morning"
        ) from None
    return TickSource(lambda: CronSim(expression, _now()), f"--cron {expression!r}", codec)


def local_zone(name: str | None, path: str = "/etc/localtime") -> tzinfo:
    """Return the time zone of this `name`, else the one in the file: summer time begins and ends there as it should."""
    try:
        if name:
            return ZoneInfo(name.removeprefix(":"))
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, KeyError):
        return timezone.utc


def _now() -> datetime:
    return datetime.now(local_zone(os.environ.get("TZ")))
