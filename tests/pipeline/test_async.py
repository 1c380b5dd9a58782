"""The asynchronous face: the event loop goes on while workers work, and cancelling reaches them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import operator
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import PATIENCE

import zpipe
from zpipe.api.async_calls import Door

Body = Callable[[zpipe.AsyncPipeline], Awaitable[Any]]


class Source:
    """Counts 0, 1, 2 and so on, asynchronously, and knows how many were pulled and whether it was left."""

    def __init__(self, stop: int | None = None, *, waits: bool = False, fails: bool = False) -> None:
        self.pulled = 0
        self.left = False
        self._stop, self._waits, self._fails = stop, waits, fails

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            while self._stop is None or self.pulled < self._stop:
                if self._waits:
                    await asyncio.sleep(0)
                self.pulled += 1
                yield self.pulled - 1
            if self._fails:
                raise TimeoutError("of the source itself")
        finally:
            self.left = True


def within(body: Body, workers: int = 2) -> Any:
    """Run a coroutine function on a pipeline of its own, and return its result."""

    async def main() -> Any:
        async with zpipe.AsyncPipeline(workers=workers) as pipe:
            return await body(pipe)

    return asyncio.run(asyncio.wait_for(main(), PATIENCE))


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go on until the condition holds."""
    while not condition():
        await asyncio.sleep(0.005)


def test_submits_are_awaited_one_by_one_and_together() -> None:
    """Arguments arrive, results come back, and so do exceptions with the worker's traceback."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        assert await pipe.submit(chores.echo, 1, self=2, fn=3) == ((1,), {"self": 2, "fn": 3})
        assert await asyncio.gather(*(pipe.submit(chores.double, n) for n in range(500))) == list(range(0, 1000, 2))
        with pytest.raises(RuntimeError, match="123") as caught:
            await pipe.submit(chores.late_failure)
        assert isinstance(caught.value.__cause__, zpipe.RemoteTraceback)
        with pytest.raises(TypeError, match="lock"):
            await pipe.submit(chores.double, threading.Lock())
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pipe.submit(next, iter(()))

    within(body)


def test_maps_give_what_the_builtin_gives() -> None:
    """In order or not, over plain and asynchronous iterables, finite or endless, whatever the chunks."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        wanted = list(range(0, 1400, 2))
        for how in ({}, {"chunksize": 70}, {"buffersize": 50}, {"chunksize": 3000}):
            for items in (range(700), iter(range(700)), Source(700), Source(700, waits=True)):
                assert [value async for value in pipe.map(chores.double, items, **how)] == wanted
        assert sorted([value async for value in pipe.map(chores.double, Source(700), ordered=False)]) == wanted
        assert [value async for value in pipe.map(chores.double, Source(0))] == []
        for endless in (itertools.count(), Source()):
            found = pipe.map(chores.double, endless)
            assert [await anext(found) for _ in range(1000)] == list(range(0, 2000, 2))
            await found.aclose()

    within(body)


def test_failed_items_are_raised_skipped_or_collected() -> None:
    """An exception ends the map, unless it is to be left out or taken as a value; what can't be is refused."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        failing = pipe.map(chores.fail_on_three, range(9))
        assert [await anext(failing) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="three"):
            await anext(failing)
        with pytest.raises(StopAsyncIteration):
            await anext(failing)
        skipped = pipe.map(chores.fail_on_three, Source(6), on_error="skip")
        assert [value async for value in skipped] == [0, 1, 2, 4, 5]
        collected = [value async for value in pipe.map(chores.fail_on_three, range(5), on_error="collect")]
        assert [type(value) for value in collected] == [int, int, int, KeyError, int]
        with pytest.raises(ValueError, match="on_error"):
            await anext(pipe.map(chores.double, [1], on_error="ignore"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="chunksize"):
            await anext(pipe.map(chores.double, [1], chunksize=0))

    within(body)


@pytest.mark.parametrize("waits", [False, True])
def test_a_source_that_fails_does_so_after_the_results_of_what_it_gave(waits: bool) -> None:
    """Nothing that was pulled is lost, and a TimeoutError of the source's own is not taken for another."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        found = pipe.map(chores.double, Source(700, waits=waits, fails=True))
        assert [await anext(found) for _ in range(700)] == list(range(0, 1400, 2))
        with pytest.raises(TimeoutError, match="of the source itself"):
            await anext(found)

    within(body)


def test_folds_and_searches() -> None:
    """Both take endless or asynchronous sources; a search stops there."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        assert await pipe.reduce(chores.double, Source(3000), operator.add) == 3000 * 2999
        assert await pipe.reduce(chores.double, [], operator.add, 5) == 5
        with pytest.raises(TypeError, match="no initial value"):
            await pipe.reduce(chores.fail_on_three, [3], operator.add, on_error="skip")
        assert await pipe.first(chores.double, Source(), lambda value: value > 100, ordered=True) == 102
        assert await pipe.first(chores.double, [0, 0], default="none") == "none"
        with pytest.raises(LookupError):
            await pipe.first(chores.double, [0, 0])

    within(body)


def test_no_more_is_pulled_than_the_buffer_allows() -> None:
    """However long the others have their turn, an endless source is left alone until results are taken."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        for source in (Source(), Source(waits=True)):
            found = pipe.map(chores.double, source, buffersize=4)
            for taken in range(1, 20):
                await anext(found)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert source.pulled <= taken + 4
            await found.aclose()
            assert source.left

    within(body)


def test_breaking_out_drops_the_rest(tmp_path: Path, gate: str) -> None:
    """Items that no worker has are not run once nobody wants their results."""
    notes = tmp_path / "notes"

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        calls = [functools.partial(chores.note, str(notes), 0)] + [functools.partial(chores.held, gate)] * 20
        calls += [functools.partial(chores.note, str(notes), 1)] * 20_000
        async for _ in pipe.map(chores.call, calls, chunksize=1):
            break
        Path(gate).touch()

    within(body)
    assert 1 <= len(notes.read_text().splitlines()) < 20_001


def test_cancelling_whoever_waits_cancels_what_no_worker_has(tmp_path: Path, gate: str) -> None:
    """A cancelled task's call is never run, and a cancelled map is left at once."""
    notes = tmp_path / "notes"
    source = Source()

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        first = asyncio.create_task(pipe.submit(chores.held, gate, "first"))
        await until(lambda: pipe._pipe._engine._ventilator.ledger.in_flight)
        waiting = [asyncio.create_task(pipe.submit(chores.note, str(notes), n)) for n in range(3000)]
        mapping = asyncio.create_task(pipe.reduce(chores.double, source, operator.add))
        await until(lambda: source.pulled)
        for task in (*waiting, mapping):
            task.cancel()
        done = await asyncio.gather(*waiting, mapping, return_exceptions=True)
        assert {type(outcome) for outcome in done} == {asyncio.CancelledError}
        assert source.left
        Path(gate).touch()
        assert await first == "first"

    within(body, workers=1)
    assert "2999" not in (notes.read_text().splitlines() if notes.exists() else [])


def test_the_loop_goes_on_while_everything_waits(tmp_path: Path, gate: str) -> None:
    """Starting, waiting for results and leaving: each lets the coroutine that all wait for have its turn."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def opener(*started: Path) -> None:
        await until(lambda: all(path.exists() for path in started))
        Path(gate).touch()

    def hold(started: str, gate: str) -> str:
        chores.note(started)
        return str(chores.held(gate, "held"))

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        async with zpipe.AsyncPipeline(workers=1) as pipe:
            assert turns
            opening = asyncio.create_task(opener(tmp_path / "one"))
            assert [v async for v in pipe.map(chores.call, [lambda: hold(str(tmp_path / "one"), gate)])] == ["held"]
            await opening
            Path(gate).unlink()
            opening = asyncio.create_task(opener(tmp_path / "two"))
            last = asyncio.create_task(pipe.submit(hold, str(tmp_path / "two"), gate))
            await asyncio.sleep(0)
        assert last.done() or await last == "held"
        await opening
        ticking.cancel()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_waiting_takes_no_threads(gate: str) -> None:
    """Hundreds of calls and several maps that all wait have the threads of one."""

    async def body(pipe: zpipe.AsyncPipeline) -> None:
        before = threading.active_count()
        calls = [asyncio.create_task(pipe.submit(chores.held, gate, n)) for n in range(300)]
        maps = [asyncio.create_task(pipe.reduce(chores.double, range(10), operator.add)) for _ in range(20)]
        await until(lambda: pipe._pipe._engine._ventilator.ledger.in_flight)
        assert threading.active_count() == before
        Path(gate).touch()
        assert await asyncio.gather(*calls) == list(range(300))
        assert await asyncio.gather(*maps) == [90] * 20

    within(body)


def test_the_loop_is_woken_once_for_many_rings() -> None:
    """What rings before the loop has its turn is seen in that turn; a closed loop is no error."""
    woken, seen = [], []

    class Loop:
        def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
            if len(woken) == 2:
                raise RuntimeError("Event loop is closed")
            woken.append(call)

    door = Door(Loop())  # type: ignore[arg-type]
    for n in range(1000):
        door.ring(lambda n=n: seen.append(n))
    assert len(woken) == 1
    woken[0]()
    assert seen == list(range(1000))
    door.ring(lambda: door.ring(lambda: seen.append("again")))
    assert len(woken) == 2
    woken[1]()
    assert seen[-1] == 999


def test_it_lives_in_its_with_block() -> None:
    """It can't be used before, after, or twice; what it is told is what `Pipeline` is told."""

    async def main() -> None:
        pipe = zpipe.AsyncPipeline(1, bind="tcp://127.0.0.1:0")
        with pytest.raises(RuntimeError, match="async with"):
            await pipe.submit(chores.double, 1)
        async with pipe:
            assert pipe.url is not None
            pipe.resize(2)
            assert await pipe.submit(os.getpid) != os.getpid()
            assert pipe.workers >= 1
        for late in (pipe.submit(chores.double, 1), anext(pipe.map(chores.double, [1]))):
            with pytest.raises(RuntimeError, match="after shutdown"):
                await late
        with pytest.raises(RuntimeError, match="before"):
            await pipe.__aenter__()
        with pytest.raises(ValueError, match="workers"):
            await zpipe.AsyncPipeline(-1).__aenter__()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_shutdown_can_cancel_what_waits(gate: str) -> None:
    """Calls that no worker has end as cancelled ones do; a map is told that it was cut."""

    async def main() -> None:
        async with zpipe.AsyncPipeline(workers=1) as pipe:
            held = asyncio.create_task(pipe.submit(chores.held, gate, "held"))
            await until(lambda: pipe._pipe._engine._ventilator.ledger.in_flight)
            waiting = [asyncio.create_task(pipe.submit(chores.double, n)) for n in range(3000)]
            await asyncio.sleep(0)
            await pipe.shutdown(wait=False, cancel_futures=True)
            Path(gate).touch()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert type(outcomes[-1]) is asyncio.CancelledError
            assert not any(isinstance(outcome, futures.CancelledError) for outcome in outcomes)
            assert await held == "held"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
