"""A script's items that need not be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import wait_until

import zpipe
from zpipe.caching.cache import Outcomes
from zpipe.core.sieve import Sieve


def note(path: str, item: int, more: int = 0) -> int:
    """Leave a trace of each run."""
    with open(path, "a") as file:
        file.write(f"{item} {more}\n")
    if item < 0:
        raise ValueError(f"{item} is below zero")
    return item * item + more


HOW = pytest.mark.parametrize("how", [{"workers": 2}, {"inline": True}], ids=["workers", "inline"])


@HOW
def test_equal_calls_run_once(tmp_path: Path, how: dict[str, Any]) -> None:
    """Of a map and of submit, whatever comes of them; another function is another matter."""
    path = str(tmp_path / "ran")
    with zpipe.Pipeline(unique=True, **how) as pipe:
        found = list(pipe.starmap(note, [(path, n % 3 - 1) for n in range(60)], on_error="collect"))
        futures = [pipe.submit(note, path, 5, more=2) for _ in range(9)]
        assert {future.result() for future in futures} == {27}
        assert list(pipe.map(str, [1, 1, 2])) == ["1", "1", "2"]
    assert found[1:3] * 20 == [value for value in found if not isinstance(value, ValueError)]
    assert sum(isinstance(value, ValueError) for value in found) == 20
    assert sorted((tmp_path / "ran").read_text().splitlines()) == ["-1 0", "0 0", "1 0", "5 2"]


@HOW
def test_a_key_says_what_is_equal(how: dict[str, Any]) -> None:
    """It is called as the function is."""
    with zpipe.Pipeline(unique=lambda number: number % 3, **how) as pipe:
        assert list(pipe.map(abs, range(9))) == [0, 1, 2] * 3


@HOW
def test_a_cache_outlives_its_pipeline(tmp_path: Path, how: dict[str, Any]) -> None:
    """Failures are not kept."""
    path, items = str(tmp_path / "ran"), [3, 4, -5]
    for wanted in (3, 4):
        with zpipe.Pipeline(cache=tmp_path / "c", cache_ttl=600, **how) as pipe:
            found = list(pipe.starmap(note, [(path, n) for n in items], on_error="collect"))
        assert found[:2] == [9, 16]
        assert isinstance(found[2], ValueError)
        assert len((tmp_path / "ran").read_text().splitlines()) == wanted


def test_a_worker_joins_when_all_that_may_wait_does(gate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more equal items than are set aside follow one that takes its time; a worker that gets none is no harm."""
    monkeypatch.setattr(Sieve.__init__, "__defaults__", (2_000,))
    with zpipe.Pipeline(1, unique=True) as pipe:
        results = pipe.map(chores.held, [gate] * 5_000)
        wait_until(lambda: pipe._engine._ventilator.ledger.next >= 2_000)
        pipe.resize(2)
        wait_until(lambda: pipe.workers == 2)
        Path(gate).touch()
        assert len(list(results)) == 5_000


@HOW
def test_a_chain_runs_each_stages_equal_items_once(tmp_path: Path, how: dict[str, Any]) -> None:
    """A stage's items are told apart from another's, and single calls go on between them."""
    path = str(tmp_path / "ran")
    with zpipe.Pipeline(unique=True, **how) as pipe:
        stages = pipe.starmap(note, [(path, n % 4) for n in range(40)]).map(str).flat_map(list)
        assert pipe.submit(note, path, 7, more=1).result() == 50
        assert list(stages) == ["0", "1", "4", "9"] * 10
        assert pipe.submit(note, path, 7, more=1).result() == 50
    assert sorted((tmp_path / "ran").read_text().splitlines()) == ["0 0", "1 0", "2 0", "3 0", "7 1"]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """At once."""
    with pytest.raises(TypeError, match="unique"):
        zpipe.Pipeline(1, unique="x")  # type: ignore[arg-type]
    for given in ({"cache_ttl": 1.0}, {"cache": "c", "cache_ttl": 0}):
        with pytest.raises(ValueError, match="cache"):
            zpipe.Pipeline(**given)  # type: ignore[arg-type]
    (tmp_path / "c").write_text("x")
    (tmp_path / "c").chmod(0o622)
    with pytest.raises(zpipe.errors.UsageError, match="written by others"):
        zpipe.Pipeline(1, cache=tmp_path / "c")
    with pytest.raises(ValueError, match="cache is empty"):
        zpipe.Pipeline(1, cache="")


def test_what_was_found_is_kept_while_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that idles and is killed has lost nothing: whatever waits to be written is due soon."""
    monkeypatch.setattr("zpipe.caching.cache.LATE", 60.0)
    with zpipe.Pipeline(cache=tmp_path / "c", inline=True) as pipe:
        assert pipe.submit(abs, -1).result() == 1
        ventilator, cache = pipe._engine._ventilator, Outcomes(str(tmp_path / "c"))
        pipe.submit(abs, -1).result()  # its receipt has been seen to
        assert cache.count() == 0
        monkeypatch.setattr("zpipe.caching.cache.LATE", 0.0)
        ventilator.deadline()
        assert cache.count() == 1
        cache.close()


def test_what_is_known_is_told_at_once_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for: a call that is answered takes no longer than one that is run."""
    waits: list[float | None] = []
    with zpipe.Pipeline(unique=True, inline=True) as pipe:
        assert pipe.submit(abs, -5).result() == 5
        wait = pipe._engine._loop.wait
        monkeypatch.setattr(pipe._engine._loop, "wait", lambda timeout: (waits.append(timeout), wait(0))[1])
        assert pipe.submit(abs, -5).result() == 5
        monkeypatch.undo()
    assert waits
    assert not any(waits)
