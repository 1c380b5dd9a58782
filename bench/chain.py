"""The yardstick: a plain pyzmq PUSH/PULL chain, as anybody would write it first. No ids, no receipts, no guarantee.

A worker killed here loses its items, and the run never ends. It is what pyzmq costs by itself, so that the price of the
guarantees can be told. A message is one pickled list of items (or range, if ranges are asked for); with chunks of one,
the bare item. `run` feeds and drains in one thread of this process, or, `apart`, feeds from a process of its own.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import zmq
from harness import Checked, Tally
from tasks import noop

__all__ = ["run"]

HELLO = b"hello"
IN_FLIGHT = 2_000_000
"""Items fed ahead of the results, at most; in messages, from 32 to 1,000 (the default high-water mark)."""


def messages(items: int, chunk: int, ranges: bool) -> Iterator[bytes]:
    """Yield what is pushed for `items` integers from 0."""
    if chunk == 1:
        for item in range(items):
            yield pickle.dumps(item, protocol=5)
        return
    if ranges:
        for start in range(0, items, chunk):
            yield pickle.dumps(range(start, min(start + chunk, items)), protocol=5)
        return
    source = iter(range(items))
    while part := list(islice(source, chunk)):
        yield pickle.dumps(part, protocol=5)


def work(down: str, across: str, single: bool) -> None:
    """Be a worker: until killed."""
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    push.connect(across)
    pull.connect(down)
    push.send(HELLO)
    while True:
        items = pickle.loads(pull.recv())
        push.send(pickle.dumps(noop(items) if single else list(map(noop, items)), protocol=5))


def ventilate(down: str, items: int, chunk: int, ranges: bool) -> None:
    """Be the ventilator apart: bind, wait for the word to begin, push all, say when it began, wait to be ended."""
    push = zmq.Context().socket(zmq.PUSH)
    push.bind(down)
    print(_bound(push), flush=True)
    sys.stdin.readline()
    print(time.monotonic(), flush=True)
    for message in messages(items, chunk, ranges):
        push.send(message)
    sys.stdin.readline()


def _bound(made: Any) -> str:
    endpoint: str = made.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    return endpoint


def _take(message: bytes, tally: Tally, single: bool) -> None:
    tally.add([pickle.loads(message)] if single else pickle.loads(message))


def _feed(push: Any, pull: Any, source: Iterator[bytes], ahead: int, tally: Tally, single: bool) -> None:
    """Keep `ahead` messages in flight until the source ends."""
    out = 0
    for message in source:
        push.send(message)
        out += 1
        while out >= ahead:
            _take(pull.recv(), tally, single)
            out -= 1
            try:
                while True:
                    _take(pull.recv(zmq.DONTWAIT), tally, single)
                    out -= 1
            except zmq.Again:
                pass


def _endpoints(transport: str, folder: str) -> tuple[str, str]:
    if transport == "ipc":
        return f"ipc://{folder}/down", f"ipc://{folder}/across"
    return "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"


def run(
    items: int, chunk: int, *, transport: str = "tcp", ranges: bool = False, apart: bool = False, workers: int = 2
) -> Checked:
    """Push `items` integers through no-op workers; time from the first push to the last result."""
    single, tally = chunk == 1, Tally(items)
    children: list[subprocess.Popen[str]] = []
    context = zmq.Context()
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        down, across = _endpoints(transport, folder)
        try:
            push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
            pull.bind(across)
            across = _bound(pull)
            if apart:
                children.append(_start("ventilate", down, items, chunk, int(ranges)))
                down = _hear(children[0])
            else:
                push.bind(down)
                down = _bound(push)
            children += [_start("work", down, across, int(single)) for _ in range(workers)]
            for _ in range(workers):
                assert pull.recv() == HELLO
            began = time.monotonic()
            if apart:
                _tell(children[0], "go")
                began = float(_hear(children[0]))
            else:
                ahead = max(32, min(1000, IN_FLIGHT // chunk))
                _feed(push, pull, messages(items, chunk, ranges), ahead, tally, single)
            while tally.count < items:
                _take(pull.recv(), tally, single)
            return tally.check(tally.last - began)
        finally:
            for child in children:
                child.kill()
                child.communicate()
            context.destroy(linger=0)


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _tell(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2], sys.argv[3], sys.argv[4] == "1")
    else:
        ventilate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
