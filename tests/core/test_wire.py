"""Messages survive the wire; anything else is refused with WireError and nothing worse."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core import coding, wire
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.errors import WireError

replace = msgspec.structs.replace
V = wire.Versions(wire.PROTOCOL, "0.1", "3.11", "3.1")
MESSAGES = [
    wire.Join(V, "s", 1, "host", 12, 3, 11, "killed by SIGKILL", True),
    wire.SinkJoin(V, "s", 2, "host", 12, "tcp://*:1", "json", wire.Held("job", {"task": "f"}, [0, 5, 4, 3], 1, 12)),
    wire.Welcome("job", 1, 7, "tcp://*:5600", "tcp://*:5558", {"task": "f"}),
    wire.Hold("no sink"),
    wire.Refuse("versions differ"),
    wire.Ready(7),
    wire.Recall(7),
    wire.Wide(7, 3, 100),
    wire.Returned(7, 2, 5),
    wire.Leave(7, 3),
    wire.Unfit(7, "no module"),
    wire.Task("job", JobSpec(TaskSpec("file", "a.py:f", b"text"), until=TaskSpec("import", "m:g"))),
    wire.Forget(3),
    wire.Chunk(0, 10, 1, "lines"),
    wire.Chunks(
        [wire.Chunk(0, 10, 1, "lines", body=memoryview(b"x")), wire.Chunk(10, 11, 2, "pickle", 3, 1, "lost", 2, b"y")]
    ),
    wire.Results([wire.Result("job", 7, 0, 10, 1, 0.5, body=memoryview(b"z"))]),
    wire.Result("job", 7, 0, 10, 1, 0.5, [wire.Failure(3, "ValueError", "no", "trace")], 4),
    wire.Receipts("job", [wire.Receipt(0, 10, 7, 0.5, 1, 100)], True, 5),
    wire.Total("job", 10),
    wire.Stop("job", "interrupted"),
    wire.Finished("job", 10, 1, 2, 4, ""),
    wire.Bye("it failed"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_survives(message: wire.Message) -> None:
    """Encoded and decoded, a message is what it was."""
    header, payload = coding.decode(coding.encode(message))
    assert header == message
    assert not payload


@pytest.mark.parametrize("size", [0, 1, coding.INLINE_BYTES, coding.INLINE_BYTES + 1])
def test_a_payload_is_carried_inside_or_behind(size: int) -> None:
    """A small payload rides in the header frame, a large one is a frame of its own; both come back whole."""
    body = coding.inline([b"x" * size])
    assert (body is not None) == (size <= coding.INLINE_BYTES)
    frames = coding.encode(wire.Chunk(0, 1, 1, "lines", body=body), [] if body is not None else [b"x" * size])
    _, payload = coding.decode(frames)
    assert [bytes(frame) for frame in payload] == [b"x" * size]


def test_several_frames_are_carried_behind() -> None:
    """Out-of-band buffers keep their frames."""
    assert coding.inline([b"a", b"b"]) is None
    frames = coding.encode(wire.Chunk(0, 1, 1, "pickle"), [b"a", b"b"])
    assert frames[1:] == [b"a", b"b"]
    assert coding.decode(frames)[1] == [b"a", b"b"]


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_garbage_is_refused(frames: list[bytes]) -> None:
    """Random frames raise WireError, or are by chance a message."""
    try:
        header, _ = coding.decode(frames)
    except WireError:
        return
    assert isinstance(header, msgspec.Struct)


@given(st.sampled_from(MESSAGES), st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_message_is_refused(message: wire.Message, at: int, byte: int) -> None:
    """A message with one byte changed raises WireError, or is another valid message."""
    data = bytearray(coding.encode(message)[0])
    data[at % len(data)] = byte
    try:
        header, _ = coding.decode([bytes(data)])
    except WireError:
        return
    assert isinstance(header, msgspec.Struct)


def test_ranges_must_have_items() -> None:
    """A chunk or result without items, or before the first, is refused."""
    for start, stop in ((5, 5), (6, 5), (-1, 3)):
        with pytest.raises(WireError, match="range"):
            coding.decode(coding.encode(wire.Chunk(start, stop, 1, "lines")))
        with pytest.raises(WireError, match="range"):
            coding.decode(coding.encode(wire.Chunks([wire.Chunk(start, stop, 1, "lines", body=memoryview(b""))])))


@pytest.mark.parametrize("runs", [[3], [-1, 4], [0, 3, 0, 2], [0, 0], [2, 3, 1]])
def test_done_ranges_that_no_sink_has_are_refused(runs: list[int]) -> None:
    """What is done must be ranges that rise and do not touch."""
    join = wire.SinkJoin(V, "s", 2, "host", 12, "tcp://*:1", "json", wire.Held("job", {}, runs))
    with pytest.raises(WireError, match="sink's join"):
        coding.decode(coding.encode(join))


def test_payloads_are_only_where_they_belong() -> None:
    """A payload behind a control message, or both inside and behind a header, is refused."""
    with pytest.raises(WireError, match="with a payload"):
        coding.decode([*coding.encode(wire.Bye()), b"x"])
    with pytest.raises(WireError, match="both"):
        coding.decode([*coding.encode(wire.Chunk(0, 1, 1, "lines", body=memoryview(b"a"))), b"b"])
    with pytest.raises(WireError, match="no payload"):
        coding.decode(coding.encode(wire.Chunks([wire.Chunk(0, 1, 1, "lines")])))


RECEIPT = wire.Receipt(0, 10, 7, 0.5, 1, 100)
RESULT = wire.Result("job", 7, 0, 10, 1, 0.5, body=memoryview(b"z"))


@pytest.mark.parametrize(
    "message",
    [
        wire.Receipts("job", [replace(RECEIPT, start=10)]),
        wire.Receipts("job", [replace(RECEIPT, start=-1)]),
        wire.Receipts("job", [replace(RECEIPT, again=math.nan)]),
        wire.Receipts("job", [RECEIPT], lag=math.inf),
        wire.Receipts("job", [RECEIPT], limit=-1),
        replace(RESULT, again=math.nan),
        replace(RESULT, again=math.inf),
        replace(RESULT, again=-1.0),
        replace(RESULT, hit=10),
        replace(RESULT, stop=2**64 - 1),
        replace(RESULT, failures=[wire.Failure(10, "ValueError", "no")]),
        wire.Results([replace(RESULT, hit=2**64 - 1)]),
        wire.Join(V, "s" * 1001, 1, "host", 12, 3),
        wire.Join(V, "s", 1, "h" * 1001, 12, 3),
        wire.Join(replace(V, python="3" * 1001), "s", 1, "host", 12, 3),
        wire.Unfit(7, "n" * (wire.REASON + 1)),
    ],
)
def test_what_no_node_would_say_is_refused(message: wire.Message) -> None:
    """Numbers that would spoil a queue of times or grow beyond 64 bits, ranges that are none, and endless names."""
    with pytest.raises(WireError):
        coding.decode(coding.encode(message))


def test_what_is_wrong_is_told_in_few_words() -> None:
    """However long what a peer said was, which is part of it."""
    for said in (["ask", "x" * 1_000_000], ["x" * 1_000_000]):
        with pytest.raises(WireError) as caught:
            coding.decode([msgspec.msgpack.encode(said)])
        assert len(str(caught.value)) < 400


def test_too_many_frames_are_refused() -> None:
    """A message of no frames, or of too many, is refused before anything is decoded."""
    for frames in ([], [b""] * (wire.MAX_FRAMES + 1)):
        with pytest.raises(WireError, match="frames"):
            coding.decode(frames)


def test_deep_nesting_is_refused() -> None:
    """A header nested beyond reason is refused, not a crash."""
    with pytest.raises(WireError):
        coding.decode([b"\x91" * 100_000])
