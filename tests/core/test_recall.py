"""From which lanes chunks are called back: how often all of them are searched, where there are many."""

from __future__ import annotations

import pytest

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import WAITING, Chunker
from zpipe.core.lane import CARRIED, LONG, PATIENCE, Lane
from zpipe.core.recall import AT_ONCE, BRIEFLY, MANY, SEARCH, Recalls


def recalls(lanes: int) -> tuple[Recalls, dict[int, Lane]]:
    """Return what is to be had back from so many lanes, of which the first alone holds a chunk, since 100 s."""
    made = {number: Lane(number, []) for number in range(1, lanes + 1)}
    chunk = Chunk(0, 10, "lines", [b"x"], 0, Chunker())
    made[1].hold(chunk)
    made[1].since = 100.0
    return Recalls({0: chunk}, made), made


def test_a_search_in_vain_is_repeated_after_a_while() -> None:
    """Not for each message: where lanes are many, it takes time. When it is due is told."""
    lanes = AT_ONCE + 4
    made, _ = recalls(lanes)
    now, due = 100.0 + PATIENCE - 1e-4, 100.0 + PATIENCE
    assert made.hungry(now) == []
    assert made.look == due
    assert made.hungry(due) == made.overdue(due) == [], "there would be something now"
    assert due < made.look <= now + SEARCH * lanes
    assert made.overdue(made.look) == [1]


@pytest.mark.parametrize("lanes", [2, AT_ONCE])
def test_a_few_lanes_are_searched_each_time(lanes: int) -> None:
    """As soon as there is something to be had, it is."""
    made, _ = recalls(lanes)
    assert made.hungry(100.0 + PATIENCE - 1e-4) == []
    assert made.look == 100.0 + PATIENCE
    assert made.hungry(100.0 + PATIENCE) == [1]


def test_what_was_found_does_not_put_the_next_search_off() -> None:
    """There may be more for others who want it."""
    made, lanes = recalls(AT_ONCE + 4)
    assert made.hungry(100.0 + PATIENCE) == [1]
    lanes[1].recalled = False
    assert made.hungry(100.0 + PATIENCE) == [1]


def test_where_many_are_late_they_are_searched_after_a_while() -> None:
    """It is the ventilator that is late then, and each search takes time: what comes to wait meanwhile is no reason."""
    made = {number: Lane(number, []) for number in range(1, 401)}
    recalls = Recalls({}, made)
    for lane in made.values():
        for start in (2 * lane.number, 2 * lane.number + 1):
            lane.hold(Chunk(start, start + 1, "lines", [b"x"], 0, Chunker()))
        lane.since = 100.0
        recalls.on_wait(lane)
    assert recalls.look == 100.0 + PATIENCE
    assert len(recalls.overdue(101.0)) == AT_ONCE
    again = 101.0 + SEARCH * len(made)
    recalls.on_wait(made[400])
    assert recalls.look == again
    assert recalls.overdue(101.0 + 2 * PATIENCE) == []
    assert len(recalls.overdue(again)) == AT_ONCE


@pytest.mark.parametrize(
    ("known", "patience"),
    [(None, PATIENCE), (0.0001, PATIENCE), (0.020, LONG * 0.020), (10.0, WAITING)],
    ids=["nothing", "a quick one", "a slower one", "a very slow one"],
)
def test_what_takes_as_long_as_its_like_is_no_straggler(known: float | None, patience: float) -> None:
    """Stages go by turns on a lane whose other chunks are quick. What waits behind a slow one waits a while at most."""
    lane, chunker = Lane(1, []), Chunker()
    for _ in range(9):
        lane.observe(0.0002, 10)
    if known is not None:
        chunker.observe(1, known, 10)
    for start in (0, 1):
        lane.hold(Chunk(start, start + 1, "lines", [b"x"], 0, chunker))
    lane.since = 100.0
    assert lane.due == pytest.approx(100.0 + patience)


def test_of_very_many_lanes_some_are_found_at_a_time() -> None:
    """A thousand workers run dry one by one: a search for each would take longer than what is left to do."""
    made = {number: Lane(number, []) for number in range(1, MANY + 1)}
    chunks = {10 * number: Chunk(10 * number, 10 * number + 10, "lines", [b"x"], 0, Chunker()) for number in range(2)}
    recalls = Recalls(chunks, made)
    for lane, chunk in zip(made.values(), chunks.values(), strict=False):
        lane.hold(chunk)
        lane.since = 100.0
    now = 100.0 + PATIENCE
    assert recalls.hungry(now) == [1, 2]
    made[1].recalled = False
    assert recalls.hungry(now) == []
    assert recalls.look == now + BRIEFLY * MANY
    assert recalls.overdue(recalls.look) == [1]


def test_what_is_carried_for_a_while_is_not_late() -> None:
    """A chunk of megabytes is on its way for longer than its items take, there and back."""
    _, lanes = recalls(2)
    lanes[1].observe(0.0001, CARRIED // 10)
    assert lanes[1].due == lanes[1].shareable == pytest.approx(100.1 + PATIENCE)
