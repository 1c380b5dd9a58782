"""Coroutine functions in a script: many calls at a time in one worker, or beside the script itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import pytest
from pipeline import waiters

import zpipe
from zpipe.errors import ItemTimeout

WAYS: dict[str, dict[str, Any]] = {"worker": {"workers": 1}, "inline": {"inline": True}}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How the pipeline is made."""
    waiters.running.clear()
    return WAYS[request.param]


def test_calls_run_side_by_side(way: dict[str, Any]) -> None:
    """As many as `concurrency`, of a list, of a lazy iterable, and of single calls."""
    with zpipe.Pipeline(concurrency=150, **way) as pipe:
        assert list(pipe.map(waiters.meet, range(150))) == list(range(150))
        assert sorted(pipe.imap_unordered(waiters.meet_again, iter(range(150)))) == list(range(150))
        futures = [pipe.submit(waiters.meet_at_last, item) for item in range(150)]
        done = concurrent.futures.wait(futures, timeout=60).done
        assert sorted(future.result() for future in done) == list(range(150))


def test_ordinary_functions_run_beside_them(way: dict[str, Any]) -> None:
    """While others wait, as long as there is room; and no more run at a time than there is room for."""
    with zpipe.Pipeline(concurrency=4, **way) as pipe:
        waiting = [pipe.submit(waiters.until_told, item) for item in range(3)]
        assert pipe.submit(waiters.tell).result(timeout=60) == "told"
        assert [future.result(timeout=60) for future in waiting] == [0, 1, 2]
        assert max(pipe.map(waiters.count, range(50))) == 4


def test_an_initializer_shares_their_loop(way: dict[str, Any]) -> None:
    """A coroutine function too: what it makes of the loop, and of context variables, is there for the calls."""
    with zpipe.Pipeline(initializer=waiters.begin, initargs=(7,), **way) as pipe:
        assert list(pipe.map(waiters.has_begun, range(3))) == [(True, 7, index) for index in range(3)]


def test_each_has_its_own_context(way: dict[str, Any]) -> None:
    """What a call sets there is not seen by another."""
    with zpipe.Pipeline(**way) as pipe:
        assert list(pipe.map(waiters.sets_context, range(20))) == [0] * 20


def test_exceptions_of_all_kinds_fail_their_call_alone(way: dict[str, Any]) -> None:
    """Those that would end a loop included; and one that runs for too long."""
    with zpipe.Pipeline(item_timeout=5.0, **way) as pipe:
        found = list(pipe.map(waiters.raises, range(7), on_error="collect"))
    kinds = [KeyError, SystemExit, asyncio.CancelledError, RuntimeError, zpipe.Reject, ItemTimeout]
    assert [type(error) for error in found[:6]] == kinds
    assert found[6] == 6


def test_the_first_result_that_satisfies(way: dict[str, Any]) -> None:
    """The predicate sees what was awaited."""
    with zpipe.Pipeline(**way) as pipe:
        assert pipe.first(waiters.answers_on_three, range(10), predicate=lambda found: found == 3) == 3


def test_in_an_event_loop(way: dict[str, Any]) -> None:
    """AsyncPipeline takes them as any pipeline does."""

    async def main() -> list[Any]:
        async with zpipe.AsyncPipeline(concurrency=150, **way) as pipe:
            single = await asyncio.gather(*(pipe.submit(waiters.meet, item) for item in range(150)))
            return [single, [value async for value in pipe.map(abs, [-1, 2])]]

    assert asyncio.run(main()) == [list(range(150)), [1, 2]]


def test_shutdown_waits_for_them_or_cancels(way: dict[str, Any]) -> None:
    """What was handed over is done; what was not begun can be cancelled."""
    pipe = zpipe.Pipeline(concurrency=2, **way)
    futures = [pipe.submit(waiters.after_a_moment, item) for item in range(10)]
    pipe.shutdown()
    assert [future.result() for future in futures] == list(range(10))
    with pytest.raises(RuntimeError, match="after shutdown"):
        pipe.submit(waiters.after_a_moment, 1)


def test_nonsense() -> None:
    """Is refused."""
    with pytest.raises(ValueError, match="concurrency=0 can't be"):
        zpipe.Pipeline(concurrency=0)
