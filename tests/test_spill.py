"""Values by key that wait on the disk."""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.api.spill import Spill


def twin(rows: list[tuple[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    """The same in memory."""
    groups: dict[Any, list[Any]] = {}
    for key, value in rows:
        groups.setdefault(key, []).append(value)
    return list(groups.items())


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers() | st.just(threading.Lock)), max_size=200), st.integers(0, 400)
)
def test_all_come_in_their_order(rows: list[tuple[int, Any]], most: int) -> None:
    """Whatever the bound, of any keys."""
    spill: Spill[int, Any] = Spill(most)
    for row in rows:
        spill.add(*row)
    assert list(spill) == twin(rows)


def test_what_is_much_is_not_in_memory() -> None:
    """Nor does it stay there for the sake of its order."""
    spill: Spill[int, bytes] = Spill(10_000)
    for n in range(3000):
        spill.add(n % 3, b"%d" % n * 10)
        assert sum(map(len, spill._here.values())) < 2000
    assert [(key, values[:2], len(values)) for key, values in spill] == [
        (key, [b"%d" % n * 10 for n in (key, key + 3)], 1000) for key in range(3)
    ]


def test_what_would_gain_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of one value each, what can't be pickled, and all where the disk has no room."""
    rows: list[tuple[Any, Any]] = [(n, b"x" * 100) for n in range(300)]
    locks = [(0, threading.Lock()) for _ in range(100)]
    few: Spill[int, Any] = Spill(1000)
    for row in rows:
        few.add(*row)
    assert few._file is None
    assert list(few) == twin(rows)
    mixed: Spill[int, Any] = Spill(1000)
    many = [row for lock in locks for row in (lock, (1, b"x" * 100))]
    for row in many:
        mixed.add(*row)
    assert list(mixed) == twin(many)

    def full() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    there: Spill[int, Any] = Spill(1000)
    for n in range(300):
        there.add(0, b"y" * 100 + b"%d" % n)
    assert list(there) == [(0, [b"y" * 100 + b"%d" % n for n in range(300)])]
