"""What a socket's watch makes of connections that never were a node's."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from attacks import raw

from zpipe.core.handshake import Fault
from zpipe.net import link
from zpipe.net.borrowed import borrowed
from zpipe.net.loop import Loop
from zpipe.net.security import Guard

DEADLINE = 90.0


class Lane:
    """A lane without a key, and what is told of it."""

    def __init__(self, heartbeat: float = 10.0) -> None:
        self.context, self.loop = link.make_context(), Loop()
        self.guard = Guard(self.loop, self.context, None, lambda text, error: None)
        self.made = link.make_socket(self.context, zmq.PUSH, heartbeat=heartbeat, most=0)
        self.guard.serve(self.made, "tcp://")
        self.url = link.bind(self.made, "tcp://127.0.0.1:*")
        self.told: list[int] = []
        self.faults: list[Fault] = []
        self.watch = link.Watch(self.loop, self.made, self.told.append, lambda _, fault: self.faults.append(fault))

    def until_told(self, *events: int) -> None:
        """Wait until just these were told."""
        deadline = time.monotonic() + DEADLINE
        while len(self.told) < len(events):
            assert time.monotonic() < deadline, (self.told, self.faults)
            self.loop.turn(0.1)
        assert self.told == list(events)

    def close(self) -> None:
        """Let go of it."""
        self.watch.close()
        self.guard.close()
        self.context.destroy(linger=0)
        self.loop.close()


@pytest.fixture
def lane() -> Iterator[Lane]:
    """A lane."""
    made = Lane()
    yield made
    made.close()


@pytest.mark.parametrize(
    "said", ["nothing", "another protocol", "the wrong socket", "a frame of 2 GB without a handshake"]
)
def test_a_stranger_is_told_from_a_worker(lane: Lane, said: str) -> None:
    """Whatever he says: his connection's end is not taken for that of the worker, which is there already."""
    worker = lane.context.socket(zmq.PULL)
    worker.connect(lane.url)
    lane.until_told(link.UP)
    with raw.connect(lane.url) as stranger, contextlib.suppress(OSError):
        for part in raw.RAW[said]:
            stranger.sendall(part)
    lane.until_told(link.UP, link.FAILED, link.DOWN)
    assert len(lane.faults) == 1
    worker.close(0)
    lane.until_told(link.UP, link.FAILED, link.DOWN, link.DOWN)
    assert len(lane.faults) == 1


@pytest.mark.parametrize(
    "said", [b"", raw.NULL, raw.NULL + raw.ready(b"PULL")[:9]], ids=["nothing", "a greeting", "half of what follows"]
)
def test_a_handshake_that_does_not_end_is_ended(said: bytes) -> None:
    """Who connects and says too little has his connection closed: they are not for him to use up."""
    with contextlib.closing(Lane(heartbeat=1.0)) as lane, raw.connect(lane.url, DEADLINE) as stranger:
        stranger.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(4096):
                pass


def test_a_peer_of_an_old_protocol_gets_no_chunk(lane: Lane) -> None:
    """ZeroMQ would let it in, tell nobody, and give it every second message."""
    with raw.connect(lane.url) as stranger:
        with contextlib.suppress(OSError):  # it may be cut off already
            for part in raw.RAW["a PULL of version 2"]:
                stranger.sendall(part)
        lane.until_told(link.FAILED, link.DOWN)
    assert not link.send(lane.made, [b"a chunk"])


def flood() -> None:
    """Have more connections fail than a monitor has room for, with nobody looking; then close it."""
    lane = Lane()
    for _ in range(1500):
        with raw.connect(lane.url) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7))
            with contextlib.suppress(OSError):
                stranger.sendall(raw.RAW["another protocol"][0])
    lane.close()


def test_a_watch_that_nobody_looks_at_holds_nothing_up() -> None:
    """Other sockets go on, and this one can be closed, however many strangers come meanwhile."""
    process: Any = multiprocessing.get_context("spawn").Process(target=flood)  # closing held everything, pytest too
    process.start()
    process.join(DEADLINE)
    hangs = process.is_alive()
    process.kill()
    process.join()
    assert not hangs
    assert process.exitcode == 0


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.PULL], ids=["control", "results"])
def test_who_says_more_than_is_taken_has_to_wait(kind: int) -> None:
    """It fills its own memory and the system's, not that of a node."""
    with zmq.Context() as strangers, strangers.socket(zmq.DEALER if kind == zmq.ROUTER else zmq.PUSH) as stranger:
        context = link.make_context()
        made = link.make_socket(context, kind, heartbeat=300.0, bounded=True)
        stranger.set(zmq.LINGER, 0)
        stranger.connect(link.bind(made, "tcp://127.0.0.1:*"))
        taken = 0
        while taken < 100_000 and stranger.poll(500, zmq.POLLOUT):
            stranger.send(bytes(1000))
            taken += 1
        assert taken < 100_000
        made.close()
        context.term()


def test_who_does_not_hear_is_not_talked_to_for_ever() -> None:
    """What is for him is refused when so much waits, and others are talked to."""
    with zmq.Context() as strangers, strangers.socket(zmq.DEALER) as deaf, strangers.socket(zmq.DEALER) as other:
        context = link.make_context()
        made = link.make_socket(context, zmq.ROUTER, heartbeat=300.0, bounded=True)
        url = link.bind(made, "tcp://127.0.0.1:*")
        deaf.set(zmq.RCVHWM, 1)
        deaf.set(zmq.RCVBUF, 4096)
        for peer in (deaf, other):
            peer.set(zmq.LINGER, 0)
            peer.connect(url)
            peer.send(b"who am I")
        assert made.poll(DEADLINE * 1000)
        frames = [link.receive(made)]
        while len(frames) < 2:
            assert made.poll(DEADLINE * 1000)
            frames.append(link.receive(made))
        names = [bytes(frame[0]) for frame in frames if frame is not None]
        refused = [sum(not link.send(made, [name, bytes(1000)]) for _ in range(40_000)) for name in names]
        assert max(refused) > 10_000
        assert other.poll(DEADLINE * 1000)
        made.close()
        context.term()


def test_a_descriptor_that_is_another_s_by_now_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was a connection's may be a pipe's when it is looked at; that is seen, and costs no file."""
    near, far = socket.socketpair()
    with near, far, borrowed(near.fileno()) as mine:
        assert mine.family == near.family
        assert mine.fileno() != near.fileno()
    ends = os.pipe()
    closed: list[int] = []
    monkeypatch.setattr("zpipe.net.borrowed.os.dup", lambda fd: ends[0] if fd == 1 << 20 else -1)
    monkeypatch.setattr("zpipe.net.borrowed.os.close", closed.append)
    with pytest.raises(OSError, match="on non-socket"):
        borrowed(1 << 20)
    monkeypatch.undo()
    for fd in ends:
        os.close(fd)
    assert closed == [ends[0]], "a file is left open"
