"""What is said of calls, and what a pipeline is held to: with real workers, and without any."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import operator
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import PATIENCE, Zpipe, wait_until

import zpipe
from zpipe.errors import Expired, UsageError


def lines(path: Path) -> list[str]:
    """What was noted in a file so far."""
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A file in which tasks note that they run."""
    return tmp_path / "noted"


@pytest.fixture
def busy(noted: Path, gate: str) -> Iterator[tuple[zpipe.Pipeline, Callable[[], None]]]:
    """A pipeline whose only worker runs something until it is let go."""
    with zpipe.Pipeline(1, chunk=1) as pipe:
        first = pipe.submit(chores.held, gate)
        wait_until(first.running, "the first call runs")
        try:
            yield pipe, Path(gate).touch
        finally:
            Path(gate).touch()


def test_a_call_with_priority_overtakes_all_that_waits(
    busy: tuple[zpipe.Pipeline, Callable[[], None]], noted: Path
) -> None:
    """Whatever call it is of, and whichever thread made that."""
    pipe, let_go = busy
    note = partial(chores.note, str(noted))
    plain = [pipe.submit(note, f"plain{n}") for n in range(5)]
    mapped = pipe.map(note, [f"mapped{n}" for n in range(5)])
    low = pipe.options(priority=-1).submit(note, "low")
    high: list[Any] = []

    def ask() -> None:
        high.append(pipe.options(priority=1).map(note, ["high0", "high1"]))
        high.append(pipe.options(priority=5).submit(note, "highest"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    let_go()
    assert [future.result(PATIENCE) for future in [*plain, low]] == [*(f"plain{n}" for n in range(5)), "low"]
    assert list(mapped) == [f"mapped{n}" for n in range(5)]
    assert list(high[0]) == ["high0", "high1"]
    ran = lines(noted)
    assert ran[:3] == ["highest", "high0", "high1"]
    assert ran[-1] == "low"
    assert len(ran) == 5 + 5 + 4


def test_a_function_says_what_each_item_claims(busy: tuple[zpipe.Pipeline, Callable[[], None]], noted: Path) -> None:
    """Called with what the item's own is called with, in all kinds of calls; results come in the items' order."""
    pipe, let_go = busy
    note = partial(chores.note, str(noted))
    by_self = pipe.options(priority=lambda item: item)
    listed, lazy = by_self.map(note, [1, 9, 5]), by_self.imap_unordered(note, iter([2, 8]))
    starred = pipe.options(priority=lambda path, item: item).map(chores.note, [str(noted)] * 2, [3, 7])
    single = pipe.options(priority=lambda path, text: text).submit(chores.note, str(noted), text=6)
    let_go()
    assert (list(listed), sorted(lazy), list(starred), single.result(PATIENCE)) == ([1, 9, 5], [2, 8], [3, 7], 6)
    assert lines(noted) == [str(n) for n in (9, 8, 7, 6, 5, 3, 2, 1)]


def test_what_is_delayed_is_not_begun_before(pipe: zpipe.Pipeline) -> None:
    """Delays and times in all their spellings; others go on meanwhile."""
    began = time.monotonic()
    later = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    found = [
        pipe.options(delay=0.3).submit(chores.begun),
        pipe.options(delay="300ms").submit(chores.begun),
        pipe.options(delay=timedelta(seconds=0.3)).submit(chores.begun),
        pipe.options(eta=later).submit(chores.begun),
        pipe.options(eta=later.isoformat()).submit(chores.begun),
    ]
    mapped = pipe.options(delay=lambda item: item / 10).map(chores.begun, [3, 0, 1])
    assert pipe.submit(chores.double, 2).result(PATIENCE) == 4
    assert min(future.result(PATIENCE) for future in found) >= began + 0.29
    assert [at >= began + wait for at, wait in zip(mapped, (0.3, 0, 0.1), strict=True)] == [True] * 3
    assert pipe.options(eta=0).submit(chores.double, 2).result(PATIENCE) == 4


def test_an_item_that_is_not_started_in_time_expires(
    busy: tuple[zpipe.Pipeline, Callable[[], None]], noted: Path
) -> None:
    """Its future raises Expired, and so does its place in a map; it is not run."""
    pipe, let_go = busy
    note = partial(chores.note, str(noted))
    soon = pipe.options(ttl=0.02)
    future, mapped = soon.submit(note, "late"), soon.map(note, ["a", "b"], on_error="collect")
    patient = pipe.options(ttl="1h").submit(note, "patient")
    until = time.monotonic() + 0.1
    wait_until(lambda: time.monotonic() > until, "they expire")
    let_go()
    with pytest.raises(Expired, match=r"it was not started within 0\.02 s"):
        future.result(PATIENCE)
    assert [type(error) for error in mapped] == [Expired, Expired]
    assert patient.result(PATIENCE) == "patient"
    assert lines(noted) == ["patient"]


def test_items_of_a_key_run_one_at_a_time_and_in_order(pipe: zpipe.Pipeline, tmp_path: Path) -> None:
    """Of submitted calls and of maps, on two workers."""
    one, many = tmp_path / "one", tmp_path / "many"
    held = pipe.options(key="one")
    futures = [held.submit(chores.between, str(one), n) for n in range(20)]
    paths = [f"{many}{n % 3}" for n in range(45)]
    mapped = pipe.options(key=lambda path, _: path).map(chores.between, paths, range(45))
    assert [future.result(PATIENCE) for future in futures] == list(range(20))
    assert list(mapped) == list(range(45))
    assert lines(one) == [sign + str(n) for n in range(20) for sign in "+-"]
    for rest in range(3):
        assert lines(Path(f"{many}{rest}")) == [sign + str(n) for n in range(rest, 45, 3) for sign in "+-"]


def test_a_pipeline_keeps_to_its_rate() -> None:
    """Over all workers and calls: none is begun before the rate allows as many."""
    began = time.monotonic()
    with zpipe.Pipeline(2, rate="20/s", burst=2) as pipe:
        mapped, single = pipe.map(chores.begun, range(10)), [pipe.submit(chores.begun) for _ in range(2)]
        starts = sorted([*mapped, *(future.result(PATIENCE) for future in single)])
    for n, at in enumerate(starts):
        assert at >= began + (n + 1 - 2) / 20 - 0.01


def test_no_more_are_at_workers_than_may_be(tmp_path: Path) -> None:
    """Of the job, and of each rate key."""
    path = tmp_path / "all"
    with zpipe.Pipeline(3, max_in_flight=1) as pipe:
        assert sorted(pipe.imap_unordered(partial(chores.between, str(path)), range(12))) == list(range(12))
    assert [line[0] for line in lines(path)] == ["+", "-"] * 12
    with zpipe.Pipeline(3, max_in_flight_per_key=1, ageing="1m") as pipe:
        paths = [f"{path}{n % 2}" for n in range(16)]
        assert len(list(pipe.options(rate_key=lambda path, _: path).map(chores.between, paths, range(16)))) == 16
    for rest in range(2):
        assert [line[0] for line in lines(Path(f"{path}{rest}"))] == ["+", "-"] * 8


def test_items_go_to_workers_that_have_what_they_require(nodes: Zpipe) -> None:
    """Workers here have a pipeline's labels, those elsewhere their own; what none has waits for one."""
    with zpipe.Pipeline(1, bind="tcp://127.0.0.1:0", labels=["cpu=x86"]) as pipe:
        assert pipe.url is not None
        mixed = pipe.options(requires=lambda item: "gpu" if item % 2 else ["cpu", "cpu=x86"])
        rows = mixed.map(chores.with_pid, range(20))
        here = list(itertools.islice(mixed.imap_unordered(chores.with_pid, range(20)), 10))
        assert {item % 2 for item, _ in here} == {0}
        root = str(Path(__file__).parents[1])
        node = nodes.start("worker", pipe.url, "--slots", 1, "--label", "gpu=1", PYTHONPATH=root)
        found = list(rows)
        assert [item for item, _ in found] == list(range(20))
        odd, even = ({pid for item, pid in found if item % 2 == rest} for rest in (1, 0))
        assert even == {pid for _, pid in here}
        assert len(odd) == len(even) == 1
        assert odd != even
    node.ended(0)


def test_what_waits_can_be_cancelled_and_closed() -> None:
    """Leaving the pipeline does not wait for it, however far off it is."""
    with zpipe.Pipeline(1) as pipe:
        far = pipe.options(delay=1e6)
        futures = [far.submit(chores.double, n) for n in range(3)]
        nowhere = pipe.options(requires="gpu").submit(chores.double, 1)
        results = far.map(chores.double, range(100))
        endless = far.imap_unordered(chores.double, itertools.count())
        assert pipe.submit(chores.double, 4).result(PATIENCE) == 8
        assert all(future.cancel() for future in [*futures, nowhere])
        assert not futures[0].running()
        results.close()
        endless.close()
    with pytest.raises(concurrent.futures.CancelledError):
        nowhere.result()


def test_shutdown_waits_for_what_is_delayed_or_cancels_it() -> None:
    """As for any call that is pending."""
    with zpipe.Pipeline(1) as pipe:
        began = time.monotonic()
        single, mapped = pipe.options(delay=0.2).submit(chores.begun), pipe.options(delay=0.2).map(chores.begun, [1])
    assert single.done()
    assert single.result() >= began + 0.2
    assert next(mapped) >= began + 0.2
    pipe = zpipe.Pipeline(1)
    assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
    futures = [pipe.options(delay=1e6).submit(chores.double, n) for n in range(3)]
    dropped = pipe.options(delay=1e6).map(chores.double, [1])
    pipe.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert list(dropped) == []
    pipe = zpipe.Pipeline(1)
    early = pipe.options(delay=1e6).submit(chores.double, 1)
    pipe.shutdown(cancel_futures=True)  # perhaps ahead of the worker's start
    assert early.cancelled()


def test_an_endless_iterable_is_pulled_a_bounded_way_ahead(pipe: zpipe.Pipeline) -> None:
    """Though all of it waits for its time, and be the pipeline's calls nested in each other."""
    pulled = itertools.count()
    source = (next(pulled) for _ in itertools.count())
    with pipe.options(delay=0.05).imap_unordered(chores.double, source) as results:
        assert len(list(itertools.islice(results, 300))) == 300
        assert next(pulled) <= 20_000
    chained = pipe.options(delay=0.01).map(chores.double, itertools.count()).map(chores.double)
    assert list(itertools.islice(chained, 70)) == [4 * n for n in range(70)]
    chained.close()


def test_stages_after_it_have_its_priority_alone(busy: tuple[zpipe.Pipeline, Callable[[], None]], noted: Path) -> None:
    """Of the other things, each holds for the stage that it was said of."""
    pipe, let_go = busy
    note = partial(chores.note, str(noted))
    plain = pipe.map(note, range(3))
    high = pipe.options(priority=1, key="k").map(note, ["a"]).map(chores.double).flat_map(list)
    by_item = pipe.options(priority=len, ttl=60).map(note, ["x"]).map(operator.not_)
    let_go()
    assert (list(plain), list(high), list(by_item)) == ([0, 1, 2], ["a", "a"], [False])
    assert set(lines(noted)[:2]) == {"a", "x"}


def test_all_other_calls(pipe: zpipe.Pipeline) -> None:
    """A view has what a pipeline has; wishes add up, and can be taken back."""
    view = pipe.options(priority=3)
    assert view.reduce(chores.double, range(5), operator.add, 0) == 20
    assert view.first(chores.double, range(10), lambda value: value > 4, ordered=True) == 6
    assert list(view.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
    assert list(view.options(key="k", priority=None).imap(chores.double, range(3))) == [0, 2, 4]
    assert pipe.options().submit(chores.double, 1).result(PATIENCE) == 2
    assert sum(view.map(chores.double, range(10_000))) == 99_990_000
    assert sum(view.options(priority=lambda n: -n).map(chores.double, range(3_000))) == 8_997_000
    assert view.submit(chores.echo, 1, a=2).result(PATIENCE) == ((1,), {"a": 2})


def test_many_threads_say_what_they_like(pipe: zpipe.Pipeline) -> None:
    """Each gets its own results, whatever others ask for."""

    def ask(n: int) -> list[int]:
        view = pipe.options(priority=n % 3, key=n % 4 if n % 2 else None)
        single: Future[int] = view.submit(chores.double, n)
        return [*view.map(chores.double, range(n)), single.result(PATIENCE)]

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, range(30))) == [[*range(0, 2 * n, 2), 2 * n] for n in range(30)]


def test_failures_and_deaths_are_as_ever(tmp_path: Path) -> None:
    """An item is tried again within its key's order, and one that ends its workers fails alone."""
    path = tmp_path / "tries"
    with zpipe.Pipeline(2, retries=3, retry_delay=0.01) as pipe:
        view = pipe.options(key="k", priority=1)
        assert view.submit(chores.fails_until, (str(path), 2)).result(PATIENCE) == 2
        results = pipe.options(priority=lambda item: item).map(chores.die_on_three, range(6), on_error="collect")
        found = list(results)
    assert [value for value in found if isinstance(value, int)] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], zpipe.WorkerLost)


def test_a_function_that_fails_fails_its_item(pipe: zpipe.Pipeline) -> None:
    """Of a submitted call, the future; none else."""
    odd: Any = pipe.options(priority=lambda item: 1 / item)
    assert isinstance(odd.submit(chores.double, 0).exception(PATIENCE), ZeroDivisionError)
    found = list(odd.map(chores.double, [1, 0, 2], on_error="collect"))
    assert (found[0], type(found[1]), found[2]) == (2, ZeroDivisionError, 4)
    with pytest.raises(ValueError, match="priority 'x' is no number"):
        list(pipe.options(priority=str).map(chores.double, ["x"]))


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"priority": "high"}, "no number"),
        ({"delay": "soon"}, "no span of time"),
        ({"delay": 1, "eta": 5}, "give one"),
        ({"key": []}, "can't be told from others"),
        ({"rate_key": "x"}, "give the pipeline rate_per_key"),
    ],
)
def test_wishes_that_make_no_sense(pipe: zpipe.Pipeline, wishes: dict[str, Any], said: str) -> None:
    """They are refused where they are made."""
    with pytest.raises(ValueError, match=said):
        pipe.options(**wishes)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"rate": "fast"}, "no rate"),
        ({"burst": 2}, "without a rate"),
        ({"max_in_flight": 0}, "whole number from 1 on"),
        ({"ageing": 0}, "more than 0"),
        ({"labels": "gpu"}, "a list of labels"),
        ({"labels": ["a b"]}, "write NAME or NAME=VALUE"),
    ],
)
def test_limits_that_make_no_sense(limits: dict[str, Any], said: str) -> None:
    """No worker is started for them."""
    with pytest.raises(ValueError, match=said):
        zpipe.Pipeline(1, **limits)


def test_calls_of_which_nothing_is_said_cost_nothing() -> None:
    """What chooses is there from the first wish on, and not before."""
    with zpipe.Pipeline(1) as pipe:
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        assert list(pipe.options().map(chores.double, [1])) == [2]
        assert pipe._engine._work.docket is None
        assert pipe.options(priority=1).submit(chores.double, 1).result(PATIENCE) == 2
        assert pipe._engine._work.docket is not None


def test_coroutines_await_them(noted: Path) -> None:
    """All of it, in an event loop; who is cancelled gives up its call."""

    async def ask() -> None:
        async with zpipe.AsyncPipeline(1, max_in_flight=5) as pipe:
            view = pipe.options(priority=lambda item: item)
            assert await view.submit(chores.double, 2) == 4
            assert [value async for value in view.map(chores.double, range(5))] == [0, 2, 4, 6, 8]
            assert await view.options(delay=0.01).reduce(chores.double, range(5), operator.add) == 20
            assert await view.first(chores.double, range(9), ordered=True) == 2
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pipe.options(delay=1e6).submit(chores.note, str(noted)), 0.01)
            with pytest.raises(Expired):
                await pipe.options(ttl=0.01, requires="gpu").submit(chores.double, 1)

    asyncio.run(ask())
    assert not noted.exists()


def test_without_workers() -> None:
    """The same, run by whoever waits; a call whose time has not come does not hold up who submits it."""
    ran: list[Any] = []
    with zpipe.Pipeline(inline=True, labels=["gpu=1"], rate=1000) as pipe:
        view = pipe.options(priority=lambda item: item)
        assert list(view.map(ran.append, range(5))) == [None] * 5
        assert ran == [4, 3, 2, 1, 0]
        began = time.monotonic()
        late, far = pipe.options(delay=0.1).submit(chores.begun), pipe.options(delay=1e6).submit(chores.begun)
        assert not far.done()
        assert pipe.submit(chores.double, 1).result() == 2
        assert late.result() >= began + 0.1
        assert far.cancel()
        assert pipe.options(requires="gpu").submit(chores.double, 1).result() == 2
        with pytest.raises(UsageError, match="it requires tpu"):
            pipe.options(requires="tpu").submit(chores.double, 1).result()
        with pytest.raises(Expired):
            pipe.options(delay=0.01, ttl=0).submit(chores.double, 1).result()
        assert list(zpipe.map(chores.double, range(3), workers=1, rate=1000, max_in_flight=1)) == [0, 2, 4]
        left = pipe.options(delay=0.05).submit(ran.append, "left")
    assert left.done()
    assert ran[-1] == "left"
