"""`zpipe.pool.Pool` does what multiprocessing.Pool does."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline import chores
from process.tools import PATIENCE, alive, wait_until

import zpipe
from zpipe.pool import Pool


@pytest.fixture(scope="module")
def pool(mark: str) -> Iterator[Pool]:
    """Two workers, for every test that does not change them."""
    with Pool(2) as made:
        yield made


def test_maps_give_lists(pool: Pool) -> None:
    """In order, whatever the iterable and the chunks; none for none."""
    wanted = list(range(0, 1000, 2))
    for items in (range(500), list(range(500)), iter(range(500)), dict.fromkeys(range(500))):
        assert pool.map(chores.double, items) == wanted
    assert pool.map(chores.double, range(500), 7) == pool.map(chores.double, range(500), chunksize=501) == wanted
    assert (
        pool.starmap(pow, iter([(2, 3), (3, 2)])) == pool.starmap_async(pow, [(2, 3), (3, 2)]).get(PATIENCE) == [8, 9]
    )
    assert pool.map(chores.double, []) == pool.map_async(chores.double, iter(())).get(PATIENCE) == []


def test_single_calls(pool: Pool) -> None:
    """Positional and keyword arguments arrive; exceptions are the task's own."""
    assert pool.apply(chores.echo, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})
    assert pool.apply(chores.echo) == ((), {})
    result = pool.apply_async(chores.double, (21,))
    assert result.get(PATIENCE) == 42
    assert result.ready()
    assert result.successful()
    with pytest.raises(KeyError) as caught:
        pool.apply(chores.fail_on_three, (3,))
    assert isinstance(caught.value.__cause__, zpipe.RemoteTraceback)


def test_a_failed_item_fails_the_list_once_all_were_run(pool: Pool, tmp_path: Path) -> None:
    """The first failed item's exception is raised; the other items are run nevertheless."""
    notes = tmp_path / "notes"

    def fail(item: int) -> None:
        chores.note(str(notes), item)
        if item in (5, 300):
            raise ValueError(item)

    with pytest.raises(ValueError, match=r"^5$"):
        pool.map(fail, range(400))
    assert sorted(map(int, notes.read_text().split())) == list(range(400))
    result = pool.map_async(chores.fail_on_three, range(9))
    result.wait(PATIENCE)
    assert not result.successful()


def test_callbacks_come_before_the_result(pool: Pool) -> None:
    """One of both is called; one that fails does not keep the result from coming."""
    seen: list[object] = []

    assert pool.apply_async(chores.double, (1,), callback=seen.append, error_callback=print).get(PATIENCE) == 2
    assert pool.map_async(chores.double, range(3), callback=seen.append).get(PATIENCE) == [0, 2, 4]
    pool.starmap_async(pow, [(2, 2)], callback=seen.append).get(PATIENCE)
    assert seen == [2, [0, 2, 4], [4]]
    for result in (
        pool.apply_async(chores.fail_on_three, (3,), callback=print, error_callback=seen.append),
        pool.map_async(chores.fail_on_three, range(9), callback=print, error_callback=seen.append),
    ):
        with pytest.raises(KeyError) as caught:
            result.get(PATIENCE)
        seen.remove(caught.value)  # that very exception
    assert len(seen) == 3
    assert pool.map_async(chores.double, [1], callback=lambda _: 1 / 0).get(PATIENCE) == [2]
    assert pool.apply_async(chores.double, (1,), callback=lambda _: 1 / 0).get(PATIENCE) == 2


def test_a_result_that_is_not_there(pool: Pool, gate: str) -> None:
    """`get` and `next` give up with multiprocessing's TimeoutError, and can be asked again."""
    result = pool.apply_async(chores.held, (gate, "held"))
    results = pool.imap(chores.call, [lambda: chores.held(gate, 1)])
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    Path(gate).touch()
    assert result.get(PATIENCE) == "held"
    assert results.next(PATIENCE) == 1
    with pytest.raises(StopIteration):
        results.next(PATIENCE)


def test_iterators(pool: Pool) -> None:
    """Lazy, in order or as they come, and going on after an item that failed."""
    assert list(itertools.islice(pool.imap(chores.double, itertools.count()), 500)) == list(range(0, 1000, 2))
    assert sorted(pool.imap_unordered(chores.double, iter(range(500)), 10)) == list(range(0, 1000, 2))
    results = pool.imap(chores.fail_on_three, range(5))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == [4]


def test_close_and_join_run_what_was_given(tmp_path: Path) -> None:
    """Nothing more is taken; results may be fetched afterwards, those of iterators too."""
    pool = Pool(2, chores.remember, (str(tmp_path / "notes"), "kept"))
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(chores.remembered, range(20))
    begun, fresh = pool.imap(chores.double, iter(range(3000))), pool.imap(chores.double, iter(range(3000)))
    assert next(begun) == 0
    pool.close()
    for late in (lambda: pool.map(chores.double, [1]), lambda: pool.apply(chores.double, (1,)), pool.__enter__):
        with pytest.raises(ValueError, match="not running"):
            late()
    pool.join()
    assert {value for value, _, _ in result.get(PATIENCE)} == {"kept"}
    assert len(list(begun)) == 2999
    assert list(fresh) == list(range(0, 6000, 2))


def test_terminate_ends_what_runs(tmp_path: Path, gate: str) -> None:
    """Leaving the block kills the workers in the middle of their tasks, and fails what is pending."""
    notes = tmp_path / "notes"

    def hold(_: object) -> None:
        chores.note(str(notes), os.getpid())
        chores.held(gate)

    with Pool(1) as pool:
        results = [pool.apply_async(hold, (1,)), pool.map_async(hold, [1, 2])]
        worker = int(wait_until(lambda: notes.exists() and notes.read_text(), "a note").split()[0])
    wait_until(lambda: not alive(worker), "the end of a worker")
    for result in results:
        with pytest.raises(zpipe.BrokenPipeline):
            result.get(PATIENCE)
    pool.join()


def test_what_can_not_be_is_refused(pool: Pool) -> None:
    """Wrong numbers, and what zpipe's workers don't do; a pool can't be sent to one."""
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(ValueError, match="max_tasks_per_worker=0 can't be"):
        Pool(1, maxtasksperchild=0)
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(chores.double, (pool,))
