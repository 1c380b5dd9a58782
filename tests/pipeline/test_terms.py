"""What an item may take, and how often it is tried, in a script: on a pipeline's terms, whatever the way of calling."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import LINUX

import zpipe
from zpipe.errors import ItemTimeout
from zpipe.pool import Pool

OFTEN: dict[str, Any] = {"retries": 2, "retry_delay": 0.01}
"""A quick item, too, may be held up for longer than it has, on a busy machine; but not so often."""


def test_an_item_that_takes_too_long_fails_alone() -> None:
    """Of a map with it in the middle of a chunk the others come out right; so do single calls."""
    with zpipe.Pipeline(2, item_timeout=0.5, chunk=8, **OFTEN) as pipe:
        found = list(pipe.map(chores.hold_on_three, range(16), on_error="collect"))
        assert [value for value in found if isinstance(value, int)] == [n for n in range(16) if n != 3]
        assert isinstance(found[3], ItemTimeout)
        assert isinstance(found[3], TimeoutError)
        assert "it ran for " in str(found[3])
        futures = [pipe.submit(chores.hold_on_three, item) for item in range(2, 6)]
        with pytest.raises(ItemTimeout, match=r"its limit is 0\.5 s"):
            futures[1].result()
        assert [futures[n].result() for n in (0, 2, 3)] == [2, 4, 5]


def test_what_may_take_years() -> None:
    """More than the kernel waits at a time, for an item or its result, is as good as no limit."""
    years = 1e8
    with zpipe.Pipeline(1, item_timeout=years) as pipe:
        assert [pipe.submit(abs, -n).result(years) for n in range(50)] == [*range(50)]


@pytest.mark.skipif(not LINUX, reason="only Linux tells how much memory processes hold")
def test_an_item_that_takes_too_much_memory_fails_alone() -> None:
    """As one that crashes its workers, which says what the limit was."""
    with zpipe.Pipeline(2, max_memory=200 << 20, max_crashes=1) as pipe:
        found = list(pipe.map(chores.hoard_on_three, range(8), on_error="collect"))
    assert [value for value in found if isinstance(value, int)] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(found[3], zpipe.WorkerLost)
    assert "its limit is 200 MB" in str(found[3])


def test_items_are_tried_again_and_tell_how_often(tmp_path: Path) -> None:
    """What comes good is a result as any other; what does not carries the number of attempts."""
    items = [(str(tmp_path / "a"), 3), (str(tmp_path / "b"), 1), (str(tmp_path / "c"), 9)]
    with zpipe.Pipeline(2, retries=2, retry_delay=0.01) as pipe:
        good, first, failed = pipe.map(chores.fails_until, items, chunksize=3, on_error="collect")
        assert (good, first) == (3, 1)
        assert isinstance(failed, KeyError)
        assert failed.attempts == 3  # type: ignore[attr-defined]
        assert failed.__notes__ == ["zpipe: the item failed after 3 attempts"]
        assert failed.args == (3,)


@pytest.mark.parametrize("types", [chores.Unlucky, (chores.Unlucky, OSError)])
def test_items_are_tried_again_after_some_exceptions_only(tmp_path: Path, types: Any) -> None:
    """Types are known by name in the workers, those of a script's own too; others are not tried again."""
    with zpipe.Pipeline(1, retries=5, retry_delay=0.01, retry_on=types) as pipe:
        assert pipe.submit(chores.unlucky_until, (str(tmp_path / "a"), 2)).result() == 2
        with pytest.raises(KeyError) as caught:
            pipe.submit(chores.fails_until, (str(tmp_path / "b"), 2)).result()
        assert not hasattr(caught.value, "attempts"), "it was tried once"


def test_workers_are_replaced_after_so_many_items() -> None:
    """Whatever is called; no process runs many more than that, and every item comes once."""
    with zpipe.Pipeline(2, max_tasks_per_worker=10) as pipe:
        rows = list(pipe.map(chores.with_pid, range(100)))
        assert [item for item, _ in rows] == list(range(100))
        assert max(Counter(pid for _, pid in rows).values()) < 20
        more = [pipe.submit(chores.with_pid, item) for item in range(40)]
        assert [future.result()[0] for future in more] == list(range(40))
    with Pool(1, maxtasksperchild=5) as pool:
        assert len({pid for _, pid in pool.map(chores.with_pid, range(20), chunksize=5)}) > 1


def test_other_faces_have_the_same_terms(tmp_path: Path) -> None:
    """One call, and asyncio."""
    found = list(zpipe.map(chores.hold_on_three, range(5), workers=1, item_timeout=0.5, on_error="skip", **OFTEN))
    assert found == [0, 1, 2, 4]

    async def main() -> int:
        async with zpipe.AsyncPipeline(1, retries=1, retry_delay=0.01) as pipe:
            return await pipe.submit(chores.fails_until, (str(tmp_path / "a"), 2))

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"retries": -1}, "retries=-1 can't be"),
        ({"item_timeout": 0}, "item_timeout=0 can't be: give seconds"),
        ({"retries": 1.5}, "retries=1.5 can't be: give a whole number"),
        ({"retry_delay": None}, "retry_delay=None can't be: give a number"),
        ({"item_timeout": "3"}, "item_timeout='3' can't be: give seconds"),
        ({"max_memory": "2G"}, "max_memory='2G' can't be: give a whole number"),
        ({"max_memory": 0}, "max_memory=0 can't be"),
        ({"max_crashes": 0}, "max_crashes=0 can't be"),
        ({"max_tasks_per_worker": 0}, "max_tasks_per_worker=0 can't be"),
        ({"retry_on": ()}, "would never try again"),
        ({"retry_on": "ValueError"}, "takes exception types, not 'V'"),
        ({"retry_on": int}, "takes exception types, not <class 'int'>"),
        ({"retry_on": 5}, "takes exception types, not 5"),
    ],
)
def test_terms_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    """Before any process is started."""
    with pytest.raises((ValueError, TypeError)) as caught:
        zpipe.Pipeline(1, **given)
    assert said in str(caught.value)
