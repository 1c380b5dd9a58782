"""A chunk of items is run: each fails alone, whatever its task raises, and the rest comes out right."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zpipe
from zpipe import context, data, serialize
from zpipe.core import wire
from zpipe.core.spec import Codec, Encoding, ItemKind, JobSpec, TaskSpec
from zpipe.core.wire import Chunk, Failure
from zpipe.errors import TaskError, WireError
from zpipe.input.sources import pack
from zpipe.running import outcomes
from zpipe.running.allowed import Allowed
from zpipe.running.runner import Outcome, Runner, set_up
from zpipe.running.stopwatch import Stopwatch

TASKS = '''
"""Tasks for tests."""

import operator
import sys
import threading

import zpipe.context

seen = []


class Odd(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def double(x):
    return 2 * x


def same(x):
    return x


def divide(x):
    return 12 / x  # where it went wrong


def chained(x):
    try:
        return divide(x)
    except ZeroDivisionError as error:
        raise ValueError("chained") from error


def deep(x):
    return deep(x)


RAISED = {
    "value": lambda: ValueError("boom"),
    "stop": StopIteration,
    "stop with a value": lambda: StopIteration(5),
    "generator": GeneratorExit,
    "exit": lambda: SystemExit(3),
    "odd": lambda: Odd("odd"),
    "memory": MemoryError,
    "unprintable": Unprintable,
    "surrogate": lambda: ValueError("\\udcff"),
    "long": lambda: ValueError("x" * 1_000_000),
    "async": StopAsyncIteration,
    "interrupt": KeyboardInterrupt,
}


seen = []
told = None
cut = None


def cutter(x):
    global told
    seen.append(x)
    if x == 3:
        told = cut()
    return x


def cut_and_fail(x):
    cutter(x)
    if x == 3:
        raise ValueError(x)


def fail(name):
    """Raise what is named, or return the name."""
    seen.append(name)
    if name in RAISED:
        raise RAISED[name]()
    if name == "deep":
        return deep(name)
    if name == "lock":
        return threading.Lock()
    return name


def where(x):
    now = zpipe.context.current()
    if x == "fail":
        raise ValueError(now.index)
    return [now.index, now.attempt, now.worker, now.job]


def sized(x):
    return "x" * x


def above(limit):
    return lambda value: value > limit


above_five = above(5)


def picky(value):
    seen.append(value)
    if value == 3:
        raise ValueError("picky")
    return value >= 5


def picky_where(value):
    return zpipe.context.current().index == 12


class Undecided:
    def __init__(self, x):
        pass

    def __bool__(self):
        raise ValueError("neither")


class Box:
    def __init__(self, x):
        self.x = x
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real module of tasks, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "zt_tasks.py").write_text(TASKS)
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("zt_tasks")
    del sys.modules["zt_tasks"]


def spec(name: str, encoding: Encoding = "values", until: str = "", **more: Any) -> JobSpec:
    """Return a job of one of the module's tasks."""
    stop = TaskSpec("import", f"zt_tasks:{until}") if until else None
    return JobSpec(TaskSpec("import", f"zt_tasks:{name}"), encoding, stop, **more)


def run(of: JobSpec, items: Any, start: int = 10, attempt: int = 1, **more: Any) -> Outcome:
    """Run pickled items."""
    return Runner(of, **more).run(Chunk(start, start + len(items), attempt, "pickle"), serialize.dumps(items))[0]


def run_text(job: JobSpec, kind: ItemKind, data: bytes, count: int, start: int = 10) -> Outcome:
    """Run items that are lines."""
    return Runner(job).run(Chunk(start, start + count, 1, kind), [data])[0]


def values(outcome: Outcome) -> Any:
    """Return the values that an outcome carries."""
    return serialize.loads(outcome.frames)


def lines(outcome: Outcome) -> list[Any]:
    """Return the records that an outcome carries as JSON."""
    return [json.loads(line) for line in bytes(outcome.frames[0]).splitlines()]


def failed(outcome: Outcome) -> list[tuple[int, str]]:
    """Return (index, type) of an outcome's failures, having checked that they can travel."""
    msgspec.msgpack.encode(outcome.failures)
    return [(failure.index, failure.type) for failure in outcome.failures]


class TestChunks:
    """The happy path."""

    @pytest.mark.parametrize("items", [[1, 2, 3], (1, 2, 3), range(1, 4)])
    def test_items(self, items: Any) -> None:
        """A pickled list, tuple or range of items is run in order."""
        outcome = run(spec("double"), items)
        assert values(outcome) == [2, 4, 6]
        assert (outcome.stop, outcome.failures, outcome.hit) == (13, [], None)

    def test_encodings(self) -> None:
        """The job's encoding says what comes out."""
        assert lines(run(spec("double", "json"), [3])) == [{"index": 10, "item": 3, "value": 6}]
        assert run(spec("double", "raw"), [3, 4]).frames == [b"6\n8\n"]
        assert serialize.loads(run(spec("double", "pickle"), [3]).frames) == {"index": 10, "item": 3, "value": 6}

    def test_runner_is_used_again(self) -> None:
        """One runner runs chunk after chunk."""
        runner = Runner(spec("double"))
        for start in (0, 5, 2):
            got = runner.run(Chunk(start, start + 2, 1, "pickle"), serialize.dumps([start, start + 1]))[0]
            assert values(got) == [2 * start, 2 * start + 2]

    def test_command(self) -> None:
        """A command's output is written as it is; its failure has all that is known of it."""
        job = JobSpec(TaskSpec("command", "sh -c 'echo $0; test $0 != bad || { echo why >&2; exit 3; }' {}"), "raw")
        outcome = run(job, ["a", "bad", "c"])
        assert outcome.frames == [b"a\nc\n"]
        assert outcome.failures == [Failure(11, "CommandFailed", "exit status 3: why", "")]
        record = lines(run(msgspec.structs.replace(job, encoding="json"), ["bad"]))[0]
        assert record["error"] == {
            "type": "CommandFailed",
            "message": "exit status 3: why",
            "traceback": "",
            "exit": 3,
            "stdout": "bad\n",
            "stderr": "why\n",
        }

    def test_task_that_can_not_be_loaded(self) -> None:
        """A task or predicate that can't be loaded is refused before any item."""
        with pytest.raises(TaskError, match="has no 'missing'"):
            Runner(spec("missing"))
        with pytest.raises(TaskError, match="has no 'missing'"):
            Runner(spec("double", until="missing"))

    def test_unknown_text_encoding(self) -> None:
        """So is an encoding that Python doesn't know."""
        with pytest.raises(TaskError, match=r"unknown encoding: utf-9: give --encoding a name that Python knows"):
            Runner(spec("double", text_encoding="utf-9"))
        Runner(spec("double", text_encoding="utf-16"))


class TestFailures:
    """An item that fails, fails alone."""

    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            ("value", "ValueError", "boom"),
            ("stop", "StopIteration", "the task raised StopIteration"),
            ("stop with a value", "StopIteration", "the task raised StopIteration"),
            ("generator", "GeneratorExit", ""),
            ("exit", "SystemExit", "3"),
            ("odd", "Odd", "odd"),
            ("memory", "MemoryError", ""),
            ("unprintable", "Unprintable", "<a Unprintable whose str() fails>"),
            ("surrogate", "ValueError", "\\udcff"),
            ("long", "ValueError", "xxx"),
            ("async", "StopAsyncIteration", ""),
            ("deep", "RecursionError", "maximum recursion depth exceeded"),
            ("lock", "TypeError", "the value of item 11, a lock, can't be pickled"),
        ],
    )
    @pytest.mark.parametrize("until", ["", "above"])
    def test_whatever_is_raised(self, module: Any, name: str, kind: str, message: str, until: str) -> None:
        """Whatever a task raises fails its item; each item is run once, the others are done."""
        module.above = lambda value: value == "never"
        items = ["a", name, "b", name, name, "c"]
        outcome = run(spec("fail", until=until), items)
        assert values(outcome) == ["a", "b", "c"]
        assert failed(outcome) == [(11, kind), (13, kind), (14, kind)]
        assert outcome.failures[0].message.startswith(message)
        assert len(outcome.failures[0].message) < 30_000
        assert module.seen == items

    def test_interrupt(self, module: Any) -> None:
        """A task's own KeyboardInterrupt fails its item: a worker's signals are not sent to its task."""
        outcome = run(spec("fail"), ["a", "interrupt", "b"])
        assert failed(outcome) == [(11, "KeyboardInterrupt")]
        with pytest.raises(RuntimeError):
            context.current()

    def test_all_fail(self) -> None:
        """A chunk may consist of failures."""
        outcome = run(spec("fail"), ["value"] * 3)
        assert values(outcome) == []
        assert [index for index, _ in failed(outcome)] == [10, 11, 12]

    def test_traceback(self, tmp_path: Path) -> None:
        """A traceback shows the user's lines, and none of zpipe's."""
        (failure,) = run(spec("divide"), [1, 0]).failures
        assert failure.traceback.startswith("Traceback (most recent call last):\n")
        assert f'File "{tmp_path}/zt_tasks.py"' in failure.traceback
        assert "# where it went wrong" in failure.traceback
        assert failure.traceback.endswith("ZeroDivisionError: division by zero\n")
        assert "runner.py" not in failure.traceback

    def test_chained_causes(self) -> None:
        """An exception's causes are told with it."""
        (failure,) = run(spec("chained"), [0]).failures
        assert (failure.type, failure.message) == ("ValueError", "chained")
        assert "ZeroDivisionError: division by zero\n\nThe above exception was the direct cause" in failure.traceback

    def test_long_traceback(self) -> None:
        """A traceback is of bounded length."""
        (failure,) = run(spec("fail"), ["long"]).failures
        assert len(failure.traceback) < 30_000

    @pytest.mark.parametrize("encoding", ["json", "pickle"])
    def test_traceback_is_in_the_record(self, encoding: Encoding) -> None:
        """Where the record has the traceback, the failure does not carry it again."""
        outcome = run(spec("divide", encoding), [0])
        assert outcome.failures == [Failure(10, "ZeroDivisionError", "division by zero", "")]
        record = serialize.loads(outcome.frames) if encoding == "pickle" else lines(outcome)[0]
        assert "# where it went wrong" in record["error"]["traceback"]
        assert record["item"] == 0

    @pytest.mark.parametrize("encoding", ["raw", "values"])
    def test_traceback_is_in_the_failure(self, encoding: Encoding) -> None:
        """Where there is no record of a failure, the failure carries it."""
        assert "# where it went wrong" in run(spec("divide", encoding), [0]).failures[0].traceback

    @pytest.mark.parametrize(
        ("task", "error"), [("builtins:int", "ValueError"), ("decimal:Decimal", "InvalidOperation")]
    )
    def test_trace_without_a_frame(self, task: str, error: str) -> None:
        """Of a task that is not written in Python there is no line but the one that is told anyway."""
        (failure,) = run(JobSpec(TaskSpec("import", task), "raw"), ["four"]).failures
        assert (failure.type, failure.traceback) == (error, "")

    def test_large_result(self) -> None:
        """A result over the job's limit fails its item."""
        outcome = run(spec("sized", "json", max_result=1000), [10, 2000, 20])
        assert outcome.failures[0].message.startswith("the result of item 11 is 2.0 KB, over the limit of 1000 bytes")
        assert [record.get("value") for record in lines(outcome)] == ["x" * 10, None, "x" * 20]

    @given(st.lists(st.sampled_from(["ok", "value", "stop", "exit"]), min_size=1))
    def test_any_mixture(self, names: list[str]) -> None:
        """Values and failures partition the chunk, in whatever order they come."""
        outcome = run(spec("fail", "json"), names, start=100)
        assert [record["index"] for record in lines(outcome)] == list(range(100, 100 + len(names)))
        assert ["ok" if "value" in record else "no" for record in lines(outcome)] == [
            "ok" if name == "ok" else "no" for name in names
        ]
        assert [index for index, _ in failed(outcome)] == [n for n, name in enumerate(names, 100) if name != "ok"]


class TestLines:
    """Items that are lines of text."""

    @pytest.mark.parametrize(
        ("data", "wanted"),
        [
            (b"a\nb", ["a", "b"]),
            (b"", [""]),
            (b"\n\n", ["", "", ""]),
            (b"a\r\nb\r\r\nc\r", ["a", "b\r", "c"]),
            (b"a\rb\nc", ["a\rb", "c"]),
            ("é\n漢".encode(), ["é", "漢"]),
            ("a\x0bb\x85\u2028\nc".encode(), ["a\x0bb\x85\u2028", "c"]),
        ],
    )
    def test_lines(self, data: bytes, wanted: list[str]) -> None:
        """Lines end at newlines only, less one carriage return each."""
        for frame in (data, memoryview(data), bytearray(data)):
            got = Runner(spec("same")).run(Chunk(0, len(wanted), 1, "lines"), [frame])[0]
            assert values(got) == wanted

    def test_nul(self) -> None:
        """With NUL between items, newlines and carriage returns belong to them."""
        assert values(run_text(spec("same", separator=b"\0"), "lines", b"a\nb\r\0c\r", 2)) == ["a\nb\r", "c\r"]

    def test_other_separators(self) -> None:
        """A separator may be any bytes, even such as the encoding doesn't know."""
        assert values(run_text(spec("same", separator=b"--"), "lines", b"a--b", 2)) == ["a", "b"]
        assert values(run_text(spec("same", separator=b"\xff"), "lines", b"a\xff\xc3\xa9", 2)) == ["a", "é"]

    def test_encoding(self) -> None:
        """The job's encoding is used."""
        assert values(run_text(spec("same", text_encoding="latin-1"), "lines", b"\xe9\n\xff", 2)) == ["é", "ÿ"]

    def test_separator_inside_a_character(self) -> None:
        """Lines are cut as the ventilator counted them: as bytes."""
        data = "ソ".encode("shift-jis")  # its second byte is a backslash
        outcome = run_text(spec("same", text_encoding="shift-jis", separator=b"\\"), "lines", data + b"\\a", 3)
        assert values(outcome) == ["", "a"]
        assert failed(outcome) == [(10, "UnicodeDecodeError")]

    def test_undecodable(self, module: Any) -> None:
        """Lines that aren't in the encoding fail, alone and without being run."""
        outcome = run_text(spec("fail", "json"), "lines", b"a\r\n\xff\xc3\xa9\nb\nabc\xff\xfe\r\nc\r", 5)
        records = lines(outcome)
        assert [record.get("value") for record in records] == ["a", None, "b", None, "c"]
        assert [record["item"] for record in records] == ["a", "\\xffé", "b", "abc\\xff\\xfe", "c"]
        assert module.seen == ["a", "b", "c"]
        assert outcome.failures[1] == Failure(
            13,
            "UnicodeDecodeError",
            "item 13 isn't utf-8: byte 0xff at position 3; give the file's encoding with --encoding, e.g. latin-1",
        )
        assert records[3]["error"]["message"] == outcome.failures[1].message

    def test_undecodable_everywhere(self) -> None:
        """Undecodable lines stand anywhere, beside each other and beside items that fail."""
        outcome = run_text(spec("fail"), "lines", b"\xff\n\xff\nvalue\nok\nstop\n\xff", 6)
        assert values(outcome) == ["ok"]
        assert failed(outcome) == [
            (10, "UnicodeDecodeError"),
            (11, "UnicodeDecodeError"),
            (12, "ValueError"),
            (14, "StopIteration"),
            (15, "UnicodeDecodeError"),
        ]

    @given(st.lists(st.sampled_from([b"a", b"", b"\xff", b"b\r", "é".encode()]), min_size=1))
    def test_any_lines(self, some: list[bytes]) -> None:
        """A chunk that can't be decoded whole gives the same good lines as one that can."""
        outcome = run_text(spec("same"), "lines", b"\n".join(some), len(some))
        good = [line.removesuffix(b"\r").decode() for line in some if line != b"\xff"]
        assert values(outcome) == good
        assert [index for index, _ in failed(outcome)] == [n for n, line in enumerate(some, 10) if line == b"\xff"]


class TestJson:
    """Items that are lines of JSON."""

    def test_lines(self) -> None:
        """Each line is a value."""
        data = b'1\n"a\\nb"\n{"x": [null]}\r\n 123456789012345678901234567890 '
        assert values(run_text(spec("same"), "json", data, 4)) == [
            1,
            "a\nb",
            {"x": [None]},
            123456789012345678901234567890,
        ]

    def test_python_s_json(self) -> None:
        """What Python writes as JSON is read too."""
        assert values(run_text(spec("same"), "json", b'Infinity\n"\\udcff"\n1', 3)) == [float("inf"), "\udcff", 1]

    @pytest.mark.parametrize("bad", [b"{", b"", b"1 2", b"\xff", b"[" * 100_000])
    def test_bad_line(self, module: Any, bad: bytes) -> None:
        """A line that isn't JSON fails alone, by its index and reason, and is not run."""
        outcome = run_text(spec("fail", "json"), "json", b'"a"\n' + bad + b'\n"b"\n' + bad, 4)
        assert [record.get("value") for record in lines(outcome)] == ["a", None, "b", None]
        assert [failure.index for failure in outcome.failures] == [11, 13]
        assert outcome.failures[0].message.startswith("item 11 isn't JSON: ")
        assert lines(outcome)[1]["item"] == bad.decode("utf-8", "backslashreplace")
        assert module.seen == ["a", "b"]

    def test_nul(self) -> None:
        """With NUL between items, a value may take many lines."""
        assert values(run_text(spec("same", separator=b"\0"), "json", b"[1,\n2]\0003", 2)) == [[1, 2], 3]


class TestCut:
    """Items of a chunk under way that are left to others."""

    @pytest.mark.parametrize("encoding", ["json", "outcomes", "values"])
    def test_what_has_not_been_started_is_left(self, module: Any, encoding: Encoding) -> None:
        """The chunk ends behind the item that is running, with outcomes up to there, and the rest is named."""
        runner = Runner(spec("cutter", encoding))
        module.cut = runner.cut
        outcome = runner.run(Chunk(100, 110, 1, "pickle"), serialize.dumps(list(range(10))))[0]
        assert module.told == 104
        assert outcome.stop == 104
        assert module.seen == [0, 1, 2, 3]
        assert runner.cut() == 0, "nothing is under way"

    def test_a_failed_item_does_not_matter(self, module: Any) -> None:
        """A chunk that is cut at an item which then fails has that failure, and nothing behind it."""
        runner = Runner(spec("cut_and_fail"))
        module.cut = runner.cut
        outcome = runner.run(Chunk(100, 110, 1, "pickle"), serialize.dumps(list(range(10))))[0]
        assert outcome.stop == module.told == 104
        assert failed(outcome) == [(103, "ValueError")]

    def test_a_chunk_keeps_one_item(self, module: Any) -> None:
        """Cut before the first item is started it still has that one, or there would be no outcome."""
        runner = Runner(spec("same", "outcomes"))
        told: list[int] = []
        apply = runner._apply

        def cut_first(items: Any) -> Any:
            told.append(runner.cut())
            return apply(items)

        runner._apply = cut_first
        [outcome] = runner.run(Chunk(100, 110, 1, "pickle"), serialize.dumps(list(range(10))))
        assert (told, outcome.start, outcome.stop) == ([101], 100, 101)

    def test_the_last_item_has_none_behind_it(self, module: Any) -> None:
        """At the last item there is nothing to leave, and the chunk is whole."""
        runner = Runner(spec("cutter"))
        module.cut = runner.cut
        outcome = runner.run(Chunk(100, 104, 1, "pickle"), serialize.dumps(list(range(4))))[0]
        assert (module.told, outcome.stop) == (0, 104)


class TestWrongChunks:
    """Chunks that aren't what they say."""

    @pytest.mark.parametrize(
        ("kind", "frames"),
        [
            ("pickle", serialize.dumps([1, 2])),
            ("pickle", serialize.dumps("abc")),
            ("pickle", serialize.dumps(3)),
            ("pickle", []),
            ("lines", [b"a\nb"]),
            ("lines", [b"a", b"b", b"c"]),
            ("lines", []),
            ("json", [b"1\n2"]),
            ("json", [b"1", b"2", b"3"]),
        ],
    )
    def test_count(self, module: Any, kind: ItemKind, frames: Any) -> None:
        """A chunk with another number of items than its range is the peer's fault, and nothing is run."""
        with pytest.raises(WireError, match=r"a chunk "):
            Runner(spec("fail")).run(Chunk(10, 13, 1, kind), frames)[0]
        assert module.seen == []

    def test_items_that_can_not_be_unpickled(self, module: Any) -> None:
        """Items of a class that the worker lacks fail, with the reason."""
        frames = serialize.dumps([module.Box(1), module.Box(2)])
        del module.Box
        outcome = Runner(spec("fail", "json")).run(Chunk(10, 12, 1, "pickle"), frames)[0]
        assert failed(outcome) == [(10, "AttributeError"), (11, "AttributeError")]
        assert "items 10 to 11 can't be unpickled on this worker" in outcome.failures[0].message
        assert [record["item"] for record in lines(outcome)] == [None, None]


class TestContext:
    """What a task may ask about its item."""

    def test_current(self) -> None:
        """A task is told its item's index, attempt, worker and job."""
        outcome = run(spec("where"), ["a", "b", "fail", "c"], start=40, attempt=3, worker="host/1 slot 2", job="j")
        assert values(outcome) == [[index, 3, "host/1 slot 2", "j"] for index in (40, 41, 43)]
        assert outcome.failures[0].message == "42"

    def test_after_items_that_can_not_be_read(self) -> None:
        """Items that fail unread are counted."""
        assert [row[0] for row in values(run_text(spec("where"), "lines", b"a\n\xff\nb", 3))] == [10, 12]

    def test_in_a_predicate(self) -> None:
        """A predicate is asked about the item whose value it sees."""
        assert run(spec("same", until="picky_where"), range(5)).hit == 12

    def test_outside(self) -> None:
        """Outside a task there is no item."""
        run(spec("where"), [1])
        with pytest.raises(RuntimeError, match="inside a task"):
            context.current()

    def test_nested(self) -> None:
        """A chunk run inside a task gives the outer item back when it ends."""
        with context.running(5, [None], 1, "outer", "j"):
            run(spec("where"), [1])
            assert context.current() == context.Context(6, 1, "outer", "j")


class TestUntil:
    """A predicate ends the job."""

    def test_hit(self, module: Any) -> None:
        """The chunk stops at the first value that satisfies, which is its last record."""
        outcome = run(spec("fail", until="above_five"), [1, 5, 6, 7, 8])
        assert values(outcome) == [1, 5, 6]
        assert (outcome.stop, outcome.hit) == (13, 12)
        assert module.seen == [1, 5, 6]

    def test_value_not_item(self) -> None:
        """It is the value that is asked about."""
        assert run(spec("double", until="above_five"), [1, 2, 3]).hit == 12

    def test_no_hit(self) -> None:
        """Without a hit the chunk is done as any other."""
        outcome = run(spec("double", until="above_five"), [1, 2])
        assert (values(outcome), outcome.stop, outcome.hit) == ([2, 4], 12, None)

    def test_predicate_that_raises(self, module: Any) -> None:
        """A predicate that raises fails that item, and the search goes on."""
        outcome = run(spec("same", until="picky"), [1, 3, 4, 5, 6])
        assert values(outcome) == [1, 4, 5]
        assert failed(outcome) == [(11, "ValueError")]
        assert (outcome.stop, outcome.hit) == (14, 13)
        assert module.seen == [1, 3, 4, 5]

    def test_records_up_to_the_hit(self) -> None:
        """Failures before the hit are recorded, later items are not."""
        records = lines(run(spec("divide", "json", until="above_five"), [4, 0, 2, 1]))
        assert [record["index"] for record in records] == [10, 11, 12]

    def test_unreadable_items(self) -> None:
        """Items that can't be read are no hits, and those after a hit don't count."""
        outcome = run_text(spec("same", until="above_five"), "json", b"1\nx\n6\nx", 4)
        assert (values(outcome), outcome.hit, outcome.stop) == ([1, 6], 12, 13)
        assert [failure.index for failure in outcome.failures] == [11]

    @pytest.mark.parametrize("first", [False, True])
    def test_hit_that_can_not_be_written(self, module: Any, first: bool) -> None:
        """A hit whose value can't be carried has failed: the search goes on behind it."""
        module.above = lambda value: value not in {"a", "b"}
        outcome = run(spec("fail", until="above", first=first), ["a", "lock", "b", "c", "d"])
        assert values(outcome) == (["c"] if first else ["a", "b", "c"])
        assert failed(outcome) == [(11, "TypeError")]
        assert (outcome.stop, outcome.hit) == (14, 13)
        assert module.seen == ["a", "lock", "b", "c"]

    def test_last_hit_that_can_not_be_written(self, module: Any) -> None:
        """When that was the last item, there is no hit."""
        module.above = lambda value: value != "a"
        outcome = run(spec("fail", until="above", first=True), ["a", "lock"])
        assert (values(outcome), outcome.stop, outcome.hit) == ([], 12, None)
        assert failed(outcome) == [(11, "TypeError")]


class TestFirst:
    """Only the first hit is wanted."""

    @pytest.mark.parametrize("encoding", ["values", "json", "pickle", "raw"])
    def test_hit(self, encoding: Encoding) -> None:
        """The frames hold the hit's record alone; failures before it are listed."""
        outcome = run(spec("divide", encoding, until="above_five", first=True), [4, 0, 2, 1])
        alone = run(spec("divide", encoding), [2], start=12)
        assert outcome.frames == alone.frames
        assert (outcome.stop, outcome.hit) == (13, 12)
        assert failed(outcome) == [(11, "ZeroDivisionError")]

    @pytest.mark.parametrize(
        ("encoding", "empty"), [("json", [b""]), ("pickle", [b""]), ("raw", [b""]), ("values", None)]
    )
    def test_no_hit(self, encoding: Encoding, empty: Any) -> None:
        """Without a hit there are no records; failures are listed."""
        outcome = run(spec("divide", encoding, until="above_five", first=True), [4, 0, 3])
        assert outcome.frames == (empty or serialize.dumps([]))
        assert (outcome.stop, outcome.hit) == (13, None)
        assert failed(outcome) == [(11, "ZeroDivisionError")]

    def test_truth(self) -> None:
        """Without a predicate the first true value is the hit."""
        outcome = run(spec("same", first=True), [0, "", [], 7, 8])
        assert (values(outcome), outcome.hit, outcome.stop) == ([7], 13, 14)

    def test_value_without_truth(self) -> None:
        """A value whose truth can't be told fails its item."""
        outcome = run(spec("Undecided", first=True), [1])
        assert (failed(outcome), outcome.hit) == ([(10, "ValueError")], None)


def lines_run(function: Callable[[], Any]) -> int:
    """Return how many lines of zpipe's own Python a call runs."""
    count = 0

    def line(_: Any, event: str, __: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: Any, _: str, __: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(str(Path(zpipe.__file__).parent)) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("encoding", ["values", "json", "raw"])
@pytest.mark.parametrize("kind", ["pickle", "lines", "json"])
def test_no_python_per_item(encoding: Encoding, kind: ItemKind) -> None:
    """Where nothing fails, as many lines of zpipe's run for a large chunk as for a small one."""
    runner = Runner(spec("same", encoding))

    def cost(count: int) -> int:
        items = range(count)
        frames = serialize.dumps(list(items)) if kind == "pickle" else [b"\n".join(b"%d" % item for item in items)]
        return lines_run(lambda: runner.run(Chunk(0, count, 1, kind), frames)[0])

    cost(2)
    assert cost(1000) == cost(2) > 10


LONG = [f"{n:03}" * 170 for n in range(20)]


@pytest.mark.parametrize("encoding", ["values", "json", "raw", "pickle"])
def test_results_that_no_message_can_hold_fail_with_the_mend(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results port would cut a worker off that sent them, and so another would be, again and again."""
    monkeypatch.setattr(wire, "MAX_BYTES", 5000)
    assert run(spec("same", encoding=encoding), LONG[:4]).failures == []
    failed = run(spec("same", encoding=encoding), LONG, start=7).failures
    assert [failure.index for failure in failed] == list(range(7, 27))
    assert "send fewer items together" in failed[0].message


def test_values_that_no_message_can_hold_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the exceptions that a script gets."""
    monkeypatch.setattr(wire, "MAX_BYTES", 5000)
    outcome = run(spec("same", encoding="outcomes"), LONG)
    assert len(outcome.failures) == 20
    assert "send fewer items together" in outcome.failures[0].message


def test_an_item_that_ran_too_long_has_failed_a_try() -> None:
    """It is not run: it fails with that error, and is tried again if tries are left; `retry_on` may name it."""
    late = Chunk(5, 6, 1, "pickle", doom="it ran for 9 s", late=True)
    frames = serialize.dumps([0])
    for encoding in ("json", "outcomes"):
        outcome = Runner(spec("divide", encoding, timeout=5.0)).run(late, frames)[0]
        assert [(f.index, f.type, f.message) for f in outcome.failures] == [(5, "ItemTimeout", "it ran for 9 s")]
        for names in ([], ["TimeoutError"], ["ItemTimeout"]):
            more = {"retries": 1, "retry_delay": 0.0, "retry_on": names}
            assert Runner(spec("divide", encoding, timeout=5.0, **more)).run(late, frames)[0].again == 0.0
        other = spec("divide", encoding, timeout=5.0, retries=1, retry_on=["KeyError"])
        assert Runner(other).run(late, frames)[0].failures
    with pytest.raises(TimeoutError, match="it ran for 9 s"):
        raise outcomes.decode(outcome.frames, 1)[1][0]


def test_a_watched_task_runs_as_any_other() -> None:
    """Its values, errors and tracebacks are the same, and between items nothing is on the page."""
    for call, items, name in (("one", [1, 2], "double"), ("star", [(1,), (2,)], "double")):
        watch = Stopwatch()
        job = spec(name, "values", timeout=5.0)
        job = msgspec.structs.replace(job, task=msgspec.structs.replace(job.task, call=call))
        runner = Runner(job, stopwatch=watch)
        outcome = runner.run(Chunk(7, 9, 1, "pickle"), serialize.dumps(items))[0]
        assert serialize.loads(outcome.frames) == [2, 4]
        assert (watch.read().since, watch.read().item, watch.read().limit) == (0.0, 8, 5.0)
    outcome = Runner(spec("divide", "json", timeout=5.0), stopwatch=watch).run(
        Chunk(0, 1, 1, "pickle"), serialize.dumps([0])
    )[0]
    assert b"stopwatch.py" not in b"".join(map(bytes, outcome.frames))
    assert watch.read().since == 0.0


class TestData:
    """Jobs where nothing is pickled."""

    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_items_and_values(self, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are data, and what is none fails alone, by its kind."""
        for name in ("loads", "dumps", "load_function"):
            monkeypatch.setattr(serialize, name, lambda *_: pytest.fail("a pickle"))
        batch, error = pack([1, "x", (2, 3)], 0, "items", codec)
        assert batch is not None
        assert not error
        job = spec("same", "values-json" if codec == "json" else "values-msgpack", codec=codec)
        outcome = Runner(job).run(Chunk(10, 13, 1, batch.kind), batch.frames)[0]
        assert data.load(outcome.frames[0], codec) == [1, "x", [2, 3]]
        batch, _ = pack([1, 2], 0, "items", codec)
        assert batch is not None
        outcome = Runner(msgspec.structs.replace(job, task=TaskSpec("import", "zt_tasks:Box"))).run(
            Chunk(10, 12, 1, batch.kind), batch.frames
        )[0]
        assert failed(outcome) == [(10, "TypeError"), (11, "TypeError")]
        title = data.TITLES[codec]
        said = f"the value of item 10, a Box, can't be carried as {title}: {title} has nothing for a Box"
        assert outcome.failures[0].message == f"{said}; return plain data"
        assert data.load(outcome.frames[0], codec) == []

    def test_pickled_items_are_no_part_of_it(self) -> None:
        """Whoever sends some breaks the protocol; they are not looked at."""
        bomb = b"cos\n_exit\n(I3\ntR."
        for codec in ("json", "msgpack"):
            with pytest.raises(WireError, match=f"pickled items in a job of --codec {codec}"):
                Runner(spec("same", "json", codec=codec)).run(Chunk(0, 1, 1, "pickle"), [bomb])

    def test_items_that_are_no_msgpack(self) -> None:
        """Neither is this."""
        for frame in (b"\xc1", b"\x80", pickle.dumps([1]), b"\x91" * 10_000):
            with pytest.raises(WireError):
                Runner(spec("same", "json", codec="msgpack")).run(Chunk(0, 1, 1, "msgpack"), [frame])

    def test_the_mend_names_no_pickles(self) -> None:
        """Where there are to be none."""
        outcome = Runner(spec("Box", "json", codec="json")).run(Chunk(0, 1, 1, "json"), [b"1"])[0]
        assert lines(outcome)[0]["error"]["message"].endswith("; return plain data")
        assert "--format" not in lines(outcome)[0]["error"]["message"]

    def test_only_what_is_allowed(self) -> None:
        """Any other is not loaded, whatever the caller wants of its errors."""
        with pytest.raises(TaskError, match="does not allow"):
            Runner(spec("same", "json", codec="json"), allowed=Allowed(["zt_tasks:double"]))
        with pytest.raises(TaskError, match="takes no pickles"):
            Runner(spec("same", "outcomes"), allowed=Allowed(["zt_tasks:same"]))
        with pytest.raises(TaskError, match="takes no pickles"):
            set_up(spec("same", setup=True), Allowed(["zt_tasks:same"]), print)
