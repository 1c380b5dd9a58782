"""What does the data path do for each chunk and each item? Counted, not timed: a busy machine counts as a calm one.

Messages, bytes, bytes that are copied on their way out, calls of functions (Python's and C's, made from Python) and
memory blocks that stay, in the process that embeds the pipeline; and calls in a worker's runner. A few counts depend
on how messages happen to meet (on a busy machine one chunk in ten is recalled from its worker and sent again); so a
limit is well above what is counted, and below what one call for each item, or everything sent twice, would make it.
Exit status 1 if a limit is passed: `.ci/run` runs this.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import harness
from tasks import noop

import zpipe
from zpipe import serialize
from zpipe.core import wire
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.net import link
from zpipe.running import runner

WORKERS = 2

LIMITS = {
    "chunks of 1,000: messages a chunk": 2.4,
    "chunks of 1,000: bytes a chunk": 16_000.0,
    "chunks of 1,000: calls an item": 0.7,
    "chunks of 1,000: calls an item in the runner": 1.3,
    "chunks of 1: messages a chunk": 2.4,
    "chunks of 1: bytes a chunk": 220.0,
    "chunks of 1: calls a chunk": 250.0,
    "chunks of 1: memory blocks that stay a chunk": 3.0,
    "64 KiB there and back, chunks of 16: messages a chunk": 4.5,
    "64 KiB there and back, chunks of 16: frames a chunk": 12.0,
    "64 KiB there and back, chunks of 16: bytes an item's byte": 3.5,
    "1 MiB there and back: messages an item": 4.5,
    "1 MiB there and back: bytes an item's byte": 3.5,
    "1 MiB there and back: bytes copied on the way out an item's byte": 0.1,
}
"""What each count may be at most."""


@dataclass
class Counts:
    """What this process did."""

    messages: int = 0
    frames: int = 0
    bytes: int = 0
    copied: int = 0
    calls: int = 0


@contextmanager
def counting(*, calls: bool) -> Iterator[Counts]:
    """Count all messages in and out, and if asked for all calls, in threads that begin meanwhile and this one."""
    counts = Counts()
    send, receive, to_copy = link.send, link.receive, link._to_copy

    def note(frames: Sequence[Any]) -> None:
        counts.messages += 1
        counts.frames += len(frames)
        counts.bytes += sum(map(len, frames))

    def counted_send(made: Any, frames: Any) -> bool:
        note(frames)
        return send(made, frames)

    def counted_receive(made: Any) -> Any:
        frames = receive(made)
        if frames is not None:
            note(frames)
        return frames

    def counted_copy(frame: Any) -> bool:
        copied = to_copy(frame)
        counts.copied += len(frame) * copied
        return copied

    def profile(_frame: FrameType, event: str, _arg: object) -> None:
        if event in ("call", "c_call"):
            counts.calls += 1

    if calls:  # those of wrappers would count too
        threading.setprofile(profile)
        sys.setprofile(profile)
    else:
        link.send, link.receive, link._to_copy = counted_send, counted_receive, counted_copy
    try:
        yield counts
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        link.send, link.receive, link._to_copy = send, receive, to_copy


def through(items: list[Any], chunk: int, *, calls: bool) -> Counts:
    """Map over the items twice, in chunks of that size; return what the second time took."""
    with counting(calls=calls) as counts, zpipe.Pipeline(WORKERS, chunk=chunk) as pipe:
        check(items, pipe.map(noop, iter(items)))
        before = Counts(**vars(counts))
        check(items, pipe.map(noop, iter(items)))
        return Counts(**{name: value - vars(before)[name] for name, value in vars(counts).items()})


def check(items: list[Any], results: Iterable[Any]) -> None:
    """Raise SystemExit unless the results are the items."""
    if list(results) != items:
        raise SystemExit("wrong result: what came back is not what was sent")


def in_runner(items: int) -> int:
    """Run one chunk in this process as a worker does; return how many calls that took."""
    spec = JobSpec(TaskSpec("pickle", "noop", serialize.dump_function(noop)), "outcomes")
    made = runner.Runner(spec)
    frames = serialize.dumps(list(range(items)))
    chunk = wire.Chunk(start=0, stop=items, attempt=1, items="pickle")
    with counting(calls=True) as counts:
        made.run(chunk, frames)
    return counts.calls


def staying(chunks: int) -> float:
    """Return how many more memory blocks there are after a second, equal map, for each of its chunks."""
    items = list(range(chunks))
    with zpipe.Pipeline(WORKERS, chunk=1) as pipe:
        for _ in range(2):
            check(items, pipe.map(noop, items))
        before = sys.getallocatedblocks()
        check(items, pipe.map(noop, items))
        return max(0, sys.getallocatedblocks() - before) / chunks


def count() -> dict[str, float]:
    """Return all counts, by the names of LIMITS."""
    numbers, singles, size = list(range(200_000)), list(range(2_000)), 1 << 20
    large, medium = [bytes([n]) * size for n in range(40)], [bytes([n]) * (size // 16) for n in range(160)]
    found: dict[str, float] = {}

    def per(name: str, number: float, what: Callable[[], float]) -> None:
        found[name] = what() / number

    many, one, some, big = (
        through(items, chunk, calls=False) for items, chunk in ((numbers, 1000), (singles, 1), (medium, 16), (large, 1))
    )
    per("chunks of 1,000: messages a chunk", 200, lambda: many.messages)
    per("chunks of 1,000: bytes a chunk", 200, lambda: many.bytes)
    per("chunks of 1,000: calls an item", len(numbers), lambda: through(numbers, 1000, calls=True).calls)
    per("chunks of 1,000: calls an item in the runner", 1000, lambda: in_runner(1000))
    per("chunks of 1: messages a chunk", len(singles), lambda: one.messages)
    per("chunks of 1: bytes a chunk", len(singles), lambda: one.bytes)
    per("chunks of 1: calls a chunk", len(singles), lambda: through(singles, 1, calls=True).calls)
    per("chunks of 1: memory blocks that stay a chunk", 1, lambda: staying(2_000))
    per("64 KiB there and back, chunks of 16: messages a chunk", 10, lambda: some.messages)
    per("64 KiB there and back, chunks of 16: frames a chunk", 10, lambda: some.frames)
    per("64 KiB there and back, chunks of 16: bytes an item's byte", len(medium) * size // 16, lambda: some.bytes)
    per("1 MiB there and back: messages an item", len(large), lambda: big.messages)
    per("1 MiB there and back: bytes an item's byte", len(large) * size, lambda: big.bytes)
    per("1 MiB there and back: bytes copied on the way out an item's byte", len(large) * size, lambda: big.copied)
    return found


def main() -> None:
    """Count, compare with the limits, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")
    options = parser.parse_args()
    found = count()
    passed = {name: value for name, value in found.items() if value > LIMITS[name]}
    if options.json:
        print(json.dumps({"environment": harness.environment(), "counts": found, "limits": LIMITS, "passed": passed}))
    else:
        rows = [[name, f"{value:,.3f}", f"{LIMITS[name]:,g}"] for name, value in found.items()]
        print(harness.table([["", "counted", "at most"], *rows]))
    for name, value in passed.items():
        print(f"{name}: {value:,.3f}, more than {LIMITS[name]:,g}", file=sys.stderr)
    sys.exit(1 if passed else 0)


if __name__ == "__main__":
    main()
