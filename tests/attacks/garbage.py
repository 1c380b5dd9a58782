"""Messages that no node sends: random frames, and real ones with fields, types, tags, lengths and frames changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.errors import WireError
from zpipe.net.versions import our_versions

__all__ = ["KINDS", "harmless", "message", "mutated", "noise"]

OURS, THEIRS = our_versions(), wire.Versions(9, "9.9", "2.7", "0.1")
FATE = wire.Fate("worker host/12 slot 3", 1.5, 2.5, -9)
SPEC = JobSpec(
    TaskSpec("file", "a.py:f", b"text", True, "full"),
    "packed",
    TaskSpec("import", "os:abort"),
    True,
    "latin-1",
    b"\0",
    1 << 20,
    3,
    0.5,
    9.0,
    ["ValueError", "a.B"],
    True,
    True,
    True,
    True,
    60.0,
    1 << 30,
    1000,
    "msgpack",
    4096,
    2,
    100,
)
HELD = wire.Held("job", {"task": "f"}, [0, 5, 4, 3], 1, 12)
FAILURE = wire.Failure(3, "ValueError", "no", "trace", b"{}")
RESULT = wire.Result("job", 7, 0, 4, 2, 0.5, [FAILURE], 1, None, memoryview(b"z"), b"a line", [b"a", b"b", b"c", b"d"])
CHUNK = wire.Chunk(2, 10, 2, "packed", 3, 1, "lost", 2, memoryview(b"x"), True, True, FATE)
RECEIPT = wire.Receipt(0, 2, 7, 0.5, 1, 100, 2.5, 2, True, [b"a", b"b"])
SAMPLES: list[Any] = [
    wire.Join(OURS, "stranger", 1, "host", 12, 3, 11, "killed by SIGKILL", True, 5, True, FATE, ["gpu=1", "ssd"]),
    wire.Join(THEIRS, "stranger", 1, "host", 12, 3),
    wire.SinkJoin(OURS, "stray", 2, "host", 12, "tcp://*:1", "json", HELD, True, True, "a key"),
    wire.Welcome("job", 1, 7, "tcp://*:5600", "tcp://*:5558", {"task": "f"}, "a key", "a ticket"),
    wire.Hold("no sink"),
    wire.Refuse("versions differ"),
    wire.Ready(1),
    wire.Recall(1, True),
    wire.Wide(1, 2, 100, True),
    wire.Returned(1, 2, 5, 7),
    wire.Leave(1, 3, 9, True),
    wire.Unfit(1, "no module"),
    wire.Task("job", SPEC, 1),
    wire.Forget(1),
    wire.Chunk(0, 10, 1, "lines"),
    wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"x", b"y"]),
    CHUNK,
    wire.Chunks([CHUNK, wire.Chunk(0, 10, 1, "lines", body=memoryview(b"x"))]),
    RESULT,
    wire.Result("job", 7, 0, 10, 1, 0.5, again=2.5),
    wire.Result("job", 7, 0, 4, 1, 0.5, grains=[b"z", b"zz"]),
    wire.Results([RESULT, wire.Result("job", 7, 4, 10, 1, 0.5, body=memoryview(b"z"))]),
    wire.Receipts("job", [RECEIPT, wire.Receipt(0, 10, 7, 0.5, 1, 100)], True, 5, 0.5),
    wire.Total("job", 10),
    wire.Copied("job", 1, 2),
    wire.Issued("job", 10, 1),
    wire.Doubt("job", 1),
    wire.Stop("job", "interrupted"),
    wire.Finished("job", 10, 1, 2, 4, "a disk is full", 3),
    wire.Ask("status"),
    wire.State("job", "running", 10, 1, 20, True, 2, 3, 1.5, True, True, "a note", 4, 5),
    wire.Bye("it failed"),
]
"""Every message there is, and every field of it with something in it."""


def _deep(rng: random.Random) -> Any:
    made: Any = 0
    for _ in range(rng.choice([5, 900, 1100])):
        made = [made]
    return made


ODD: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.choice([0, -1, 1, 2**31, 2**62, 2**63, 2**64 - 1, -(2**63)]),
    lambda rng: rng.choice([float("nan"), float("inf"), -float("inf"), 1e308, -0.0]),
    lambda rng: rng.choice([None, True, False]),
    lambda rng: "x" * rng.choice([0, 1, 1000, 5000]),
    lambda rng: rng.choice(["\x1b[31m", "\n", "\0", "\ud7ff", "join", "../..", "%s%n"]),
    lambda rng: rng.randbytes(rng.choice([0, 1, 300])),
    lambda rng: [0] * rng.choice([0, 1, 3000]),
    lambda rng: {"a": rng.random(), "b": [1]},
    lambda rng: {n: n for n in range(3)},
    _deep,
]


def noise(rng: random.Random) -> list[bytes]:
    """Return random frames."""
    return [rng.randbytes(rng.choice([0, 1, 2, 9, 60, 400])) for _ in range(rng.randint(1, 4))]


def mutated(rng: random.Random) -> list[bytes]:
    """Return the frames of a message, changed in a place or two."""
    frames = [bytes(frame) for frame in coding.encode(rng.choice(SAMPLES))]
    for _ in range(rng.randint(1, 3)):
        way = rng.random()
        if way < 0.6:
            frames[0] = _changed(frames[0], rng)
        elif way < 0.75:
            frames[0] = frames[0][: rng.randint(0, len(frames[0]))]
        elif way < 0.85 and frames[0]:
            data = bytearray(frames[0])
            data[rng.randrange(len(data))] = rng.randrange(256)
            frames[0] = bytes(data)
        elif way < 0.999:
            frames.insert(rng.randint(0, len(frames)), rng.randbytes(rng.choice([0, 5, 2000])))
        else:
            frames += [b""] * rng.choice([100, 3000])
    return frames


def _changed(data: bytes, rng: random.Random) -> bytes:
    try:
        tree = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    node = tree
    while isinstance(node, list | dict) and node:
        at: Any = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[at], list | dict) and node[at] and rng.random() < 0.7:
            node = node[at]
            continue
        way = rng.random()
        if way < 0.7:
            node[at] = rng.choice(ODD)(rng)
        elif way < 0.85:
            del node[at]
        elif isinstance(node, dict):
            node[rng.choice([*node, "new", 3])] = node[at]
        else:
            node.insert(at, rng.choice(node))
        break
    try:
        return msgspec.msgpack.encode(tree)
    except (RecursionError, OverflowError):
        return data


def harmless(frames: list[bytes]) -> bool:
    """Whether it is not by chance what anybody may ask for where there is no key: to pause the job, or to end it."""
    for tail in (frames, frames[1:]):  # a REQ's first frame is not the message's
        try:
            header, _ = coding.decode(tail)
        except WireError:
            continue
        if isinstance(header, wire.Ask) and header.wish != "status":
            return False
    return True


KINDS: dict[str, Callable[[random.Random], list[bytes]]] = {"noise": noise, "mutated": mutated}


def message(rng: random.Random) -> list[bytes]:
    """Return a message of either kind."""
    while True:
        frames = KINDS["noise" if rng.random() < 0.2 else "mutated"](rng)
        if harmless(frames):
            return frames
