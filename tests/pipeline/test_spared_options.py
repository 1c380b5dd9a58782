"""A script's items that need not be run, where what goes next is chosen: each looked up in its turn."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline import chores
from process.tools import wait_until

import zpipe

PATIENCE = 60.0

WISHES: list[dict[str, Any]] = [
    {},
    {"priority": lambda item: item % 3},
    {"priority": 5, "ttl": "1h"},
    {"delay": 0.002},
    {"key": lambda item: item % 4},
    {"rate_key": lambda item: item % 2},
]
LIMITS: list[dict[str, Any]] = [{}, {"rate": 50_000}, {"max_in_flight": 2}, {"ageing": 1}]

HOW = pytest.mark.parametrize("how", [{"workers": 1}, {"inline": True}], ids=["workers", "inline"])


class Leaving:
    """Can't be pickled: that would end the process."""

    def __reduce__(self) -> Any:
        raise SystemExit


def note(path: str) -> Callable[[int], int]:
    """What leaves a trace of each run, has none for 5, and else squares."""

    def noted(item: int) -> int:
        with open(path, "a") as file:
            file.write(f"{item}\n")
        if item == 5:
            raise ValueError("no five")
        return item * item

    return noted


def outcome(item: int) -> Any:
    """What comes of an item, for a person."""
    return "no five" if item == 5 else item * item


def shown(found: Any) -> Any:
    """An outcome, for a person."""
    return str(found) if isinstance(found, ValueError) else found


def ran(path: str) -> Counter[str]:
    """How often each item was run."""
    return Counter(Path(path).read_text().split()) if Path(path).exists() else Counter()


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(WISHES),
            st.lists(st.integers(0, 9), max_size=30),
            st.sampled_from(["map", "unordered", "submit"]),
        ),
        max_size=5,
    ),
    limits=st.sampled_from(LIMITS),
    unique=st.booleans(),
    cache=st.booleans(),
)
def test_any_options_together(
    calls: list[tuple[dict[str, Any], list[int], str]], limits: dict[str, Any], unique: bool, cache: bool
) -> None:
    """All outcomes are plain Python's; what is to be run once is, and the cache serves a second pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "ran"))
        noted = note(path)
        for turn in range(2):
            spared: dict[str, Any] = {"unique": unique}
            if cache:
                spared["cache"] = Path(folder, "cache")
            more = {"max_in_flight_per_key": 1} if any("rate_key" in wishes for wishes, _, _ in calls) else {}
            with zpipe.Pipeline(inline=True, **spared, **limits, **more) as pipe:
                found: list[Any] = []
                for wishes, items, how in calls:
                    options = pipe.options(**wishes)
                    if how == "submit":
                        found.append([options.submit(noted, item) for item in items])
                    elif how == "map":
                        found.append(options.map(noted, items, on_error="collect"))
                    else:
                        found.append(options.imap_unordered(noted, items, on_error="collect"))
                for (_, items, how), had in zip(calls, found, strict=True):
                    wanted = [outcome(item) for item in items]
                    if how == "submit":
                        assert [shown(one.exception(PATIENCE) or one.result()) for one in had] == wanted
                    elif how == "map":
                        assert [shown(one) for one in had] == wanted
                    else:
                        assert Counter(map(shown, had)) == Counter(wanted)
            times = ran(path)
            for item in {item for _, items, _ in calls for item in items}:
                ways = [[how != "submit"] * items.count(item) for _, items, how in calls]  # one is not like the other
                each = Counter(way for row in ways for way in row)
                kept = turn and cache and item != 5
                assert times[str(item)] <= (0 if kept else len(each) if unique else each.total())
                assert times[str(item)] or kept
            Path(path).unlink(missing_ok=True)


@HOW
def test_it_may_begin_at_any_moment(tmp_path: Path, how: dict[str, Any]) -> None:
    """What has been read by then, and looked up, goes as it would have."""
    path = str(tmp_path / "ran")
    with zpipe.Pipeline(unique=True, **how) as pipe:
        plain = pipe.imap_unordered(note(path), [n % 40 for n in range(4000) if n % 40 != 5])
        first = next(plain)
        chosen = list(pipe.options(priority=1).map(note(path), [n for n in range(60) if n != 5]))
        assert chosen == [n * n for n in range(60) if n != 5]
        rest = Counter([first, *plain])
    assert rest == Counter(n % 40 * (n % 40) for n in range(4000) if n % 40 != 5)
    assert set(ran(path).values()) == {1}


def test_an_urgent_call_waits_for_no_equal_one_that_does_not_run(gate: str, tmp_path: Path) -> None:
    """Whichever comes first is run, and the other has what comes of it; who is cancelled meanwhile is not."""
    path = str(tmp_path / "ran")
    with zpipe.Pipeline(1, unique=True) as pipe:
        later = pipe.options(delay="1h").submit(note(path), 3)
        assert pipe.options(priority=1).submit(note(path), 3).result(PATIENCE) == 9
        assert later.cancel()
        busy = pipe.options(priority=9).submit(chores.held, gate)
        same = [pipe.submit(chores.held, gate) for _ in range(3)]
        low = pipe.options(delay="1h").submit(note(path), 4)
        assert low.cancel()
        gone = pipe.options().imap_unordered(note(path), [4] * 50)
        gone.close()
        Path(gate).touch()
        assert {future.result(PATIENCE) for future in (busy, *same)} == {busy.result()}
        assert pipe.options(priority=-1).submit(note(path), 6).result(PATIENCE) == 36
    with pytest.raises(CancelledError):
        low.result(0)
    assert set(ran(path)) <= {"3", "4", "6"}


def test_shutdown_cancels_what_waits_for_its_time(tmp_path: Path) -> None:
    """Equal items too."""
    path = str(tmp_path / "ran")
    pipe = zpipe.Pipeline(1, unique=True)
    waiting = [pipe.options(delay="1h").submit(note(path), 3) for _ in range(5)]
    wait_until(lambda: pipe._engine._ventilator.ledger.next >= 5)
    pipe.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert not ran(path)


def test_what_can_not_be_pickled_and_what_ends_its_worker(tmp_path: Path) -> None:
    """Fails alone; those like it that wait for it are run."""
    path = str(tmp_path / "ran")
    with zpipe.Pipeline(1, unique=True, max_crashes=1) as pipe:
        options = pipe.options(priority=1)
        lock = threading.Lock()
        found = list(options.map(type, [1, lock, lock, 1], on_error="collect"))
        assert [found[0], found[3]] == [int, int]
        assert all(isinstance(one, TypeError) for one in found[1:3])
        found = list(options.map(type, [1, Leaving(), 1], on_error="collect"))
        assert [found[0], type(found[1]), found[2]] == [int, SystemExit, int]
        lost = list(options.map(chores.die_on_three, [3, 3, 4, 3], on_error="collect"))
        assert [isinstance(one, zpipe.WorkerLost) for one in lost] == [True, True, False, True]
        assert list(options.map(note(path), [2, 2, 2])) == [4, 4, 4]
    assert ran(path) == {"2": 1}
