"""Sockets and waiting, with real ones: what is sent arrives, deaths are told, nothing is waited for blindly."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from zpipe.errors import UsageError
from zpipe.net import link
from zpipe.net.loop import Loop

DEADLINE = 90.0


@pytest.fixture
def context() -> Iterator[Any]:
    """A context that must end in time."""
    made = link.make_context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop."""
    made = Loop()
    yield made
    made.close()


def until(loop: Loop, condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        loop.turn(0.5)


class Pair:
    """A PUSH that binds and a PULL that connects, with what their monitors told."""

    def __init__(self, loop: Loop, context: Any, heartbeat: float = 10.0) -> None:
        self.loop = loop
        self.push = link.make_socket(context, zmq.PUSH, heartbeat=heartbeat)
        self.told: list[int] = []
        self.watch = link.Watch(loop, self.push, self.told.append)
        self.at = link.bind(self.push, "tcp://127.0.0.1:*")
        self.pull = link.make_socket(context, zmq.PULL, heartbeat=heartbeat, reconnect=False)
        self.pull_told: list[int] = []
        self.pull_watch = link.Watch(loop, self.pull, self.pull_told.append)
        self.got: list[list[bytes]] = []
        loop.add(self.pull, self.read)
        self.pull.connect(self.at)
        until(loop, lambda: link.UP in self.told and link.UP in self.pull_told)

    def read(self) -> bool:
        """Take one message a call: the loop must come again for the rest."""
        frames = link.receive(self.pull)
        if frames is not None:
            self.got.append([bytes(frame) for frame in frames])
        return frames is not None

    def close(self) -> None:
        self.watch.close()
        self.pull_watch.close()


@pytest.fixture
def pair(loop: Loop, context: Any) -> Iterator[Pair]:
    """A connected pair."""
    made = Pair(loop, context)
    yield made
    made.close()


def test_messages_arrive_whole_and_in_order(loop: Loop, pair: Pair) -> None:
    """Small and large frames, one or many, all the same, though the reader takes one message a call."""
    sent = [[b"%d" % n] for n in range(500)] + [[b"head", b"x" * link.COPY_BYTES, b""], [os.urandom(1 << 20)]]
    for frames in sent:
        assert link.send(pair.push, frames)
    until(loop, lambda: len(pair.got) == len(sent))
    assert pair.got == sent


def test_a_send_to_nobody_is_refused_at_once(context: Any) -> None:
    """No peer, no queue: the caller is told, and keeps the message."""
    push = link.make_socket(context, zmq.PUSH, heartbeat=10)
    link.bind(push, "tcp://127.0.0.1:*")
    assert not link.send(push, [b"x"])
    push.close()


def test_a_death_is_told(loop: Loop, pair: Pair) -> None:
    """When one end goes the other's monitor says so."""
    pair.pull_watch.close()
    until(loop, lambda: link.DOWN in pair.told)


def test_a_lane_is_connected_to_once(loop: Loop, pair: Pair) -> None:
    """A cut lane is not restored behind our back: the member has to join again."""
    at = pair.at
    pair.watch.close()
    until(loop, lambda: link.DOWN in pair.pull_told)
    again = link.make_socket(pair.pull.context, zmq.PUSH, heartbeat=10)
    told: list[int] = []
    watch = link.Watch(loop, again, told.append)
    link.bind(again, at)
    for _ in range(5):
        loop.turn(0.1)
    assert told == []
    watch.close()


def test_the_loop_is_woken_from_another_thread(loop: Loop) -> None:
    """A wait without a timeout ends by `wake`, also when it was called before the wait began."""
    loop.wake()
    loop.turn(None)
    thread = threading.Thread(target=loop.wake)
    thread.start()
    loop.turn(None)
    thread.join(DEADLINE)


def test_a_descriptor_is_waited_for(loop: Loop) -> None:
    """A pipe's reading end calls back when there is something, until it is removed."""
    reading, writing = os.pipe()
    got: list[bytes] = []

    def read() -> bool:
        got.append(os.read(reading, 100))
        return False

    loop.add_fd(reading, read)
    os.write(writing, b"a")
    until(loop, lambda: got == [b"a"])
    loop.remove(reading)
    os.write(writing, b"b")
    loop.turn(0)
    assert got == [b"a"]
    os.close(reading)
    os.close(writing)


def test_closing_in_a_callback_is_safe(loop: Loop, pair: Pair) -> None:
    """A socket closed while others are due is not called any more."""
    link.send(pair.push, [b"x"])
    pair.told.clear()
    pair.watch._call = lambda event: pair.watch.close()
    pair.pull_watch.close()
    until(loop, lambda: pair.push.closed)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("tcp://192.0.2.1:5999", "no address of this host"),
        ("tcp://no.such.host.invalid:5999", "no address of this host"),
        ("ipc:///no/such/folder/socket", "can't be bound"),
    ],
)
def test_what_cant_be_bound_is_told(context: Any, endpoint: str, why: str) -> None:
    """The address, the reason and the mend."""
    made = link.make_socket(context, zmq.PUSH, heartbeat=10)
    with pytest.raises(UsageError, match=why):
        link.bind(made, endpoint)
    made.close()


def test_lane_ports_are_used_in_turn_and_run_out(context: Any) -> None:
    """The first free one of a range; an error that counts them when none is left."""
    first, second, third = (link.make_socket(context, zmq.PUSH, heartbeat=10) for _ in range(3))
    start = int(link.bind(first, "tcp://127.0.0.1:*").rpartition(":")[2])
    with pytest.raises(UsageError, match="in use"):
        link.bind(second, f"tcp://127.0.0.1:{start}")
    with pytest.raises(UsageError, match="all 2 lane ports are in use"):
        link.bind(third, "tcp://127.0.0.1:*", [start, start])
    for made in (first, second, third):
        made.close()


def test_the_open_file_limit_is_raised() -> None:
    """A thousand lanes need some five thousand descriptors."""
    import resource

    link.raise_limits()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == min(hard, 1_048_576)


def test_what_has_linked_can_be_sent_to_at_once(loop: Loop, context: Any) -> None:
    """However lately nobody was there to send to: the transport does not tell a second time that somebody is."""
    for _ in range(10):
        up: list[bool] = []

        def on_event(event: int, made: Any, up: list[bool] = up) -> None:
            if event == link.UP:
                link.send(made, [b"for nobody, as far as is known"])
                link.attach(made)
                up.append(link.send(made, [b"x"]))

        push = link.make_socket(context, zmq.PUSH, heartbeat=10)
        watch = link.Watch(loop, push, lambda event, made=push, on=on_event: on(event, made))
        at = link.bind(push, "tcp://127.0.0.1:*")
        assert not link.send(push, [b"x"])
        pull = link.make_socket(context, zmq.PULL, heartbeat=10)
        pull.connect(at)
        deadline = time.monotonic() + DEADLINE
        while not up:
            assert time.monotonic() < deadline, "waited in vain"
            link.send(push, [b"x"])
            loop.turn(0)
        assert up == [True]
        watch.close()
        pull.close()


STARVED = """
import contextlib, os, resource, zmq
from zpipe.errors import UsageError
from zpipe.net import link

made = link.make_socket(link.make_context(), zmq.PUSH, heartbeat=10)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
while True:
    os.close(taken.pop())
    try:
        link.bind(made, "tcp://127.0.0.1:*")
        break
    except UsageError as error:
        print(error)
"""


def test_who_binds_without_files_is_told() -> None:
    """The process lives, and may bind once there are some again."""
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "may open no more files" in done.stdout


def test_a_message_that_is_expected_need_not_be_there(loop: Loop, context: Any) -> None:
    """It is taken without a look; that none has come is no error."""
    pair = Pair(loop, context)
    try:
        assert link.receive(pair.pull, expected=True) is None
        for n in range(3):
            assert link.send(pair.push, [b"head", b"%d" % n])
        assert pair.pull.poll(DEADLINE * 1000)
        wait_until(lambda: link.receive(pair.pull, expected=True) is not None)
        rest: list[Any] = []
        wait_until(lambda: rest.append(link.receive(pair.pull, expected=True)) or len(list(filter(None, rest))) == 2)
        assert [bytes(frame) for frames in filter(None, rest) for frame in frames] == [b"head", b"1", b"head", b"2"]
        assert link.receive(pair.pull, expected=True) is None
    finally:
        pair.close()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="a socket is lent with Linux's epoll")
def test_a_socket_may_be_lent_to_another_thread(loop: Loop, context: Any) -> None:
    """While it is, the loop goes on without it, even one that waits already; then what comes is the loop's again."""
    pair, other = Pair(loop, context), Pair(loop, context)
    stop = threading.Event()

    def turn() -> None:
        while not stop.is_set():
            loop.turn(None)

    loop.turn(0)
    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for n in range(3):
            assert loop.lend(pair.pull)
            assert link.send(pair.push, [b"lent"])
            assert pair.pull.poll(DEADLINE * 1000)
            assert link.send(other.push, [b"other"])
            wait_until(lambda n=n: len(other.got) == n + 1)
            assert len(pair.got) == n
            assert link.receive(pair.pull) == [b"lent"]
            assert link.receive(pair.pull) is None
            loop.take_back(pair.pull)
            assert link.send(pair.push, [b"back"])
            wait_until(lambda n=n: len(pair.got) == n + 1)
    finally:
        stop.set()
        loop.wake()
        thread.join(DEADLINE)
    loop.again(pair.pull)
    assert not loop.lend(pair.pull)
    assert loop.pressing
    for one in (pair, other):
        loop.remove(one.pull)
        loop.remove(one.pull)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait while another thread turns the loop."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


HELD_UP = """
import subprocess, sys, time, zmq
from zpipe.net import link

sender = \"\"\"
import sys, time, zmq
push = zmq.Context().socket(zmq.PUSH)
push.set(zmq.SNDHWM, 0)
push.connect(sys.argv[1])
for _ in range(5000):
    push.send(bytes(1000))
print("sent", flush=True)
time.sleep(600)
\"\"\"
context = link.make_context()
pull = link.make_socket(context, zmq.PULL, heartbeat=2.0, bounded=True)
at = link.bind(pull, "tcp://127.0.0.1:*")
with subprocess.Popen([sys.executable, "-c", sender, at], stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    assert pull.poll(60_000)
    time.sleep(0.1)
    child.kill()
time.sleep(1.2)
print(bytes(link.receive(pull)[0]) == bytes(1000))
context.destroy(linger=0)
"""


def test_a_connection_that_breaks_while_nobody_reads() -> None:
    """What has come of it is there for whoever reads later: libzmq, which then would ping it, has ended no process."""
    done = subprocess.run([sys.executable, "-c", HELD_UP], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("heartbeat", [66.0, 140.0])
def test_a_long_silence_is_borne(loop: Loop, context: Any, heartbeat: float) -> None:
    """By both sides, though libzmq can't tell the other one of so long a time."""
    pair = Pair(loop, context, heartbeat)
    for made in (pair.push, pair.pull):
        assert made.get(zmq.HEARTBEAT_TTL) == 0
        assert made.get(zmq.HEARTBEAT_IVL) == heartbeat * 250
    pair.close()


def test_a_socket_too_many_is_told(context: Any) -> None:
    """When no more files may be opened, neither for a socket nor for its monitor, the mend is named."""
    context.set(zmq.MAX_SOCKETS, 2)
    first, second = (link.make_socket(context, zmq.PUSH, heartbeat=10) for _ in range(2))
    with pytest.raises(UsageError, match="ulimit -n"):
        link.make_socket(context, zmq.PUSH, heartbeat=10)
    first.close()
    second.close()
