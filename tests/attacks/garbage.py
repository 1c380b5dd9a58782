"""Messages that no node sends: random frames, and real ones with fields, types, tags, lengths and frames changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.errors import WireError
from zpipe.versions import our_versions

__all__ = ["KINDS", "harmless", "message", "mutated", "noise"]

OURS, THEIRS = our_versions(), wire.Versions(9, "9.9", "2.7", "0.1")
SAMPLES: list[Any] = [
    wire.Join(OURS, "stranger", 1, "host", 12, 3, 11, "killed by SIGKILL", True),
    wire.Join(THEIRS, "stranger", 1, "host", 12, 3),
    wire.SinkJoin(OURS, "stray", 2, "host", 12, "tcp://*:1", "json", wire.Held("job", {"task": "f"}, [0, 5, 4, 3], 1)),
    wire.Welcome("job", 1, 7, "tcp://*:5600", "tcp://*:5558", {"task": "f"}),
    wire.Hold("no sink"),
    wire.Ready(1),
    wire.Recall(1),
    wire.Wide(1, 0, 100),
    wire.Returned(1, 2, 5),
    wire.Leave(1, 3),
    wire.Unfit(1, "no module"),
    wire.Task("job", JobSpec(TaskSpec("import", "os:abort"))),
    wire.Forget(0),
    wire.Chunk(0, 10, 1, "lines"),
    wire.Chunks([wire.Chunk(0, 10, 1, "lines", body=memoryview(b"x"))]),
    wire.Results([wire.Result("job", 7, 0, 10, 1, 0.5, body=memoryview(b"z"))]),
    wire.Result("job", 7, 0, 10, 1, 0.5, [wire.Failure(3, "ValueError", "no", "trace")], 4),
    wire.Receipts("job", [wire.Receipt(0, 10, 7, 0.5, 1, 100)], True, 5),
    wire.Total("job", 10),
    wire.Copied("job", 1, 2),
    wire.Stop("job", "interrupted"),
    wire.Finished("job", 10, 1, 2, 4, ""),
    wire.Ask("status"),
    wire.Bye("it failed"),
]


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
    while isinstance(node, list) and node:
        at = rng.randrange(len(node))
        if isinstance(node[at], list) and node[at] and rng.random() < 0.7:
            node = node[at]
            continue
        way = rng.random()
        if way < 0.7:
            node[at] = rng.choice(ODD)(rng)
        elif way < 0.85:
            del node[at]
        else:
            node.insert(at, node[rng.randrange(len(node))])
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
