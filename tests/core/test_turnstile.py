"""Who comes too often: a burst is let through, then a steady pace, each for himself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.turnstile import Turnstile


def test_a_burst_and_then_a_pace() -> None:
    """Five at once, then one in two seconds; another is not held up by it."""
    turnstile = Turnstile(5, 2.0)
    assert [turnstile.on_comer(b"a", 10.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert turnstile.on_comer(b"b", 10.0)
    assert [turnstile.on_comer(b"a", now) for now in (11.9, 12.0, 12.1, 14.0)] == [False, True, False, True]


@given(st.lists(st.floats(0.0, 5.0), max_size=200))
def test_no_more_than_the_pace(waits: list[float]) -> None:
    """In any time no more come through than the burst and the pace allow."""
    turnstile, now, passed = Turnstile(5, 2.0), 0.0, 0
    for wait in waits:
        now += wait
        passed += turnstile.on_comer(b"a", now)
        assert passed <= 5 + now / 2.0


def test_few_are_remembered() -> None:
    """However many come."""
    turnstile = Turnstile(1, 1.0, remembered=10)
    for n in range(1000):
        assert turnstile.on_comer(b"%d" % n, 0.0)
    assert len(turnstile._until) == 10
