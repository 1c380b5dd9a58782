"""Items that are times, on a clock that is only told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, islice

import pytest

from zpipe.errors import UsageError
from zpipe.input.ticks import LOOK, cron_source, every_source, local_zone, on_time

START = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.utc)


class Clock:
    """A clock that goes on when it is waited for, and an alarm that may be put off."""

    def __init__(self) -> None:
        self.now = START
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Go on by so much."""
        self.waits.append(seconds)
        self.now += timedelta(seconds=seconds)
        return False


def minutes() -> Iterator[datetime]:
    """Every minute from the start on."""
    return (START + timedelta(minutes=n) for n in count())


def test_each_time_comes_when_it_is_that_time() -> None:
    """As ISO 8601; the clock is looked at now and then."""
    clock = Clock()
    found = list(islice(on_time(minutes(), lambda: clock.now, clock.wait), 3))
    assert found == ["2030-01-01T12:00:00+00:00", "2030-01-01T12:01:00+00:00", "2030-01-01T12:02:00+00:00"]
    assert clock.waits == [LOOK] * 4


def test_of_what_was_missed_the_last_is_made_up_for() -> None:
    """The machine slept for an hour."""
    clock = Clock()
    ticks = on_time(minutes(), lambda: clock.now, clock.wait)
    next(ticks)
    clock.now += timedelta(hours=1, seconds=20)
    assert [next(ticks), next(ticks)] == ["2030-01-01T13:00:00+00:00", "2030-01-01T13:01:00+00:00"]


def test_nobody_waits_once_it_is_over() -> None:
    """Though the next time is far."""
    assert list(on_time(minutes(), lambda: START - timedelta(days=1), lambda _: True)) == []


def test_what_is_passed_over_is_not_waited_for() -> None:
    """A job that goes on has had other times."""
    source = every_source(3600)
    assert source.skip(1000) == 1000
    source.start(lambda: None)
    source.close()
    assert source.exhausted


def test_a_time_zone_is_found() -> None:
    """By its name, or in a file; without either it is that of Greenwich."""
    assert local_zone("Europe/Berlin").utcoffset(datetime(2030, 7, 1)) == timedelta(hours=2)
    assert local_zone(None, "/nonexistent") is timezone.utc
    assert local_zone("No/Where") is timezone.utc


def test_what_can_not_be_is_refused() -> None:
    """With how to write it."""
    with pytest.raises(UsageError, match="give a span from 1ms on"):
        every_source(0)
    pytest.importorskip("cronsim", reason="--cron needs cronsim: pip install 'zpipe[cron]'")
    with pytest.raises(UsageError, match=r"can't be read: .* such as"):
        cron_source("every now and then")
    cron_source("*/5 * * * *").close()
