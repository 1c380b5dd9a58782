"""What is the least that a round trip takes with zpipe's promises, in Python?

A minimal executor beside the bare chain and zpipe, one item there and back at a time: a lane for each worker, headers
that are typed and checked, each item in a book until its outcome is there, one that comes twice is dropped, a future
for each. Nothing else: nobody is missed who dies, nobody else may submit, the caller's thread does it all. The chain
has no headers, book or futures. Microseconds a trip (median), how many of them until the worker's function is called
and from then on until its result is there, and how many of processor time in all processes.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import harness
import tasks
import zmq
from harness import HERE, Checked, WrongResult
from peers import Crew, named

from zpipe.core import coding, wire
from zpipe.core.ranges import RangeSet

WORKERS = 2
WARM = 300
HELLO = b"hello"
JOB = "job"


def work(down: str, across: str) -> None:
    """Be a worker of the minimal executor: until killed."""
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    push.connect(across)
    pull.connect(down)
    push.send(HELLO)
    while True:
        chunk, payload = coding.decode([pull.recv(copy=False).bytes])
        began = time.monotonic()
        body = pickle.dumps([tasks.when(item) for item in pickle.loads(payload[0])], protocol=5)
        seconds = time.monotonic() - began
        push.send(coding.encode(wire.Result(JOB, 1, chunk.start, chunk.stop, chunk.attempt, seconds, body=body))[0])


class Minimal:
    """The executor: items go to its lanes by turns."""

    def __init__(self, lanes: list[Any], results: Any) -> None:
        self._lanes, self._results = lanes, results
        self._book: dict[int, Future[Any]] = {}
        self._done = RangeSet()
        self._next = 0

    def submit(self, item: Any) -> Future[Any]:
        """Send an item."""
        start, self._next = self._next, self._next + 1
        future = self._book[start] = Future()
        chunk = wire.Chunk(start, start + 1, 1, "pickle", body=pickle.dumps([item], protocol=5))  # type: ignore[arg-type]
        self._lanes[start % len(self._lanes)].send(coding.encode(chunk)[0])
        return future

    def result(self, future: Future[Any]) -> Any:
        """Take results until this one is there; return it."""
        while not future.done():
            result, payload = coding.decode([self._results.recv(copy=False).bytes])
            if not self._done.overlaps(result.start, result.stop):
                self._done.add(result.start, result.stop)
                self._book.pop(result.start).set_result(pickle.loads(payload[0])[0])
        return future.result()


@contextmanager
def minimal() -> Iterator[Crew]:
    """Give the minimal executor and its workers."""
    context = zmq.Context()
    children: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="floor-") as folder:
        try:
            results = context.socket(zmq.PULL)
            results.bind(f"ipc://{folder}/across")
            lanes = []
            for number in range(WORKERS):
                lanes.append(context.socket(zmq.PUSH))
                lanes[-1].bind(f"ipc://{folder}/{number}")
                ends = [f"ipc://{folder}/{number}", f"ipc://{folder}/across"]
                children.append(subprocess.Popen([sys.executable, __file__, "--work", *ends]))
            for _ in children:
                assert results.recv() == HELLO
            executor = Minimal(lanes, results)
            yield Crew(lambda *_: [], lambda _, item: executor.result(executor.submit(item)))
        finally:
            for child in children:
                child.kill()
                child.wait()
            context.destroy(linger=0)


def opened(name: str) -> Any:
    """Return what gives a system's crew."""
    return minimal() if name == "minimal" else named(name).opened(WORKERS, True)


def answer(name: str, trips: int) -> None:
    """Be a system: print the microseconds of its trips as JSON, what is lost in starting left out."""
    there, back = [], []
    with opened(name) as crew:
        for item in range(-WARM, trips):
            began = time.monotonic()
            found, called = crew.call(tasks.when, item)
            ended = time.monotonic()
            if found != item:
                raise WrongResult(f"another result for {item}")
            there.append((called - began) * 1e6)
            back.append((ended - called) * 1e6)
            if item == -1:
                before = spent()
        used = spent() - before
    there, back = there[WARM:], back[WARM:]
    took = {"trip": list(map(sum, zip(there, back, strict=True))), "there": there, "back": back}
    print(json.dumps({**{name: sorted(each)[trips // 2] for name, each in took.items()}, "processor": used / trips}))


def spent() -> float:
    """Return microseconds of processor time that this process and those it has started have had (Linux)."""
    found = 0.0
    for pid in (os.getpid(), *harness.descendants(os.getpid())):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                found += int(file.read().split()[0]) / 1000
    return found


def ask(name: str, trips: int) -> Checked:
    """Have a system answer, in a process of its own."""
    command = [sys.executable, __file__, "--answer", name, str(trips)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True, cwd=HERE)
    found = json.loads(done.stdout)
    return Checked(1, found["trip"], found)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=9, trips=2000)
    where = harness.environment()
    systems: dict[str, Callable[[], Any]] = {
        name: partial(ask, name, options.trips) for name in ("chain", "minimal", "zpipe_")
    }
    rounds = harness.interleave(systems, options)
    rows = [["one item there and back", "µs", "least", "greatest", "of the chain's", "there", "back", "processor time"]]
    figures: dict[str, Any] = {}
    for name, runs in rounds.results.items():
        trip, *parts = (harness.spread(run.more[key] for run in runs) for key in ("trip", "there", "back", "processor"))
        ratio = harness.spread(harness.per_round(rounds.results["chain"], runs))
        figures[name] = {"trip": trip, **dict(zip(("there", "back", "processor"), parts, strict=True)), "ratio": ratio}
        shown = [f"{trip[key]:.0f}" for key in ("median", "min", "max")]
        also = [f"{part['median']:.0f}" for part in parts]
        rows.append([name.rstrip("_"), *shown, f"{ratio['median']:.2f}", *also])
    harness.report(options, where, {"trips": figures}, f"{harness.table(rows)}\n\n{rounds.noise()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
    elif sys.argv[1:2] == ["--answer"]:
        answer(sys.argv[2], int(sys.argv[3]))
    else:
        main()
