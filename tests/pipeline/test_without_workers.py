"""A pipeline without workers: everything in the script's own process, ordinary functions in its own thread."""

from __future__ import annotations

import concurrent.futures
import operator
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores

import zpipe


def test_calls_and_maps() -> None:
    """What workers would give, in order and as it comes, of sequences and endless iterables; in this thread alone."""
    before = threading.active_count()
    with zpipe.Pipeline(inline=True) as pipe:
        future = pipe.submit(chores.echo, 1, a=2)
        assert future.done()
        assert future.result() == ((1,), {"a": 2})
        assert list(pipe.map(operator.add, [1, 2], [3, 4])) == [4, 6]
        assert sorted(pipe.imap_unordered(chores.double, iter(range(200)))) == list(range(0, 400, 2))
        assert pipe.reduce(chores.double, range(10), operator.add, 0) == 90
        assert pipe.first(chores.double, iter(int, 1), predicate=lambda value: value == 0) == 0
        assert len(concurrent.futures.wait([pipe.submit(abs, -1) for _ in range(5)]).done) == 5
        assert list(pipe.map(lambda _: threading.get_ident(), range(3))) == [threading.get_ident()] * 3
        assert threading.active_count() == before


def _count_up(numbers: Any) -> Any:
    numbers += 1
    return numbers


def test_arrays_are_copies_that_may_be_written_to() -> None:
    """Alone and with others, whatever their size; those of the script stay as they are, and so do results."""
    np = pytest.importorskip("numpy", reason="tells how NumPy's arrays are given to functions")
    for size in (10, 5_000, 100_000):
        arrays = [np.zeros(size) for _ in range(3)]
        with zpipe.Pipeline(inline=True) as pipe:
            for chunk in (1, 3):
                for made in pipe.map(_count_up, arrays, chunksize=chunk):
                    assert (made == 1).all()
                    made[0] = 2
        assert not any(array.any() for array in arrays)


def test_the_functions_are_the_scripts_own() -> None:
    """What they do to what they close over is seen; what they are given is a copy."""
    seen, given = [], [[1], [2]]
    with zpipe.Pipeline(inline=True, initializer=lambda: seen.append("begun")) as pipe:
        list(pipe.map(lambda item: seen.append(item) or item.append(0), given))
    assert seen == ["begun", [1, 0], [2, 0]]
    assert given == [[1], [2]]


def test_items_are_run_as_results_are_taken() -> None:
    """As in a loop; those that are left are run at the end."""
    seen: list[int] = []
    with zpipe.Pipeline(inline=True, chunk=1) as pipe:
        results = pipe.map(seen.append, range(1000))
        next(results)
        assert len(seen) < 1000
        lazy = pipe.map(seen.append, range(1000, 1003))
        results.close()
    assert {1000, 1001, 1002} <= set(seen)
    assert list(lazy) == [None] * 3


def test_exceptions_have_their_own_tracebacks(tmp_path: Path) -> None:
    """They are the very objects that were raised, after as many attempts as were wanted."""
    raised: list[BaseException] = []

    def fail(item: int) -> None:
        raised.append(KeyError(item))
        raise raised[-1]

    with zpipe.Pipeline(inline=True, retries=2, retry_delay=0.001) as pipe:
        with pytest.raises(KeyError) as caught:
            pipe.submit(fail, 3).result()
        assert caught.value is raised[2]
        assert "fail" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert caught.value.attempts == 3  # type: ignore[attr-defined]
        items = [(str(tmp_path / "a"), 3), (str(tmp_path / "b"), 9)]
        good, bad = pipe.map(chores.fails_until, items, on_error="collect")
        assert (good, type(bad)) == (3, KeyError)


def test_several_threads_share_it() -> None:
    """One does the work, the others wait for theirs."""
    with zpipe.Pipeline(inline=True) as pipe, concurrent.futures.ThreadPoolExecutor(4) as threads:
        made = [threads.submit(lambda n=n: list(pipe.map(chores.double, range(n)))) for n in range(40)]
        single = [threads.submit(lambda n=n: pipe.submit(chores.double, n).result()) for n in range(40)]
        assert [found.result(timeout=60) for found in made] == [[2 * i for i in range(n)] for n in range(40)]
        assert [found.result(timeout=60) for found in single] == [2 * n for n in range(40)]


def test_a_call_can_not_wait_for_another() -> None:
    """It would wait for itself; that is said."""
    with zpipe.Pipeline(inline=True) as pipe, pytest.raises(RuntimeError, match="wait for this one to end"):
        pipe.submit(lambda: list(pipe.map(abs, [1]))).result()


def test_an_interrupt_comes_out_where_the_item_ran() -> None:
    """And ends the pipeline."""

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    pipe = zpipe.Pipeline(inline=True)
    with pytest.raises(KeyboardInterrupt), pipe:
        list(pipe.map(interrupt, range(3)))
    with pytest.raises(zpipe.BrokenPipeline):
        pipe.submit(abs, 1)


def test_what_needs_a_process_is_refused() -> None:
    """With the reason, when it is asked for."""
    for wrong in ({"workers": 2}, {"bind": "tcp://127.0.0.1:0"}, {"max_memory": 1}, {"max_tasks_per_worker": 1}):
        with pytest.raises(ValueError, match="inline=True"):
            zpipe.Pipeline(inline=True, **wrong)
    with zpipe.Pipeline(inline=True, item_timeout=3) as pipe:
        with pytest.raises(ValueError, match="item_timeout can't stop"):
            pipe.map(abs, [1])
        with pytest.raises(ValueError, match="can't have 3 workers"):
            pipe.resize(3)


def test_a_broken_initializer_ends_it() -> None:
    """As in workers."""
    with (
        zpipe.Pipeline(inline=True, initializer=lambda: 1 / 0) as pipe,
        pytest.raises(zpipe.BrokenPipeline, match="division by zero"),
    ):
        pipe.submit(abs, 1).result()
