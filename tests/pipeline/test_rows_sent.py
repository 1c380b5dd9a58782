"""Quick chunks of a fixed size travel in rows; nobody who asks for one item at a time can tell, but by the speed."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import Zpipe, wait_until

import zpipe
from zpipe.core.ledger import Ledger

MANY = 3_000
"""Items after which it is known that they are quick, whatever else the machine does."""


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many chunks the rows had that were sent; and all items count as quick, however busy the machine is."""
    found: list[int] = []
    issue, begin = Ledger.issue, Ledger.__init__

    def issued(ledger: Ledger, *given: Any, **options: Any) -> Any:
        chunk = issue(ledger, *given, **options)
        if chunk.grain:
            found.append(len(chunk) // chunk.grain)
        return chunk

    def begun(ledger: Ledger, *given: Any, **options: Any) -> None:
        begin(ledger, *given, **options)
        ledger.most = lambda _chunker, lane: min(16, lane.credit)

    monkeypatch.setattr(Ledger, "issue", issued)
    monkeypatch.setattr(Ledger, "__init__", begun)
    return found


@pytest.fixture(params=[1, 3])
def chunked(rows: list[int], mark: str, request: pytest.FixtureRequest) -> Iterator[zpipe.Pipeline]:
    """Two workers that are sent so many items at a time."""
    with zpipe.Pipeline(2, chunk=request.param) as made:
        yield made
    assert rows, "nothing has travelled as a row"


@pytest.mark.parametrize("wrap", [list, iter])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_item_has_its_result(chunked: zpipe.Pipeline, ordered: bool, wrap: Callable[[Any], Any]) -> None:
    """Once, of lists and of lazy iterables, in order if that is asked for."""
    found = list(chunked.map(abs, wrap(list(range(-MANY, 0))), ordered=ordered))
    assert (found if ordered else sorted(found, reverse=True)) == list(range(MANY, 0, -1))


def test_a_failure_is_its_items_own(chunked: zpipe.Pipeline) -> None:
    """In a row as anywhere."""
    found = list(chunked.map(partial(divmod, 12), range(-300, 300), on_error="collect"))
    assert [n for n, value in enumerate(found, -300) if isinstance(value, ZeroDivisionError)] == [0]
    assert found[:300] == [divmod(12, n) for n in range(-300, 0)]


@pytest.mark.parametrize("wrap", [list, iter])
def test_an_item_that_cannot_be_sent_fails_alone(rows: list[int], mark: str, wrap: Callable[[Any], Any]) -> None:
    """As does one that can't be read where it arrives; those around them have their results."""
    items: list[Any] = list(range(600))
    items[307] = (n for n in ())
    items[500] = chores.Bomb()
    with zpipe.Pipeline(2, chunk=1) as pipe:
        found = list(pipe.map(chores.double, wrap(items), on_error="collect"))
    assert {n for n, value in enumerate(found) if isinstance(value, BaseException)} == {307, 500}
    assert [value for n, value in enumerate(found) if n not in (307, 500)] == [
        2 * n for n in range(600) if n not in (307, 500)
    ]
    assert rows


def test_large_items_travel_by_themselves(chunked: zpipe.Pipeline) -> None:
    """Between the others of their row, there and back."""
    items = [bytes(200_000 if n % 50 == 7 else n) for n in range(400)]
    assert list(chunked.map(chores.double, items)) == [item * 2 for item in items]


def test_what_is_done_comes_while_another_item_takes_its_time(rows: list[int], mark: str, gate: str) -> None:
    """With one worker all that it had done before; with two all others, those that came in one row with it, too."""
    for workers in (1, 2):
        here, found = f"{gate}{workers}", list[int]()
        with zpipe.Pipeline(workers, chunk=1) as pipe:
            order = itertools.chain(range(1, MANY + 1), [0], range(MANY + 1, 2 * MANY + 1))
            results = pipe.map(partial(chores.held_and_noted_unless, here), order, ordered=False)
            taker = threading.Thread(target=found.extend, args=(results,))
            taker.start()
            try:
                noted = Path(f"{here} noted")
                wait_until(noted.exists, lambda: "the item that takes its time")
                wanted = int(noted.read_text()) if workers == 1 else 2 * MANY
                wait_until(lambda: len(found) >= wanted, lambda: f"{wanted} results, {len(found)} are here")  # noqa: B023
            finally:
                Path(here).touch()
                taker.join()
        assert sorted(found) == list(range(2 * MANY + 1))
    assert rows


def test_whoever_asks_is_told_of_chunks_and_not_of_rows(rows: list[int], mark: str, gate: str) -> None:
    """While an item holds up a worker, each chunk that waits for it counts."""
    with zpipe.Pipeline(1, chunk=1) as pipe:
        ventilator = pipe._engine._ventilator

        def told() -> bool:
            with contextlib.suppress(RuntimeError):  # the pipeline's thread is at work on what is counted
                return ventilator.state().in_flight > ventilator.ledger.in_flight
            return False

        results = pipe.map(partial(chores.held_and_noted_unless, gate), [*range(1, MANY), 0, *range(1, MANY)])
        try:
            wait_until(Path(f"{gate} noted").exists, "the item that takes its time")
            wait_until(told, lambda: f"all chunks to be told of, not {ventilator.state().in_flight}")
        finally:
            Path(gate).touch()
        assert sorted(results) == sorted([*range(1, MANY), 0, *range(1, MANY)])


def test_only_what_ran_is_charged_when_a_worker_dies(rows: list[int], mark: str) -> None:
    """The item is given up; of the others one for each worker lost may have had another attempt, the likely one."""
    with zpipe.Pipeline(2, chunk=1) as pipe:
        found = list(pipe.map(chores.attempt_unless_3, range(400), on_error="collect"))
        lost = pipe._engine.lost
    assert isinstance(found.pop(3), zpipe.WorkerLost)
    assert sum(attempts - 1 for attempts in found) <= lost
    assert rows


def test_chunks_of_a_row_share_nothing(rows: list[int], mark: str) -> None:
    """One object sent in several chunks is several."""
    box: list[int] = []
    with zpipe.Pipeline(2, chunk=1) as pipe:
        assert list(pipe.map(chores.put_in, [box] * 1000)) == [[1]] * 1000
    assert rows


def test_coroutine_functions_and_their_likes(rows: list[int], mark: str) -> None:
    """Their items run side by side, whatever came before; nor are other calls hindered."""
    with zpipe.Pipeline(2, chunk=1) as pipe:
        assert list(pipe.map(abs, range(500))) == list(range(500))
        assert list(pipe.map(chores.awaited, range(500))) == list(range(500))
        assert list(pipe.map(abs, range(500))) == list(range(500))
        assert [future.result() for future in [pipe.submit(abs, n) for n in range(300)]] == list(range(300))
    assert rows


def test_lines_one_by_one(nodes: Zpipe) -> None:
    """A command that is given --chunk 1, with a journal and without."""
    (nodes.folder / "in").write_text("".join(f"{n}\n" for n in range(5_000)))
    (nodes.folder / "task.py").write_text("def twice(line):\n    return 2 * int(line)\n")
    command = ("run", "task.py:twice", "--input", "in", "--chunk", "1", "--workers", "2")
    for more in ((), ("--ordered",), ("--journal", "j")):
        output = nodes.folder / f"out{more[:1]}"
        nodes.run(*command, *more, "--output", output.name)
        found = [json.loads(line) for line in output.read_text().splitlines()]
        assert sorted(record["value"] for record in found) == [2 * n for n in range(5_000)]
