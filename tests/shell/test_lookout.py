"""Whoever waits looks a while longer only if that was worth it the last time, and costs nobody a turn."""

from __future__ import annotations

import pytest

from zpipe.net import lookout
from zpipe.net.lookout import Lookout


class Things:
    """Has something after it was looked for in vain so many times."""

    def __init__(self) -> None:
        self.vain = 0
        self.asked: list[float | None] = []

    def look(self, most: float | None) -> list[str]:
        """Return what there is."""
        self.asked.append(most)
        self.vain -= 1
        return [] if self.vain >= 0 and most == 0 else ["thing"]


def waits(out: Lookout, vain: int) -> list[float | None]:
    """Return how long each look was to wait, where so many are in vain."""
    things = Things()
    things.vain = vain
    assert out.wait(things.look, 5.0) == ["thing"]
    return things.asked


def test_what_is_there_is_found_at_the_first_look() -> None:
    """Nobody sleeps over it."""
    assert waits(Lookout(), 0) == [0]


def test_who_found_something_soon_keeps_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever waited for long sleeps the next time, until something comes soon again."""
    monkeypatch.setattr(lookout, "CROWDED", 600.0)
    monkeypatch.setattr(lookout, "BRISK", 600.0)
    out = Lookout()
    assert waits(out, 3) == [0, 0, 0, 0]
    monkeypatch.setattr(lookout, "BRISK", 0.0)
    assert waits(out, 3) == [0, 5.0]
    monkeypatch.setattr(lookout, "BRISK", 600.0)
    assert waits(out, 3) == [0, 5.0]
    assert waits(out, 3) == [0, 0, 0, 0]


def test_who_looks_stops_where_others_want_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and for a while."""
    monkeypatch.setattr(lookout, "CROWDED", -1.0)
    monkeypatch.setattr(lookout, "BRISK", 600.0)
    monkeypatch.setattr(lookout, "RESPITE", 600.0)
    out = Lookout()
    assert waits(out, 3) == [0, 0, 5.0]
    assert waits(out, 3) == [0, 5.0]
