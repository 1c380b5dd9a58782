"""Values by key in an output."""

from __future__ import annotations

import json
import operator
import pickle
from pathlib import Path
from typing import Any

import pytest

from zpipe import serialize
from zpipe.cli.output import fold
from zpipe.errors import OutputError, UsageError
from zpipe.output.folds import Fold
from zpipe.output.grouping import Grouping, field
from zpipe.output.outputs import open_output

ROWS = [{"k": "b", "n": 1}, {"k": "a", "n": 2}, {"k": "b", "n": 3}]


def append(so_far: list[int], row: dict[str, Any]) -> list[int]:
    """Add to the list that it is given."""
    so_far.append(row["n"])
    return so_far


def written(path: Path, format_: Any, grouping: Any) -> bytes:
    """What is written of the rows, with a snapshot taken and restored halfway."""
    first: Any = Fold(*grouping()).into(open_output(str(path), format_))
    first.write(serialize.dumps(ROWS[:2]))
    kept = first.snapshot()
    first.abandon()
    second: Any = Fold(*grouping()).into(open_output(str(path), format_))
    second.restore(kept)
    second.write(serialize.dumps(ROWS[2:]))
    second.finish()
    return path.read_bytes()


def test_records(tmp_path: Path) -> None:
    """A record for each key, as lists or folded, with a value of its own to begin with, in every format."""
    by = field("k")

    def lists() -> Any:
        return Grouping(by), True, {}, "pickle"

    def folded() -> Any:
        return Grouping(by, append, True, []), True, {}, "pickle"

    found = [json.loads(line) for line in written(tmp_path / "out", "json", lists).splitlines()]
    assert found == [{"key": "b", "values": [ROWS[0], ROWS[2]]}, {"key": "a", "values": [ROWS[1]]}]
    assert written(tmp_path / "raw", "raw", folded) == b"b\t[1, 3]\na\t[2]\n"
    data = written(tmp_path / "pickle", "pickle", folded)
    assert pickle.loads(data) == {"key": "b", "value": [1, 3]}


def test_without_values(tmp_path: Path) -> None:
    """There are no records, and that is no error."""
    made = Fold(Grouping(len), True, {}, "pickle").into(open_output(str(tmp_path / "out"), "json"))
    made.finish()
    assert (tmp_path / "out").read_bytes() == b""


def test_keys_that_can_not_be(tmp_path: Path) -> None:
    """A value without the field, or a key that is a list, ends the job, which says whose fault it is."""
    for key, said in ((field("none"), "the field 'none'"), (operator.itemgetter("k"), "unhashable")):
        made = Fold(Grouping(key), True, {}, "pickle").into(open_output(str(tmp_path / "out"), "json"))
        with pytest.raises(OutputError, match=said):
            made.write(serialize.dumps([{"k": [1]}]))
        made.abandon()


def test_options() -> None:
    """A function by its name, or a field; `--initial` needs a fold."""
    grouping, _, groups, _ = fold("operator:add", "5", "json", "builtins:abs")
    assert grouping(grouping(groups, -1), 1) == {1: 5}
    assert fold(None, None, "pickle", "name")[0]({}, {"name": 1}) == {1: [{"name": 1}]}
    assert fold(None, None, "pickle") is None
    with pytest.raises(UsageError, match="--initial goes with --reduce"):
        fold(None, "5", "pickle", "name")
    with pytest.raises(UsageError, match="--group-by os:sep is no function"):
        fold(None, None, "pickle", "os:sep")
