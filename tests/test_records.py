"""What is made of a chunk's outcomes, and that what can't be carried fails its own item alone."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe import serialize
from zpipe.running import records
from zpipe.running.records import Batch, encode
from zpipe.running.traces import message_text

MB = 1024 * 1024
LIMIT = 256 * MB


def error(message: str = "boom", **more: Any) -> records.Error:
    """Return an item's error."""
    return {"type": "ValueError", "message": message, "traceback": "trace", **more}


def batch(
    values: list[Any], start: int = 10, items: Any = None, errors: dict[int, records.Error] | None = None
) -> Batch:
    """Return a batch of values, whose items are i0, i1, ... unless given."""
    return Batch(start, items if items is not None else [f"i{n}" for n in range(len(values))], values, errors or {})


def json_lines(some: Batch, limit: int = LIMIT) -> list[Any]:
    """Return the records that a batch makes as JSON, having checked that each is one line."""
    (frame,) = encode(some, "json", limit)
    text = bytes(frame).decode()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def pickles(some: Batch, limit: int = LIMIT) -> list[Any]:
    """Return the records that a batch makes as pickles, read one after another."""
    (frame,) = encode(some, "pickle", limit)
    file, found = io.BytesIO(frame), []
    while file.tell() < len(frame):
        found.append(pickle.load(file))
    return found


def raw(some: Batch, limit: int = LIMIT, command: bool = False) -> bytes:
    """Return what a batch makes as text."""
    (frame,) = encode(some, "raw", limit, command)
    return bytes(frame)


def values(some: Batch, limit: int = LIMIT) -> Any:
    """Return the list that a batch makes to be folded."""
    return serialize.loads(encode(some, "values", limit))


@dataclass
class Point:
    """A value of a user's own type."""

    x: int


class Unprintable:
    """A value that has no text, nor a pickle."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class Once:
    """A value that can be pickled every other time."""

    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> Any:
        self.times += 1
        if self.times % 2:
            raise RuntimeError("not now")
        return (int, ())


class Scalar:
    """A value of a library that gives plain numbers by `tolist`, as NumPy does."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def tolist(self) -> Any:
        """Return the plain value."""
        return self.plain


class Number(float):
    """A float of a subclass."""


class Text(str):
    """A text of a subclass."""

    __slots__ = ()


class TestJson:
    """A line of JSON for each item."""

    def test_record(self) -> None:
        """A record has the index, the item and the value."""
        assert json_lines(batch([1, "two\nlines", None])) == [
            {"index": 10, "item": "i0", "value": 1},
            {"index": 11, "item": "i1", "value": "two\nlines"},
            {"index": 12, "item": "i2", "value": None},
        ]

    def test_order_of_keys(self) -> None:
        """A line is compact, and its keys stand in order."""
        assert encode(batch([1]), "json", LIMIT) == [b'{"index":10,"item":"i0","value":1}\n']

    def test_failed_item(self) -> None:
        """A failed item's record has its error in place of its value."""
        assert json_lines(batch([1, None, 3], errors={11: error()})) == [
            {"index": 10, "item": "i0", "value": 1},
            {"index": 11, "item": "i1", "error": {"type": "ValueError", "message": "boom", "traceback": "trace"}},
            {"index": 12, "item": "i2", "value": 3},
        ]

    def test_failed_command(self) -> None:
        """A failed command's has its status and what it printed, bytes that are no text included."""
        (record,) = json_lines(batch([None], errors={10: error(exit=3, stdout="o\udcff", stderr="e")}))
        assert record["error"]["exit"] == 3
        assert record["error"]["stdout"].encode("utf-8", "surrogateescape") == b"o\xff"

    @pytest.mark.parametrize(
        ("value", "wanted"),
        [
            (b"\xff", "/w=="),
            (Point(1), {"x": 1}),
            (dt.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
            (float("nan"), None),
            ([float("inf")], [None]),
            ((1, 2), [1, 2]),
            ({1: 2}, {"1": 2}),
            (2**70, 2**70),
            ("\udcff\ud800", "\udcff\ud800"),
            (["\udcff", b"x", Point(2**80), Path("p")], ["\udcff", "eA==", {"x": 2**80}, "p"]),
            (Path("a/b"), "a/b"),
            (Number(1.5), 1.5),
            (Text("x"), "x"),
            ({"a": Scalar(3)}, {"a": 3}),
            (Scalar([[1], [2]]), [[1], [2]]),
            ({None: 1, "\udcff": 2}, {"null": 1, "\udcff": 2}),
        ],
    )
    def test_values(self, value: Any, wanted: Any) -> None:
        """What is not plain JSON is written as the nearest thing."""
        some = batch([1, value])
        assert json_lines(some)[1]["value"] == wanted
        assert not some.errors

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (1 + 2j, "JSON has nothing for a complex"),
            ([object()], "JSON has nothing for a object"),
            ({(1, 2): 3}, "keys must be"),
            ({"a": Unprintable()}, "JSON has nothing for a Unprintable"),
        ],
    )
    def test_value_that_has_no_json(self, value: Any, reason: str) -> None:
        """A value that JSON has nothing for fails its item alone, and says what to do."""
        some = batch([1, value, 3])
        first, second, third = json_lines(some)
        assert (first["value"], third["value"]) == (1, 3)
        said = second["error"]["message"]
        assert f"the value of item 11, a {type(value).__name__}, can't be written as JSON" in said
        assert reason in said
        assert "ask for --format pickle, or return plain data" in said
        assert some.errors[11]["type"] == "TypeError"
        assert some.values == [1, None, 3]

    def test_endless_value(self) -> None:
        """A value that contains itself fails its item."""
        endless: list[Any] = []
        endless.append(endless)
        some = batch([endless, 1])
        assert json_lines(some)[1]["value"] == 1
        assert list(some.errors) == [10]

    def test_item_that_has_no_json(self) -> None:
        """An item that JSON has nothing for is shown by its repr, and does not fail for that."""
        some = batch([1, None], items=[1 + 2j, Unprintable()], errors={11: error()})
        first, second = json_lines(some)
        assert (first["item"], first["value"]) == ("(1+2j)", 1)
        assert "Unprintable" in second["item"]
        assert list(some.errors) == [11]

    def test_large_item(self) -> None:
        """An item too large to be shown beside its result is cut, and does not fail for that."""
        some = batch([1, None], items=["x" * 2000, "y" * 2000], errors={11: error()})
        first, second = json_lines(some, 1000)
        assert first["value"] == 1
        assert len(first["item"]) < 300
        assert len(second["item"]) < 300
        assert list(some.errors) == [11]

    def test_large_error(self) -> None:
        """A failed command that printed too much loses what it printed, not its message."""
        (record,) = json_lines(batch([None], errors={10: error(exit=3, stdout="x" * 2000, stderr="")}), 1000)
        assert record["error"] == error()

    def test_nothing(self) -> None:
        """No outcomes are no lines, in one frame."""
        assert encode(batch([]), "json", LIMIT) == [b""]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_plain_data(self, value: Any) -> None:
        """Plain data comes out as it was."""
        assert json_lines(batch([value]))[0]["value"] == value


class TestPickle:
    """A pickle for each item."""

    def test_records(self) -> None:
        """Records are dicts, read by calling pickle.load again and again."""
        some = batch([Point(1), None, b"x"], items=[1 + 2j, "b", "c"], errors={11: error(exit=1)})
        assert pickles(some) == [
            {"index": 10, "item": 1 + 2j, "value": Point(1)},
            {"index": 11, "item": "b", "error": error(exit=1)},
            {"index": 12, "item": "c", "value": b"x"},
        ]

    def test_no_errors(self) -> None:
        """The quick way gives the same records."""
        assert pickles(batch([1, 2])) == [
            {"index": 10, "item": "i0", "value": 1},
            {"index": 11, "item": "i1", "value": 2},
        ]

    def test_buffers_are_inside(self) -> None:
        """A value with buffers of its own is complete in its record."""
        assert pickles(batch([pickle.PickleBuffer(b"abc")]))[0]["value"] == b"abc"

    def test_value_that_has_no_pickle(self) -> None:
        """A value that can't be pickled fails its item alone."""
        some = batch([1, threading.Lock(), 3])
        first, second, third = pickles(some)
        assert (first["value"], third["value"]) == (1, 3)
        assert "the value of item 11, a lock, can't be pickled" in second["error"]["message"]
        assert "return plain data" in second["error"]["message"]
        assert "--format" not in second["error"]["message"]

    def test_generators_are_no_values(self) -> None:
        """Whoever wraps a generator function is told what a task has to be."""
        (told,) = pickles(batch([(n for n in (1, 2))]))
        assert "or name a function that has the yield itself" in told["error"]["message"]

    def test_item_that_has_no_pickle(self) -> None:
        """An item that can't be pickled any more is shown by its repr."""
        assert "Unprintable" in pickles(batch([1], items=[Unprintable()]))[0]["item"]


class TestRaw:
    """Values as text."""

    def test_lines(self) -> None:
        """Each value ends with a newline, and has no second one."""
        assert raw(batch(["a", "b\n", "", "c\nd"])) == b"a\nb\n\nc\nd\n"
        assert raw(batch(["a", "b"])) == b"a\nb\n"

    def test_types(self) -> None:
        """Bytes are as they are, None is nothing, the rest is its text."""
        assert raw(batch([b"\xff", None, 1, 2.5, True, [1], bytearray(b"x\n"), memoryview(b"y")])) == (
            b"\xff\n1\n2.5\nTrue\n[1]\nx\ny\n"
        )
        assert raw(batch([1, 2.5, True])) == b"1\n2.5\nTrue\n"

    def test_nothing(self) -> None:
        """No values, or none but None, write nothing."""
        assert raw(batch([])) == b""
        assert raw(batch([None])) == b""

    def test_failed_items_write_nothing(self) -> None:
        """A failed item has no line."""
        assert raw(batch(["a", None, "c"], errors={11: error()})) == b"a\nc\n"

    def test_text_of_bytes(self) -> None:
        """Text that stands for bytes gives them again."""
        assert raw(batch(["\udcff"])) == b"\xff\n"

    def test_command(self) -> None:
        """A command's output is written as it is; a value that only looks like one is text."""
        results = [{"stdout": out, "stderr": "e", "exit": 0} for out in ("a\n", "b", "", "c\n\n", "\udcff")]
        assert raw(batch(results), command=True) == b"a\nb\nc\n\n\xff\n"
        assert raw(batch(results[:1])) == b"{'stdout': 'a\\n', 'stderr': 'e', 'exit': 0}\n"

    @pytest.mark.parametrize("value", [Unprintable(), "\ud800"])
    def test_value_that_has_no_text(self, value: Any) -> None:
        """A value that can't be made text fails its item alone."""
        some = batch(["a", value, "c"])
        assert raw(some) == b"a\nc\n"
        assert f"the value of item 11, a {type(value).__name__}, can't be written as text" in some.errors[11]["message"]

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers() | st.none()))
    def test_quick_way_is_the_slow_way(self, some: list[Any]) -> None:
        """Chunk by chunk and value by value come to the same."""
        apart = b"".join(raw(batch([value])) for value in some)
        assert raw(batch(some)) == apart
        assert apart == b"".join(
            text.encode() + b"\n" * (not text.endswith("\n")) for text in (str(v) for v in some if v is not None)
        )


class TestValues:
    """A pickled list to be folded."""

    def test_list(self) -> None:
        """The values stand in order."""
        assert values(batch([1, Point(2), None])) == [1, Point(2), None]

    def test_failed_items_are_left_out(self) -> None:
        """A failed item has no value."""
        assert values(batch([1, None, 3], errors={11: error()})) == [1, 3]

    def test_buffers_stay_outside(self) -> None:
        """A value's large buffers are frames of their own."""
        frames = encode(batch([pickle.PickleBuffer(bytes(100_000))]), "values", LIMIT)
        assert [len(frame) for frame in frames[1:]] == [100_000]

    def test_too_many_buffers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Buffers beyond what a message may have frames travel inside the pickle."""
        monkeypatch.setattr(records, "MAX_FRAMES", 3)
        some = [pickle.PickleBuffer(bytes([n]) * 200_000) for n in range(3)]
        frames = encode(batch(some), "values", LIMIT)
        assert len(frames) == 1
        assert serialize.loads(frames) == [bytes([n]) * 200_000 for n in range(3)]

    def test_value_that_has_no_pickle(self) -> None:
        """A value that can't be pickled fails its item alone."""
        some = batch([1, threading.Lock(), Unprintable(), 4])
        assert values(some) == [1, 4]
        assert "the value of item 11, a lock, can't be pickled" in some.errors[11]["message"]
        assert "no pickle" in some.errors[12]["message"]

    def test_values_that_pickle_apart_only(self) -> None:
        """Values that can be pickled once and then not again fail, and take nothing else down."""
        some = batch([Once(), Once()])
        assert values(some) == []
        assert sorted(some.errors) == [10, 11]
        assert "not again" in some.errors[10]["message"]

    def test_nothing(self) -> None:
        """No outcomes are an empty list."""
        assert values(batch([])) == []


class TestLimit:
    """Results that are too large."""

    @pytest.mark.parametrize("encoding", ["json", "pickle", "raw", "values"])
    def test_large_value(self, encoding: Any) -> None:
        """A result over the limit fails its item alone, and says what to do."""
        some = batch(["a", "x" * 2 * MB, "c"])
        frames = encode(some, encoding, MB)
        assert sum(map(len, frames)) < 2000
        assert list(some.errors) == [11]
        assert some.errors[11]["message"] == (
            "the result of item 11 is 2.0 MB, over the limit of 1.0 MB: "
            "write it to a file and return its path, or raise --max-result"
        )
        assert some.values == ["a", None, "c"]

    @pytest.mark.parametrize("encoding", ["json", "pickle", "raw", "values"])
    def test_large_chunk(self, encoding: Any) -> None:
        """Results that are over the limit only together do not fail."""
        some = batch([letter * 1000 for letter in "abcde"])
        assert sum(map(len, encode(some, encoding, 2000))) > 5000
        assert not some.errors

    def test_command(self) -> None:
        """A command's output counts as raw text."""
        some = batch([{"stdout": "x" * 2000, "stderr": "", "exit": 0}])
        assert raw(some, 1000, command=True) == b""
        assert "the result of item 10 is 2.0 KB, over the limit of 1000 bytes" in some.errors[10]["message"]

    @pytest.mark.parametrize(
        ("size", "said"),
        [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KB"),
            (256 * MB, "256 MB"),
            (1024 * MB, "1.0 GB"),
            (20480 * MB, "20 GB"),
        ],
    )
    def test_sizes(self, size: int, said: str) -> None:
        """Sizes are said in the unit that suits them."""
        assert records._size_text(size) == said


class TestMessageText:
    """Text that can travel."""

    def test_plain(self) -> None:
        """An exception's message is itself."""
        assert message_text(ValueError("é")) == "é"

    def test_unprintable(self) -> None:
        """An exception whose text fails is named by its type."""
        assert message_text(Unprintable()) == "<a Unprintable whose str() fails>"

    def test_surrogates(self) -> None:
        """What is no valid Unicode is spelled out, so that a header can hold it."""
        assert message_text("a\udcff") == "a\\udcff"
        assert msgspec.msgpack.encode(message_text("a\udcff"))

    def test_long(self) -> None:
        """A long text keeps its beginning and its end."""
        said = message_text("a" + "x" * 100_000 + "z")
        assert said[0] == "a"
        assert said[-1] == "z"
        assert "[80002 characters left out]" in said
        assert len(said) < 21_000


def test_batch_of_one() -> None:
    """A batch can be narrowed to one item, or none, sharing its errors."""
    some = batch(["a", "b"])
    one = some.only(11)
    assert (one.start, one.items, one.values) == (11, ["i1"], ["b"])
    assert one.errors is some.errors
    assert some.only(None).values == []
