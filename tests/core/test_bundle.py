"""Small buffers in shared frames: what is put together comes apart again, and nothing else is believed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core import bundle
from zpipe.core.bundle import BUNDLE, BUNDLED, bundled, unbundled
from zpipe.core.wire import Buffer

HEAD = b"a pickle."
SIZES = st.lists(st.sampled_from([4096, 5001, 40_000, BUNDLED - 1, BUNDLED, BUNDLED + 9]), max_size=40)


def made(sizes: Sequence[int]) -> list[Buffer]:
    """Buffers of these sizes, no two alike, of one kind after the other."""
    kinds = (bytes, bytearray, memoryview)
    return [kinds[n % 3](bytes([n]) * size) for n, size in enumerate(sizes)]


def arrived(frames: Sequence[Buffer]) -> list[Buffer]:
    """The frames as they are received."""
    return [bytes(frames[0]), *(memoryview(bytearray(frame)) for frame in frames[1:])]


@given(SIZES, st.booleans())
def test_buffers_come_out_as_they_went_in(sizes: list[int], sharing: bool) -> None:
    """All of them, in order and writable, in no more frames than buffers, none too long."""
    buffers = made(sizes)
    frames = bundled(HEAD, buffers)
    assert bytes(frames[0]).startswith(HEAD)
    assert len(frames) <= len(buffers) + 1
    assert all(len(frame) <= BUNDLE or frame in buffers for frame in frames[1:])
    found = unbundled(arrived(frames), sharing=sharing)
    assert list(map(bytes, found)) == list(map(bytes, buffers))
    assert not any(memoryview(one).readonly for one in found)


def test_small_ones_share_frames_and_large_ones_are_sent_from_where_they_are() -> None:
    """As many as have room in a frame, whatever is between them."""
    small, large = bytearray(BUNDLE // 16), bytearray(BUNDLED)
    frames = bundled(HEAD, [small, large, *[small] * 16, large])
    assert [len(frame) for frame in frames[1:]] == [BUNDLE, BUNDLED, len(small), BUNDLED]
    assert frames[2] is large
    assert frames[4] is large


def test_each_begins_where_numbers_may_begin() -> None:
    """An array is taken from where its buffer begins in the frame, after others of any size."""
    frames = bundled(HEAD, [b"x" * 5001, memoryview(b"y" * 4097), b"z" * 8192])
    frame = bytes(frames[1])
    assert (frame.index(b"y"), frame.index(b"z")) == (5008, 5008 + 4112)
    assert list(map(bytes, unbundled(frames))) == [b"x" * 5001, b"y" * 4097, b"z" * 8192]


def test_one_of_a_kind_is_left_alone() -> None:
    """A single small buffer has a frame of its own, and the pickle nothing behind it."""
    buffers: list[Buffer] = [bytearray(5000), bytearray(BUNDLED)]
    frames = bundled(HEAD, buffers)
    assert frames[0] is HEAD
    assert frames[1] is buffers[0]


def test_one_that_is_kept_keeps_nothing_else() -> None:
    """Each is copied out, unless it may be `sharing`, or is copied by what loads it: then it is a view of its frame."""
    frames = arrived(bundled(HEAD, [bytearray(5000), memoryview(bytes(5000))]))
    own, viewed = unbundled(frames)
    assert type(own) is bytearray
    assert type(viewed) is memoryview
    assert all(type(one) is memoryview for one in unbundled(frames, sharing=True))


def test_frames_that_never_were_away_are_copied() -> None:
    """Whoever gets them may write to them, and not into what somebody else still has."""
    kept = bytes(BUNDLED)
    (one,) = unbundled([HEAD, kept])
    memoryview(one)[0] = 1
    assert kept[0] == 0
    received = memoryview(bytearray(BUNDLED))
    assert unbundled([HEAD, received])[0] is received


@pytest.mark.parametrize(
    "words", [[bundle.FIRST | 5001], [bundle.FIRST | 4000, 1002], [bundle.FIRST | 1, 0], [1], [0, 0]]
)
def test_sizes_that_are_not_there_are_refused(words: list[int]) -> None:
    """A payload that says of its buffers what is not so can't be read."""
    head = HEAD + struct.pack(f"<{len(words)}IIB", *words, len(words), 0)
    with pytest.raises(ValueError, match="not where it says"):
        unbundled([head, bytearray(5000)])


@pytest.mark.parametrize("end", [b"\0", struct.pack("<IB", 7, 0), struct.pack("<IB", 2**32 - 1, 7)])
def test_an_end_that_is_cut_off_is_refused(end: bytes) -> None:
    """So can one whose words are missing."""
    with pytest.raises(ValueError, match="not where it says"):
        unbundled([end, bytearray(5000)])
