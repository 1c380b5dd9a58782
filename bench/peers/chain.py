"""A bare pyzmq chain over ipc, as anybody would write it first: the yardstick. No ids, no receipts, no guarantee.

One thread of this process feeds a PUSH and drains a PULL; workers pull, run, push. A message is a pickle (protocol 5)
of one item, or of a list, with the buffers of arrays as frames of their own that are not copied.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tasks
import zmq

from peers import Crew, Function, batches, flat

NAME = "bare pyzmq chain"
PACKAGES = ("pyzmq",)
HOW = "ipc, fed and drained by one thread, lists of 1,000"

HELLO = b"hello"
AHEAD = 1000
"""Messages in flight at most."""

BYTES = 32 << 20
"""Bytes of arrays in flight at most."""


def send(push: Any, value: Any) -> None:
    """Push a pickle, and buffers as they are."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    if buffers:
        push.send_multipart([head, *buffers], copy=False)
    else:
        push.send(head)


def take(pull: Any, flags: int = 0) -> Any:
    """Pull what `send` has pushed."""
    head = pull.recv(flags, copy=not pull.arrays)
    if not pull.arrays:
        return pickle.loads(head)
    frames = [pull.recv(copy=False)] if head.more else []
    while frames and frames[-1].more:
        frames.append(pull.recv(copy=False))
    return pickle.loads(head.buffer, buffers=[frame.buffer for frame in frames])


class Pull(zmq.Socket):
    """A PULL that knows whether arrays come: those are not to be copied, small messages had better be."""

    arrays = False


def work(down: str, across: str, function: str, chunk: int, arrays: bool) -> None:
    """Be a worker: until killed."""
    context = zmq.Context()
    pull, push = Pull(context, zmq.PULL), context.socket(zmq.PUSH)
    pull.arrays = arrays
    push.connect(across)
    pull.connect(down)
    push.send(HELLO)
    run = getattr(tasks, function)
    while True:
        value = take(pull)
        send(push, run(value) if chunk == 1 else list(map(run, value)))


@contextmanager
def _chain(workers: int, function: Function, chunk: int, arrays: bool) -> Iterator[tuple[Any, Any]]:
    context = zmq.Context()
    children: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        ends = [f"ipc://{folder}/{name}" for name in ("down", "across")]
        push, pull = context.socket(zmq.PUSH), Pull(context, zmq.PULL)
        try:
            push.bind(ends[0])
            pull.bind(ends[1])
            command = [sys.executable, "-m", "peers.chain", *ends, function.__name__, str(chunk), str(int(arrays))]
            children += [subprocess.Popen(command) for _ in range(workers)]
            for _ in range(workers):
                assert pull.recv() == HELLO
            pull.arrays = arrays
            yield push, pull
        finally:
            for child in children:
                child.kill()
                child.wait()
            push.close(0)
            pull.close(0)
            context.term()


def _through(push: Any, pull: Any, messages: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Keep so many messages in flight until they end."""
    out = 0
    for message in messages:
        send(push, message)
        out += 1
        while out >= ahead:
            yield take(pull)
            out -= 1
            try:
                while True:
                    yield take(pull, zmq.DONTWAIT)
                    out -= 1
            except zmq.Again:
                pass
    for _ in range(out):
        yield take(pull)


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers; those of the last function stay up."""
    kept: dict[tuple[str, int, bool], Any] = {}

    def sockets(function: Function, chunk: int, arrays: bool = False) -> tuple[Any, Any]:
        key = (function.__name__, chunk, arrays)
        if key not in kept:
            close()
            manager = _chain(workers, function, chunk, arrays)
            kept[key] = (manager, manager.__enter__())
        ends: tuple[Any, Any] = kept[key][1]
        return ends

    def close() -> None:
        for manager, _ in kept.values():
            manager.__exit__(None, None, None)
        kept.clear()

    def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
        size = getattr(items, "size", 0)
        chunk = 1 if size else chunk or 1000
        push, pull = sockets(function, chunk, bool(size))
        ahead = BYTES // size if size else max(32, min(AHEAD, 2_000_000 // chunk))
        if chunk == 1:
            return _through(push, pull, items, ahead)
        return flat(_through(push, pull, batches(items, chunk), ahead))

    def call(function: Function, item: Any) -> Any:
        push, pull = sockets(function, 1)
        send(push, item)
        return take(pull)

    try:
        yield Crew(run, call)
    finally:
        close()


if __name__ == "__main__":
    work(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5] == "1")
