"""Whatever can be called can be sent: lambdas, closures, what a script defines; once per worker, with its state."""

from __future__ import annotations

import functools
import json
import math
import operator
import subprocess
from collections import defaultdict
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import PATIENCE, Node, Zpipe, marked, wait_until

import zpipe
from zpipe.api.functions import KEPT, KEPT_BYTES, Functions


def test_any_callable_can_be_sent(pipe: zpipe.Pipeline) -> None:
    """Lambdas, closures, recursion, local classes, partials, builtins, bound methods and callable objects."""
    shift = 10

    def factorial(number: int) -> int:
        return 1 if number < 2 else number * factorial(number - 1)

    class Adder:
        def __init__(self, by: int) -> None:
            self.by = by

        def __call__(self, item: int) -> int:
            return item + self.by

        def more(self, item: int) -> int:
            return self(item) + 1

    functions: list[Callable[[int], Any]] = [
        lambda item: item + shift,
        factorial,
        Adder(5),
        Adder(6).more,
        functools.partial(pow, 2),
        math.sqrt,
        operator.neg,
        str,
        "{:03}".format,
    ]
    for function in functions:
        assert list(pipe.map(function, range(5))) == list(map(function, range(5)))
        assert pipe.submit(function, 4).result(PATIENCE) == function(4)


def test_a_local_class_comes_back_as_itself(pipe: zpipe.Pipeline) -> None:
    """An instance made in a worker, of a class that only this function knows, is of that very class here."""

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    made = list(pipe.map(Point, range(3)))
    assert [point.x for point in made] == [0, 1, 2]
    assert all(isinstance(point, Point) for point in made)


def test_functions_take_turns(pipe: zpipe.Pipeline) -> None:
    """Hundreds of different functions, alternating, each give their own results."""
    calls = [pipe.submit(lambda item, by=by: item * by, 3) for by in range(300)]
    assert [call.result(PATIENCE) for call in calls] == [3 * by for by in range(300)]


def test_a_large_constant_travels_once(pipe: zpipe.Pipeline) -> None:
    """What a partial binds is unpickled once in each worker for each way of calling it, not once per chunk."""
    task = functools.partial(chores.weigh, chores.Cargo(200_000))
    rows = list(pipe.map(task, range(300), chunksize=1))
    rows += [call.result(PATIENCE) for call in [pipe.submit(task, item) for item in range(300)]]
    rows += list(pipe.map(task, range(600, 700), chunksize=1))
    assert [item for item, *_ in rows] == [*range(300), *range(300), *range(600, 700)]
    assert {size for _, size, *_ in rows} == {200_000}
    most: dict[int, int] = defaultdict(int)
    for _, _, pid, loads in rows:
        most[pid] = max(most[pid], loads)
    assert max(most.values()) <= 2


def test_the_initializer_runs_once_in_each_worker(tmp_path: Path) -> None:
    """Before the worker's first task, with its arguments; what it keeps is there for every task."""
    notes = tmp_path / "notes"
    kept = {"weights": [1, 2, 3]}
    with zpipe.Pipeline(workers=2, initializer=chores.remember, initargs=(str(notes), kept)) as pipe:
        wait_until(lambda: pipe.workers == 2, "two workers")
        rows = list(pipe.map(chores.remembered, range(200), chunksize=1))
        rows.append(pipe.submit(chores.remembered, 200).result(PATIENCE))
    assert [(value, item) for value, item, _ in rows] == [(kept, item) for item in range(201)]
    began = notes.read_text().split()
    assert len(began) == len(set(began)) == 2
    assert {str(pid) for *_, pid in rows} <= set(began)


def test_an_initializer_that_fails_breaks_the_pipeline(mark: str, caplog: pytest.LogCaptureFixture) -> None:
    """All that is pending, and all that comes later, raises BrokenPipeline with the reason; nothing is left."""
    before = set(marked(mark))
    with zpipe.Pipeline(workers=2, initializer=chores.refuse) as pipe:
        with pytest.raises(zpipe.BrokenPipeline, match="no such model here"):
            pipe.submit(chores.double, 1).result(PATIENCE)
        with pytest.raises(zpipe.BrokenPipeline, match="no such model here"):
            pipe.submit(chores.double, 1)
        with pytest.raises(futures.BrokenExecutor):
            list(pipe.map(chores.double, range(3)))
    assert "ValueError: no such model here" in caplog.text
    assert set(marked(mark)) <= before


def test_an_initializer_must_be_callable() -> None:
    """Anything else is refused at once."""
    with pytest.raises(TypeError, match="initializer must be a callable"):
        zpipe.Pipeline(workers=1, initializer=3)  # type: ignore[arg-type]


SCRIPT = """
import dataclasses, json, os
import zpipe

@dataclasses.dataclass
class Point:
    x: int

class Odd(Exception):
    pass

TABLE = {"a": 1}
count = 0

def prepare(word):
    global count
    count = 100
    TABLE["word"] = word

def helper(item):
    return item * 2

def shift(point):
    return Point(helper(point.x))

def state(_):
    return TABLE, count

def bump(_):
    global count
    count += 1
    return count

def fail(item):
    raise Odd(item)

with zpipe.Pipeline(workers=1, initializer=prepare, initargs=("ready",)) as pipe:
    points = list(pipe.map(shift, [Point(1), Point(2)]))
    told = {
        "points": [point.x for point in points],
        "same": all(isinstance(point, Point) for point in points),
        "state": pipe.submit(state, 0).result(),
        "bumps": sorted(pipe.map(bump, range(50), chunksize=1))[-1] - 100,
    }
    try:
        pipe.submit(fail, 5).result()
    except Odd as error:
        told["odd"] = error.args, "raise Odd(item)" in str(error.__cause__)
    told["lambda"] = pipe.submit(lambda: helper(4)).result()
print(json.dumps(told))
"""

TOLD = {
    "points": [2, 4],
    "same": True,
    "state": [{"a": 1, "word": "ready"}, 100],
    "bumps": 50,
    "odd": [[5], True],
    "lambda": 8,
}


def test_a_script_needs_no_main_guard(script: Callable[[str], Node]) -> None:
    """Functions, classes, exceptions and globals of `__main__` work as they do in the script itself."""
    node = script(SCRIPT).ended(0)
    assert json.loads(node.out) == TOLD
    assert node.err == ""


STARTING = """
import multiprocessing

def target():
    with zpipe.Pipeline(workers=1) as pipe:
        print(json.dumps([isinstance(point, Point) and point.x for point in pipe.map(shift, [Point(3)])]))

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=target)
    child.start()
    child.join()
"""


def test_a_script_that_multiprocessing_starts_again(script: Callable[[str], Node]) -> None:
    """There its module has another name, while it is run anew and later: it works as before."""
    node = script(SCRIPT + STARTING).ended(0)
    assert [json.loads(line) for line in node.out.splitlines()] == [TOLD, TOLD, [6]]
    assert node.err == ""


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_code_without_a_file_works_too(nodes: Zpipe, how: str) -> None:
    """As in the REPL or a notebook: the functions exist nowhere but in memory."""
    code = SCRIPT.replace('"raise Odd(item)" in str(error.__cause__)', '"Odd: 5" in str(error.__cause__)')
    if how == "-c":
        node = nodes.python("-c", code)
    else:
        node = nodes.python("-", popen={"stdin": subprocess.PIPE})
        node.write(code)
        node.eof()
    assert json.loads(node.ended(0).out) == TOLD


def test_modules_beside_the_script_are_found(script: Callable[[str], Node], nodes: Zpipe) -> None:
    """Workers look for modules where the script does, changes of sys.path included."""
    (nodes.folder / "more").mkdir()
    (nodes.folder / "more" / "deep_chores.py").write_text("def triple(item):\n    return item * 3\n")
    (nodes.folder / "near_chores.py").write_text("def double(item):\n    return item * 2\n")
    node = script(
        "import sys; sys.path.insert(0, 'more')\n"
        "import zpipe, near_chores, deep_chores\n"
        "with zpipe.Pipeline(workers=1) as pipe:\n"
        "    print([*pipe.map(near_chores.double, [1]), *pipe.map(deep_chores.triple, [1])])\n"
    )
    assert node.ended(0).out == "[2, 3]\n"


REBOUND = """
import zpipe

SCALE = 0.5

class Table:
    def look(self, item):
        return helper(item)

def helper(item):
    return item

def scaled(item):
    return item * SCALE

def looked(item):
    return TABLE.look(item)

TABLE = Table()
with zpipe.Pipeline(workers=1) as pipe:
    seen = []
    for number in range(200):
        SCALE = number + 0.5
        seen.append(pipe.submit(scaled, 2).result() == number * 2 + 1)
        SCALE = number + 0.25  # it may well get the place in memory of the one before, and the next one that of this
        SCALE = number + 0.75
    print(all(seen))
    print(pipe.submit(looked, 1).result())
    helper = lambda item: item + 1
    print(pipe.submit(looked, 1).result())
"""


def test_names_bound_anew_are_seen(script: Callable[[str], Node]) -> None:
    """A function is sent again once what it refers to is another object, itself or by way of a class."""
    assert script(REBOUND).ended(0).out.split() == ["True", "1", "2"]


def test_functions_are_forgotten() -> None:
    """Of many functions, and of large ones, some are remembered; those in use always are."""
    functions = Functions()
    used = functions.find(lambda: "used", "star")
    used.held += 1
    for number in range(2 * KEPT):
        functions.find(functools.partial(operator.add, number), "star")
    assert functions.crowded
    gone = functions.weed()
    assert len(gone) > KEPT
    assert used not in gone
    assert not functions.crowded
    for number in range(5):
        functions.find(functools.partial(operator.add, bytes(KEPT_BYTES // 4) + bytes([number])), "star")
    assert functions.crowded
    assert functions.weed()
    assert not functions.crowded
