"""Folds and callbacks: values that are written as one, or passed on."""

from __future__ import annotations

import json
import operator
import os
import pickle
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe import data, serialize
from zpipe.core.spec import Codec
from zpipe.errors import OutputError, UsageError
from zpipe.output.folds import CallOutput, Fold, FoldOutput
from zpipe.output.outputs import FileOutput, open_output

CaptureBytes = pytest.CaptureFixture[bytes]


class Scalar:
    """A number as NumPy has it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def tolist(self) -> int:
        """Return the plain number."""
        return self.number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A name for an output."""
    return tmp_path / "sums.jsonl"


class TestFold:
    """Values become one value."""

    def fold(self, *chunks: list[Any], initial: tuple[Any, ...] = ()) -> Any:
        """Return the sum of all values."""
        output = FoldOutput(operator.add, bool(initial), initial[0] if initial else None)
        for chunk in chunks:
            output.write(serialize.dumps(chunk))
        output.finish()
        return output.value

    def test_first_value_starts(self) -> None:
        """Without an initial value the first value starts the fold, also after empty chunks."""
        assert self.fold([], [1, 2], [], [3]) == 6

    def test_initial_value(self) -> None:
        """An initial value starts the fold, and is the answer when there are no values."""
        assert self.fold(["b"], ["c"], initial=("a",)) == "abc"
        assert self.fold(initial=("a",)) == "a"

    def test_none_is_an_initial_value(self) -> None:
        """None can start a fold."""
        output = FoldOutput(lambda a, b: (a, b), True, None)
        output.write(serialize.dumps([1]))
        assert output.value == (None, 1)

    def test_no_frames(self) -> None:
        """A chunk without a payload has no values."""
        output = FoldOutput(operator.add, True, 0)
        output.write([])
        output.write([b""])
        assert output.value == 0

    def test_nothing_to_fold(self, path: Path) -> None:
        """No value and no initial value is an error that names the option, and leaves no file."""
        output = FoldOutput(operator.add, target=FileOutput(path, "json"))
        output.write(serialize.dumps([]))
        with pytest.raises(OutputError, match=r"nothing to fold.*--initial"):
            output.finish()
        assert output.abandon() == ""
        assert os.listdir(path.parent) == []

    def test_reducer_raises(self) -> None:
        """The reducer's exception is told by type, message and traceback."""

        def merge(a: int, b: int) -> int:
            return a // b

        output = FoldOutput(merge)
        with pytest.raises(OutputError) as failure:
            output.write(serialize.dumps([1, 0]))
        text = str(failure.value)
        assert "merge raised ZeroDivisionError: " in text.splitlines()[0]
        assert "return a // b" in text

    def test_values_that_can_not_be_unpickled(self) -> None:
        """A value whose module is not there is an error with a mend."""
        with pytest.raises(OutputError, match=r"ModuleNotFoundError.*importable there"):
            FoldOutput(operator.add).write([b"cno_such_module\nThing\n."])

    @pytest.mark.parametrize(
        ("encoding", "value", "text"),
        [
            ("json", {"a": [1, None]}, b'{"a":[1,null]}\n'),
            ("json", {None: "\ud800"}, b'{"null": "\\ud800"}\n'),
            ("json", {"sum": Scalar(7), None: Scalar(8)}, b'{"sum": 7, "null": 8}\n'),
            ("json", [Scalar(7), date(2020, 1, 2)], b'[7,"2020-01-02"]\n'),
            ("raw", 12.5, b"12.5\n"),
            ("raw", b"\xff", b"\xff\n"),
        ],
    )
    def test_written_at_finish(self, path: Path, encoding: Any, value: Any, text: bytes) -> None:
        """The folded value is written as asked, at the end only."""
        output = FoldOutput(lambda _, new: new, target=FileOutput(path, encoding))
        output.write(serialize.dumps([value]))
        output.flush()
        assert not path.exists()
        output.finish()
        assert path.read_bytes() == text

    def test_pickle(self, path: Path) -> None:
        """A pickled fold is read by pickle alone, out-of-band buffers or not."""
        value = {"a": bytearray(b"x" * 100), "b": pickle.PickleBuffer(b"yy")}
        output = FoldOutput(operator.or_, True, value, FileOutput(path, "pickle"))
        output.finish()
        assert pickle.loads(path.read_bytes()) == {"a": bytearray(b"x" * 100), "b": b"yy"}

    @pytest.mark.parametrize("value", [1j, {(1, 2): 3}, object(), {None: float("nan")}])
    def test_json_can_not_carry_it(self, path: Path, value: Any) -> None:
        """A value that JSON can't carry is an error that says what else to ask for."""
        output = FoldOutput(operator.add, True, value, FileOutput(path, "json"))
        with pytest.raises(OutputError, match=r"can't be written as json.*--format pickle, or return plain data"):
            output.finish()
        assert output.abandon() == ""
        assert output.value is value

    def test_pickle_can_not_carry_it(self, path: Path) -> None:
        """A value that can't be pickled is an error, too."""
        output = FoldOutput(operator.add, True, threading.Lock(), FileOutput(path, "pickle"))
        with pytest.raises(OutputError, match=r"type lock, can't be written as pickle.*return plain data"):
            output.finish()
        output.abandon()

    @given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=6), st.none() | st.text(max_size=3))
    def test_like_one_fold(self, chunks: list[list[str]], initial: str | None) -> None:
        """Folding chunk by chunk is folding all values in order, a reducer that is not commutative included."""
        values = [value for chunk in chunks for value in chunk]
        start = () if initial is None else (initial,)
        if not values and not start:
            return
        assert self.fold(*chunks, initial=start) == "".join([*start, *values])

    def test_into(self, capfdbinary: CaptureBytes) -> None:
        """A fold takes values and writes one record."""
        output = Fold(operator.add, True, 1).into(open_output(None, "json"))
        assert output.encoding == "values"
        output.write(serialize.dumps([2, 3]))
        output.finish()
        assert json.loads(capfdbinary.readouterr().out) == 6


class TestCall:
    """Values go to a callback."""

    def test_lists(self) -> None:
        """Each chunk's values arrive as a list, chunks without any do not."""
        got: list[list[int]] = []
        output = CallOutput(got.append)
        for frames in (serialize.dumps([1, 2]), [], serialize.dumps([]), serialize.dumps([3])):
            output.write(frames)
        output.flush()
        output.finish()
        assert got == [[1, 2], [3]]
        assert output.encoding == "values"
        assert output.abandon() == ""

    def test_exceptions_go_through(self) -> None:
        """The callback's exceptions are its caller's."""
        with pytest.raises(TypeError):
            CallOutput(lambda _: operator.add(1, "")).write(serialize.dumps([1]))


class TestFoldOfData:
    """Values that come as data become one value, and nothing is unpickled."""

    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_folds_data(self, codec: Codec, tmp_path: Path) -> None:
        """As it does with pickles; a snapshot is data as well, and goes on elsewhere."""
        path = tmp_path / "out"
        output = FoldOutput(operator.add, True, [0], FileOutput(path, "json"), codec)
        assert output.encoding == f"values-{codec}"
        output.write([data.dump([[1], [2, 3]], codec)])
        output.write([data.dump([], codec)])
        kept = output.snapshot()
        assert kept is not None
        again = FoldOutput(operator.add, True, [0], codec=codec)
        again.restore(kept)
        again.write([data.dump([[4]], codec)])
        assert again.value == [0, 1, 2, 3, 4]
        output.finish()
        assert path.read_text() == "[0,1,2,3]\n"

    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_refuses_pickles(self, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
        """And whatever else is no list of data, without looking at it."""
        monkeypatch.setattr(serialize, "loads", lambda _: pytest.fail("unpickled"))
        for frames in ([pickle.dumps([1])], [data.dump({"a": 1}, codec)], [data.dump([1], codec), b"more"], [b"\xc1["]):
            with pytest.raises(OutputError, match=f"--codec {codec}"):
                FoldOutput(operator.add, codec=codec).write(frames)
        with pytest.raises(UsageError, match="in the journal is no"):
            FoldOutput(operator.add, codec=codec).restore(pickle.dumps((True, 1)))

    def test_keeps_no_snapshot_that_would_differ(self) -> None:
        """A tuple would come back as a list: what it was folded from is kept instead."""
        output = FoldOutput(lambda _, new: (new,), codec="json")
        output.write([data.dump([1, 2], "json")])
        assert output.value == (2,)
        assert output.snapshot() is None

    def test_names_no_pickle_as_the_mend(self) -> None:
        """Where there is to be none."""
        output = FoldOutput(lambda *_: object(), True, 0, FileOutput("out", "json"), "json")
        output.write([data.dump([1], "json")])
        with pytest.raises(OutputError, match=r"can't be written as json.*; return plain data"):
            output.finish()
        output.abandon()
