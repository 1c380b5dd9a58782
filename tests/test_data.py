"""Items and values as data: what comes out is what went in, and what would not be is refused with the mend."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import enum
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe import data
from zpipe.core.spec import Codec

CODECS: tuple[Codec, ...] = ("json", "msgpack")

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


class Color(str, enum.Enum):
    """A kind of text."""

    RED = "red"


class Point(NamedTuple):
    """A kind of tuple."""

    x: int
    y: Any


@given(PLAIN)
def test_plain_data_comes_back(value: Any) -> None:
    """In its types as well, by either codec, alone and as lines."""
    for codec in CODECS:
        found = data.load(data.dump(value, codec), codec)
        assert repr(found) == repr(value)
        assert data.is_plain(value, codec)
    lines = data.dump_lines([value, value])
    assert [data.load(line, "json") for line in lines.split(b"\n")] == [value, value]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2, [3])), [1, [2, [3]]]),
        (Point(1, {"a": (2,)}), [1, {"a": [2]}]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ([Color.RED, {"x": Color.RED}], ["red", {"x": "red"}]),
        (np.float64(1.5), 1.5),
        ({"n": np.int32(7), "a": np.arange(3)}, {"n": 7, "a": [0, 1, 2]}),
        (Path("a/b"), "a/b"),
    ],
)
def test_kinds_of_data_become_plain(value: Any, plain: Any) -> None:
    """Tuples are lists; a Counter is a dict, an enumeration's member its text, NumPy's numbers are numbers."""
    for codec in CODECS:
        found = data.load(data.dump(value, codec), codec)
        assert repr(found) == repr(plain)
        assert not data.is_plain(value, codec)
    assert data.load(data.dump_lines([value]), "json") == plain


@pytest.mark.parametrize("value", [{1}, [dt.date(2020, 1, 1)], {"a": object()}, 1j, {"k": {1j: 2}}, print])
def test_what_is_no_data_is_refused(value: Any) -> None:
    """Rather than turned into something else, as JSON encoders like to do with sets and dates."""
    for codec in CODECS:
        with pytest.raises((TypeError, ValueError), match=data.TITLES[codec]):
            data.dump(value, codec)
        assert not data.is_plain(value, codec)
    with pytest.raises((TypeError, ValueError), match="JSON"):
        data.dump_lines([1, value])


@pytest.mark.parametrize("value", [b"\xff", [math.nan], {"a": math.inf}, {1: 2}, {(1, 2): [3]}, [bytearray(b"x")]])
def test_what_json_lacks(value: Any) -> None:
    """It is refused, and the other codec, which carries it, is named."""
    with pytest.raises((TypeError, ValueError), match="--codec msgpack carries it"):
        data.dump(value, "json")
    assert repr(data.load(data.dump(value, "msgpack"), "msgpack")) == repr(value).replace("bytearray(b'x')", "b'x'")


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, ["a\udc80"]])
def test_what_msgpack_lacks(value: Any) -> None:
    """It is refused, and the other codec, which carries it, is named."""
    with pytest.raises((TypeError, ValueError), match="--codec json carries it"):
        data.dump(value, "msgpack")
    assert data.load(data.dump(value, "json"), "json") == value
    assert data.load(data.dump_lines([value]), "json") == value


def test_what_contains_itself_is_refused() -> None:
    """As any error in a value: nothing hangs, nothing crashes."""
    endless: list[Any] = []
    endless.append(endless)
    for codec in CODECS:
        with pytest.raises(RecursionError):
            data.dump(endless, codec)


@given(st.binary(max_size=200))
def test_garbage_is_an_error(garbage: bytes) -> None:
    """One that callers know, whatever it is; a pickle is garbage too."""
    for codec in CODECS:
        with contextlib.suppress(ValueError, RecursionError):
            data.load(garbage, codec)
