"""Tasks with any number of outputs for an item, and outputs on their way from stage to stage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zpipe
from zpipe import serialize
from zpipe.core.spec import Codec, Encoding, JobSpec, TaskSpec
from zpipe.core.wire import Chunk
from zpipe.errors import WireError
from zpipe.running import packing, tasks
from zpipe.running.runner import Runner
from zpipe.running.stagerunner import StageRunner
from zpipe.running.stopwatch import Stopwatch


def some(count: int) -> Iterator[Any]:
    """As many outputs as the item says; what is more than 5 fails, and 4 has one that can't be carried."""
    for n in range(count):
        if n == 5:
            raise ValueError("too many")
        yield object() if (count, n) == (4, 2) else [count, n]


def returns(count: int) -> Iterator[Any]:
    """What only looks like one."""
    return some(count)


def place(_: Any) -> tuple[int, int]:
    """Where the item is in its stage."""
    now = zpipe.current()
    return now.index, now.attempt


def divided(item: int) -> float:
    """Fail for 0."""
    return 12 / item


def job(task: Any, encoding: Encoding, **more: Any) -> JobSpec:
    """A job of a function of this file."""
    return JobSpec(TaskSpec("import", f"{task.__module__}:{task.__name__}"), encoding, **more)


WANTED = [[n, k] for n in (0, 1, 3) for k in range(n)]


@pytest.mark.parametrize("encoding", ["json", "pickle", "raw", "values", "values-json", "packed"])
def test_a_generator_has_any_number_of_outputs(encoding: Encoding) -> None:
    """Each is a record or value of its own; an item that fails halfway has none."""
    codec: Codec = "json" if encoding in ("values-json", "packed") else "pickle"
    runner = Runner(job(some, encoding, codec=codec))
    (outcome,) = runner.run(Chunk(10, 16, 1, "json"), [b"0\n1\n6\n4\n3\n0"])
    (frame,) = outcome.frames
    if encoding == "json":
        records = [json.loads(line) for line in bytes(frame).splitlines()]
        assert [record["value"] for record in records if "value" in record] == WANTED
        assert [record["index"] for record in records] == [11, 12, 13, 14, 14, 14]
    elif encoding == "raw":
        assert bytes(frame).decode().splitlines()[:1] == ["[1, 0]"]
        wanted = 1 + 4 + 3  # any object can be written as text
        assert len(bytes(frame).splitlines()) == wanted
    elif encoding == "packed":
        assert [json.loads(one) for one in packing.split(frame)] == WANTED
    elif encoding == "values-json":
        assert json.loads(bytes(frame)) == WANTED
    elif encoding == "values":
        assert [value for value in serialize.loads(outcome.frames) if isinstance(value, list)][-1] == [3, 2]
    failed = [12] if encoding in ("raw", "pickle", "values") else [12, 13]
    assert [failure.index for failure in outcome.failures] == failed


def test_what_is_too_large_fails_its_item() -> None:
    """The limit is for all outputs of an item together."""
    spec = job(some, "packed", max_result=40)
    (outcome,) = Runner(spec).run(Chunk(0, 2, 1, "pickle"), serialize.dumps([3, 1]))
    assert [failure.index for failure in outcome.failures] == [0]
    assert [pickle.loads(one) for one in packing.split(outcome.frames[0])] == [[1, 0]]


class Yielding:
    """Is called as a generator function."""

    def __call__(self, item: int) -> Iterator[int]:
        yield item


def test_generator_functions_are_known() -> None:
    """By their code; partial ones, methods and objects that are called too; what merely returns a generator is none."""
    assert tasks.yields(some)
    assert tasks.yields(partial(partial(some), 3))
    assert tasks.yields(Yielding())
    assert not tasks.yields(Yielding)
    assert not tasks.yields(returns)
    assert not tasks.yields(len)
    assert not tasks.yields(partial(len))


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.lists(st.floats(allow_nan=False)))))
def test_what_is_packed_is_unpacked(values: list[Any]) -> None:
    """The values of one stage are the items of the next, in every codec."""
    codecs: list[Codec] = ["pickle", "json", "msgpack"]
    for codec in codecs:
        if codec == "msgpack" and any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
            continue
        if codec == "json" and any(isinstance(value, list) and float("inf") in map(abs, value) for value in values):
            continue
        packed = packing.join([packing._dump(value, codec) for value in values])
        assert packing.unpack(packed, codec, 0) == (values, packing.deque())


def test_what_can_not_be_read_fails_alone() -> None:
    """An item of a class that is not here, say; and a frame that nobody packed is the peer's fault."""
    frame = packing.join([pickle.dumps(1), b"cno_such_module\nThing\n.", pickle.dumps(3)])
    items, unread = packing.unpack(frame, "pickle", 5)
    assert items == [1, None, 3]
    assert unread[0][0] == 1
    assert "item 6 can't be read on this worker: No module named" in unread[0][1]["message"]  # type: ignore[index]
    with pytest.raises(WireError):
        packing.split(b"\xff")
    with pytest.raises(WireError):
        packing.take_number([b"short"])
    assert packing.take_number(packing.numbered(7, [b"ab", b"c"])) == (7, [b"ab", b"c"])


class TestStageRunner:
    """Items are told of by their numbers in the stage; results go by those in the job."""

    def test_numbers(self) -> None:
        """The task, records, dead letters and errors have the stage's; ranges and failures the job's."""
        frame = packing.join([pickle.dumps(n) for n in (5, 0, 3)])
        chunk = Chunk(100, 102, 2, "packed", skip=1)
        runner = StageRunner(job(divided, "json", stage=2, letters=True))
        (outcome,) = runner.run(chunk, packing.numbered(40, [frame]))
        failed, done = [json.loads(line) for line in bytes(outcome.frames[0]).splitlines()]
        assert (failed["index"], done["index"], done["value"]) == (41, 42, 4.0)
        assert (outcome.start, outcome.stop, outcome.failures[0].index) == (100, 102, 100)
        letter = json.loads(outcome.failures[0].letter)
        assert (letter["index"], letter["stage"], letter["item"]) == (41, 2, 0)
        (outcome,) = StageRunner(job(place, "values", stage=2)).run(chunk, packing.numbered(40, [frame]))
        assert serialize.loads(outcome.frames) == [(41, 2), (42, 2)]

    def test_again_and_cut(self) -> None:
        """So do those of items that are to be tried again, and of what is handed back."""
        frame = packing.join([pickle.dumps(n) for n in (5, 0, 3)])
        runner = StageRunner(job(divided, "packed", stage=1, retries=1))
        outcomes = runner.run(Chunk(7, 10, 1, "packed"), packing.numbered(1000, [frame]))
        assert [(outcome.start, outcome.stop) for outcome in outcomes] == [(7, 8), (8, 9), (9, 10)]
        assert outcomes[1].again is not None
        assert runner.cut() == 0

    def test_limits_know_the_item(self) -> None:
        """Whoever watches the worker hears of the item by its number in the job."""
        watch = Stopwatch()
        runner = StageRunner(job(divided, "packed", stage=1, timeout=5.0), stopwatch=watch)
        runner.run(Chunk(7, 8, 1, "packed"), packing.numbered(1000, [packing.join([pickle.dumps(1)])]))
        assert watch.read().item == 7
