"""What items claim: as it is put, by a function, by a field; and a source whose items claim something."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from math import inf
from typing import Any

import pytest

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import PLAIN, Claim, Rate, Schedule
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.errors import SourceError, UsageError
from zpipe.input.sources import IterSource
from zpipe.schedule.claims import Claims, field, rate, schedule, seconds
from zpipe.schedule.parked import load
from zpipe.schedule.planned import PlannedSource
from zpipe.serialize import loads

SPEC = JobSpec(TaskSpec("import", "a:b"))


def test_spans_and_rates_are_read() -> None:
    """Numbers are seconds, and items a second; what can't be read is named, with how to write it."""
    assert [seconds(value) for value in (3, "3", "1.5s", "500ms", "2m", "1h", "1d")] == [
        3,
        3,
        1.5,
        0.5,
        120,
        3600,
        86400,
    ]
    assert rate("100/s") == Rate(100.0, 10.0)
    assert rate("60/m", burst=5) == Rate(1.0, 5.0)
    assert rate(3) == Rate(3.0, 1.0)
    for wrong in ("soon", "-1", "", None, True, "1y"):
        with pytest.raises(ValueError, match="no span of time"):
            seconds(wrong)
    for wrong in ("fast", 0, "0/s", "1/y"):
        with pytest.raises(ValueError, match="no rate"):
            rate(wrong)


def test_a_schedule_is_what_is_asked_for() -> None:
    """None if nothing is; halves of things are refused."""
    assert schedule() is None
    assert schedule(max_in_flight=3, ageing="1m") == Schedule(max_in_flight=3, ageing=60.0)
    for wrong in ({"max_in_flight": 0}, {"burst": 2}, {"rate": "1/s", "burst": 0.5}, {"ageing": 0}):
        with pytest.raises(ValueError, match="give"):
            schedule(**wrong)


def test_an_item_claims_what_is_said_of_it() -> None:
    """As it is, by a function, or by a field; what is not there is not claimed."""
    said = Claims(priority=field(".prio"), key=lambda item: item["who"]["id"], ttl="5s", requires="gpu, big=1")
    assert said.varied
    assert said.of({"prio": "2", "who": {"id": 7}}, 100.0, 0.0) == Claim(
        2.0, -inf, 105.0, 7, None, frozenset({"gpu", "big=1"})
    )
    assert said.of({"who": {"id": None}}, 100.0, 0.0).key is None
    assert Claims(delay="10s", ttl=5).of(None, 100.0, 0.0) == Claim(begin=110.0, end=115.0)
    date = datetime(2030, 1, 1, tzinfo=timezone.utc)
    for eta in ("2030-01-01T00:00:00Z", "2030-01-01T01:00+01:00", date, date.timestamp()):
        assert Claims(eta=eta).of(None, 100.0, date.timestamp() - 7).begin == 107.0
    assert Claims().of(None, 0.0, 0.0) is PLAIN
    assert not Claims()


@pytest.mark.parametrize(
    ("wish", "item", "why"),
    [
        ({"priority": field(".x")}, {"x": "high"}, "priority 'high' is no number"),
        ({"key": field(".x")}, {"x": [1]}, "a key of type list"),
        ({"eta": field(".x")}, {"x": "tomorrow"}, "eta 'tomorrow' is no date"),
        ({"delay": field(".x")}, {"x": "later"}, "'later' is no span of time"),
        ({"requires": field(".x")}, {"x": [1]}, "is no label"),
        ({"priority": field(".x")}, "text", "with --jsonl"),
    ],
)
def test_what_makes_no_sense_is_named(wish: dict[str, Any], item: Any, why: str) -> None:
    """The thing, and what is wrong with it."""
    with pytest.raises((ValueError, TypeError), match=why):
        Claims(**wish).of(item, 0.0, 0.0)


def test_delay_and_eta_are_one_too_many() -> None:
    """Both say when an item may begin; and a field has a name."""
    with pytest.raises(ValueError, match="give one"):
        Claims(delay=1, eta=5)
    with pytest.raises(UsageError, match="names no field"):
        field(".")


def taken(source: PlannedSource, most: int = 100) -> list[tuple[list[Any], Claim | None]]:
    """The runs of a source, with what their items claim."""
    found = []
    while (batch := source.take(most)) is not None:
        chunk = Chunk(0, batch.count, batch.kind, batch.frames, 0, Chunker())
        assert chunk.size == 0
        assert load(chunk, Chunk.cut)
        found.append((list(loads(chunk.payload)), batch.claim))
    return found


def test_items_with_equal_claims_go_together() -> None:
    """Those that follow each other; what is not wanted at once is kept, and counted."""
    source = PlannedSource(IterSource([1, 1, 3, 3, 3, 1], "numbers"), Claims(priority=float), SPEC)
    source.start(lambda: None)
    first = source.take(1)
    assert first is not None
    assert (first.count, source.remaining(), source.exhausted) == (1, 5, False)
    assert taken(source) == [([1], Claim(1.0)), ([3, 3, 3], Claim(3.0)), ([1], Claim(1.0))]
    assert source.exhausted


def test_a_part_of_a_run_is_packed_alone() -> None:
    """What is sent holds those items and no others."""
    source = PlannedSource(IterSource(range(10), "numbers"), Claims(priority=1), SPEC)
    batch = source.take(10)
    assert batch is not None
    whole = Chunk(0, 10, batch.kind, batch.frames, 0, Chunker())
    rest = whole.cut(4)
    assert load(rest, Chunk.cut)
    assert (list(loads(rest.payload)), rest.skip) == ([4, 5, 6, 7, 8, 9], 0)
    assert load(whole, Chunk.cut)
    assert list(loads(whole.payload)) == [0, 1, 2, 3]
    assert rest.size > 0


def test_items_are_passed_over() -> None:
    """Whether they have been looked at or not."""
    source = PlannedSource(IterSource([1, 2, 3, 4, 5], "numbers"), Claims(priority=float), SPEC)
    assert source.skip(1) == 1
    assert source.take(1) is not None
    assert source.skip(1) == 1
    assert [items for items, _ in taken(source)] == [[4], [5]]
    source.close()
    assert source.take(1) is None


def test_a_function_that_fails_ends_the_source_behind_the_items_before() -> None:
    """It is said of which item, and each time it is asked."""
    source = PlannedSource(IterSource([2, 1, 0, 5], "numbers"), Claims(priority=lambda item: 1 / item), SPEC)
    assert [source.take(9), source.take(9)] != [None, None]
    for _ in range(2):
        with pytest.raises(SourceError, match="what item 2 claims can't be told: ZeroDivisionError"):
            source.take(9)
    assert not source.exhausted


def test_a_delay_counts_from_when_an_item_is_read() -> None:
    """By the clock that the schedule goes by."""
    before = time.monotonic()
    batch = PlannedSource(IterSource([1], "numbers"), Claims(delay=100), SPEC).take(1)
    assert batch is not None
    assert batch.claim is not None
    assert before + 100 <= batch.claim.begin <= time.monotonic() + 100
