"""RangeSet against a plain set of integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.ranges import RangeSet

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda t: (t[0], t[0] + t[1])), max_size=40)


@given(ranges, st.integers(0, 70), st.integers(1, 15))
def test_it_is_a_set_of_integers(adds: list[tuple[int, int]], start: int, length: int) -> None:
    """Whatever is added in whatever order, it says of every range what a set of integers would."""
    model: set[int] = set()
    made = RangeSet()
    for a, b in adds:
        assert made.add(a, b) == len(set(range(a, b)) - model)
        model |= set(range(a, b))
        made.check()
    asked = set(range(start, start + length))
    assert made.count == len(model)
    assert made.covers(start, start + length) == (asked <= model)
    assert made.overlaps(start, start + length) == bool(asked & model)
    assert [i for a, b in made for i in range(a, b)] == sorted(model)
    assert {i for a, b in made.gaps(start, start + length) for i in range(a, b)} == asked - model
    part = made.within(start, start + length)
    assert ({i for a, b in part for i in range(a, b)} if part is not None else set()) == asked & model
    if part is not None:
        part.check()
    after = made.after(start)
    assert (after[1] - 1 if after else None) == next((b - 1 for a, b in made if b > start), None)
    again = RangeSet.of_runs(made.runs)
    again.check()
    assert list(again) == list(made)
    assert made.last == max(model, default=-1) + 1


def test_memory_grows_with_gaps_not_with_items() -> None:
    """A million items in order, and a hundred chunks out of order, are few ranges."""
    made = RangeSet((i, i + 1000) for i in range(0, 1_000_000, 1000))
    assert list(made) == [(0, 1_000_000)]
    made = RangeSet((i, i + 10) for i in reversed(range(0, 1000, 10)))
    assert len(made) == 1


def test_an_empty_range_is_a_mistake() -> None:
    """A range without items is refused, not ignored."""
    with pytest.raises(ValueError, match="empty range"):
        RangeSet().add(3, 3)
