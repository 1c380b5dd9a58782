"""`zpipe.map` and its like have a pipeline of their own, and leave none behind."""

from __future__ import annotations

import asyncio
import itertools
import operator
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline import chores
from process.tools import PATIENCE, marked, wait_until

import zpipe


def test_each_gives_what_the_pipelines_own_gives() -> None:
    """Maps over one or several iterables, in either order, folds and searches."""
    assert list(zpipe.map(pow, range(40), itertools.count(), workers=2)) == [n**n for n in range(40)]
    assert list(zpipe.map(chores.fail_on_three, range(5), workers=1, on_error="skip")) == [0, 1, 2, 4]
    assert sorted(zpipe.imap_unordered(chores.double, range(500), 20, workers=2)) == list(range(0, 1000, 2))
    assert list(zpipe.starmap(pow, [(2, 3), (3, 2)], workers=1)) == [8, 9]
    assert zpipe.reduce(chores.double, range(1000), operator.add, workers=1) == 1000 * 999
    assert zpipe.reduce(chores.double, [], operator.add, 7, workers=1) == 7
    assert zpipe.first(chores.double, itertools.count(), lambda n: n > 100, ordered=True, workers=1) == 102
    assert zpipe.first(chores.double, [0], default=None, workers=1) is None


def test_a_star_import_leaves_the_builtin_alone() -> None:
    """`map` is reached as zpipe.map only."""
    names: dict[str, object] = {}
    exec("from zpipe import *", names)
    assert names["reduce"] is zpipe.reduce
    assert "map" not in names


def test_the_workers_end_with_the_iterator(mark: str) -> None:
    """Whether it is exhausted, closed, left in the middle, or refused in the first place."""
    list(zpipe.map(chores.double, [1], workers=1))
    assert marked(mark) == []
    results = zpipe.map(chores.double, itertools.count(), workers=1)
    assert next(results) == 0
    assert marked(mark)
    results.close()
    assert list(results) == []
    for number in zpipe.map(chores.double, itertools.count(), workers=1):
        if number > 10:
            break
    zpipe.map(chores.double, itertools.count(), workers=1)
    with pytest.raises(TypeError):
        zpipe.map(chores.double, 5, workers=1)  # type: ignore[arg-type]
    wait_until(lambda: not marked(mark), lambda: f"the end of processes {marked(mark)}", PATIENCE)


def test_a_list_runs_though_nobody_looks(mark: str, tmp_path: Path) -> None:
    """As it does with a `Pipeline`."""
    notes = tmp_path / "notes"
    zpipe.map(chores.note, [str(notes)] * 50, workers=1)
    wait_until(lambda: not marked(mark), lambda: f"the end of processes {marked(mark)}", PATIENCE)
    assert len(notes.read_text().splitlines()) == 50


def test_a_failed_item_fails_where_it_stands() -> None:
    """Iteration may go on after it."""
    results = zpipe.map(chores.fail_on_three, range(5), workers=1)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(results)
    assert list(results) == [4]


def test_inside_a_worker_and_inside_an_event_loop() -> None:
    """A task may use them, and so may a coroutine, which they block."""

    def nest(count: int) -> tuple[int, int]:
        return sum(zpipe.map(chores.double, range(count), workers=1)), zpipe.first(
            chores.double, range(1, count), workers=1
        )

    async def main() -> list[tuple[int, int]]:
        return list(zpipe.map(nest, [10, 20], workers=2))

    assert asyncio.run(main()) == [(90, 2), (380, 2)]


def test_at_the_prompt() -> None:
    """Functions typed at the interpreter's prompt, and their helpers, arrive; the latest definition counts."""
    typed = """
import asyncio, zpipe
def help(n):
    return n + 1

def task(n):
    return help(n) * 10

print(list(zpipe.map(task, range(3), workers=1)))
def help(n):
    return n + 2

print(list(zpipe.map(task, range(3), workers=1)), zpipe.first(lambda n: n, [5], workers=1))
async def main():
    async with zpipe.AsyncPipeline(workers=1) as pipe:
        return [await pipe.submit(task, 1), *[n async for n in pipe.map(lambda n: -n, [1, 2])]]

print(asyncio.run(main()))
forgotten = zpipe.map(task, range(100), workers=1)
print(next(forgotten))
"""
    ran = subprocess.run(
        [sys.executable, "-iq"], input=typed, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert ran.stdout.splitlines() == ["[10, 20, 30]", "[20, 30, 40] 5", "[30, -1, -2]", "20"], ran.stderr
    assert "Error" not in ran.stderr
