"""A job of real processes whose ports strangers attack while it runs: it must be right, and its nodes stay small."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq
from attacks import raw
from attacks.garbage import message
from process.tools import LOCAL, Node, Zpipe, free_port, values, wait_until

from zpipe.core import coding, wire
from zpipe.net import keys, security

__all__ = ["ATTACKS", "Siege"]

HEARTBEAT = 2.0
LANES = 12
"""Ports that lanes may have."""
GROWTH = 150 << 20
"""Bytes by which a node may grow."""
FILES = 64
"""Open files a node may have more when it is over than before."""
LINES = 150
"""Lines a node may print besides those that tell every few seconds how far it is."""
PROGRESS = re.compile(r"zpipe: ([\d,]+ (of|items)|waiting for)")
SENDERS = {
    "DEALER": zmq.DEALER,
    "PUSH": zmq.PUSH,
    "REQ": zmq.REQ,
    "PUB": zmq.PUB,
    "PAIR": zmq.PAIR,
    "ROUTER": zmq.ROUTER,
}


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Siege:
    """Three processes, with a `key` or without. What is sent by whom follows from the seed."""

    def __init__(self, zpipe: Zpipe, seed: int, *, key: bool) -> None:
        self.rng = random.Random(f"siege {seed}")
        self.sent: Counter[str] = Counter()
        self._zpipe, self._items, self._given = zpipe, 0, ["--insecure"]
        self._keys = None
        if key:
            zpipe.run("keygen", "key")
            self._given = ["--key-file", "key"]
            self._keys = keys.load(zpipe.folder / "key")
        first, results = free_port(), free_port()
        while results in range(first, first + LANES):
            results = free_port()
        common = ("--heartbeat", HEARTBEAT, *self._given)
        lanes = ("--lane-ports", f"{first}-{first + LANES - 1}")
        self.ventilator = zpipe.piped("ventilator", "jobs:same", "--bind", f"{LOCAL}:0", *lanes, *common)
        control = self.ventilator.url()
        self.sink = zpipe.start("sink", control, "--bind", f"{LOCAL}:{results}", *common)
        self.worker = zpipe.start("worker", control, "--slots", "2", *common)
        self.ports = {"control": control, "results": f"{LOCAL}:{results}"}
        self.lanes = [f"{LOCAL}:{port}" for port in range(first, first + LANES)]
        self.feed(100)
        self.until_done()
        self._before = {pid: (resident(pid), files(pid)) for pid in self._pids()}

    def _pids(self) -> list[int]:
        return [self.ventilator.pid, self.sink.pid, self.worker.pid]

    @property
    def _nodes(self) -> list[Node]:
        return [self.ventilator, self.sink, self.worker]

    def feed(self, count: int) -> None:
        """Have the job do so many more items."""
        self.ventilator.write("".join(f"{n}\n" for n in range(self._items, self._items + count)))
        self._items += count

    def until_done(self) -> None:
        """Wait until all items so far are done: strangers delay the job at most."""
        wait_until(
            lambda: self.sink.raw.count(b"\n") >= self._items, lambda: f"{self._items} items\n{self._told()}", 120
        )

    def _told(self) -> str:
        return "\n".join(node.err[-2000:] for node in self._nodes)

    def _until_few(self, pid: int, most: int) -> None:
        wait_until(lambda: files(pid) <= most, lambda: f"{files(pid)} files of {pid} to be {most} again")

    def end(self) -> str:
        """End the job, and see that it was right and its nodes have stayed small; return a line about it."""
        self.feed(100)
        self.until_done()
        grown = {}
        for pid, (size, opened) in self._before.items():
            self._until_few(pid, opened + FILES)
            grown[pid] = resident(pid) - size
        self.ventilator.eof()
        for node in self._nodes:
            node.ended(0)
            assert "Traceback" not in node.err, node.err
            told = [line for line in node.err.splitlines() if not PROGRESS.match(line)]
            assert len(told) <= LINES, node.err
            assert len(node.err) < 1000 * LINES
        assert values(self.sink.out) == [str(n) for n in range(self._items)]
        assert max(grown.values()) <= GROWTH, grown
        lines = sum(node.err.count("\n") for node in self._nodes)
        grew = ", ".join(f"{grow / 1e6:+.1f}" for grow in grown.values())
        return f"{self._items} items exact; ventilator, sink, workers grew by {grew} MB; {lines} lines told"

    # attacks

    @contextlib.contextmanager
    def _socket(self, context: Any, kind: int, *, key: bool = False) -> Iterator[Any]:
        """A stranger's socket, or with `key` one of somebody who has it, if there is one."""
        made = context.socket(kind)
        if key:
            security.approach(made, "tcp://", self._keys)
        made.set(zmq.LINGER, 2000)
        made.set(zmq.RECONNECT_IVL, -1)
        made.set(zmq.SNDHWM, 0)
        if kind == zmq.REQ:
            made.set(zmq.REQ_RELAXED, 1)
        try:
            yield made
        finally:
            made.close()

    def messages(self, count: int, *, each: int = 100) -> None:
        """Send garbage to every port from sockets of every kind, `each` many by one connection at most."""
        context = zmq.Context()
        # Of those who are let in libzmq (4.3.5) may abort us, the senders: when they are cut off in the midst of a
        # message while they are being closed. It takes millions of messages, on a busy machine.
        insiders = 0.0 if self._keys is None else 0.5 if count > 10_000 else 0.1
        try:
            while count > 0:
                port, url = self._target()
                name = self._kind(port)
                key = self.rng.random() < insiders
                what = f"{name} to {port}{' with the key' if key else ''}"
                with self._socket(context, SENDERS[name], key=key) as made:
                    made.connect(url)
                    count -= max(1, self._send(made, min(count, self.rng.randint(1, each)), what))
                if self.rng.random() < 0.1:
                    self.feed(1)
        finally:
            context.destroy(linger=2000)

    def _send(self, made: Any, count: int, what: str) -> int:
        """Send so much garbage, as far as it goes; return how much went."""
        for n in range(count):
            try:
                made.send_multipart(message(self.rng), zmq.NOBLOCK)
            except zmq.ZMQError:
                return n  # it was turned away
            self.sent[what] += 1
        return count

    def _target(self) -> tuple[str, str]:
        port = self.rng.choice(["control", "control", "results", "results", "lane"])
        return port, self.rng.choice(self.lanes) if port == "lane" else self.ports[port]

    def _kind(self, port: str) -> str:
        right = {"control": "DEALER", "results": "PUSH"}.get(port)
        return right if right is not None and self.rng.random() < 0.8 else self.rng.choice(sorted(SENDERS))

    def bytes_below(self, count: int) -> None:
        """Say what is no ZMTP, or breaks it, on so many connections to every port."""
        for _ in range(count):
            port, url = self._target()
            with contextlib.suppress(OSError), raw.connect(url, 2.0) as peer:
                for part in raw.babble(self.rng):
                    peer.sendall(part)
                self.sent[f"bytes to {port}"] += 1

    def left_open(self, count: int) -> None:
        """Open connections and leave them."""
        with contextlib.ExitStack() as stack:
            for n in range(count):
                port, url = self._target()
                peer = stack.enter_context(socket.socket())
                peer.setblocking(False)
                peer.connect_ex(("127.0.0.1", int(url.rpartition(":")[2])))
                self.sent[f"connections left at the {port} port"] += 1
                if n % 1000 == 0:
                    self.feed(1)
            self.until_done()

    def slowly(self, count: int, seconds: float) -> None:
        """Say a greeting and a message byte by byte, in so many seconds, on many connections at a time."""
        said = raw.NULL + raw.ready(b"DEALER") + b"\x00\x64" + b"x" * 100
        with contextlib.ExitStack() as stack:
            peers = []
            for _ in range(count):
                with contextlib.suppress(OSError):
                    peers.append(stack.enter_context(raw.connect(self._target()[1])))
            began, at = time.monotonic(), 0
            while at < len(said):
                due = int(len(said) * (time.monotonic() - began) / seconds)
                for peer in peers:
                    with contextlib.suppress(OSError):
                        peer.sendall(said[at:due])
                at = max(at, due)
                self.feed(1)
                self.until_done()
        self.sent["slow connections"] += count

    def deaf(self, count: int) -> None:
        """Ask again and again without hearing any answer; others are answered meanwhile."""
        context = zmq.Context()
        try:
            with self._socket(context, zmq.DEALER, key=True) as made:
                made.set(zmq.RCVHWM, 1)
                made.set(zmq.RCVBUF, 4096)
                made.connect(self.ports["control"])
                with contextlib.suppress(zmq.ZMQError):
                    for _ in range(count):
                        made.send_multipart([bytes(frame) for frame in coding.encode(wire.Ask("status"))], zmq.NOBLOCK)
                        self.sent["questions nobody hears the answers to"] += 1
                self.feed(10)
                self.until_done()
                self._ask(context)
                made.setsockopt(zmq.LINGER, 0)
        finally:
            context.destroy(linger=0)

    def _ask(self, context: Any) -> wire.State:
        """Return the job's state. A handshake may take longer than is borne: then it is asked anew."""
        for _ in range(12):
            with self._socket(context, zmq.DEALER, key=True) as asker:
                asker.connect(self.ports["control"])
                asker.send_multipart([bytes(frame) for frame in coding.encode(wire.Ask("status"))])
                if asker.poll(10_000):
                    state, _ = coding.decode(asker.recv_multipart())
                    assert isinstance(state, wire.State)
                    return state
                asker.setsockopt(zmq.LINGER, 0)
        raise AssertionError("a question is not answered")

    def forged(self, count: int) -> None:
        """Send results of this very job that nobody asked for, as a broken worker would."""
        context = zmq.Context()
        try:
            state = self._ask(context)
            with self._socket(context, zmq.PUSH, key=True) as made:
                made.connect(self.ports["results"])
                body = b'{"value":"forged"}\n' * self.rng.choice([1, 400])
                for _ in range(count):
                    start = self.rng.randint(1 << 30, 1 << 61)
                    stop = start + self.rng.choice([1, 1000, 1 << 40])
                    again = 0.0 if self.rng.random() < 0.1 else None
                    part = wire.Result(state.job, 7, start, stop, 1, 0.1, again=again, body=memoryview(body))
                    frames = coding.encode(part if self.rng.random() < 0.5 else wire.Results([part] * 3))
                    with contextlib.suppress(zmq.ZMQError):  # it was cut off
                        made.send_multipart(frames, zmq.NOBLOCK)
                        self.sent["results that nobody asked for"] += 1
                self.feed(10)
                self.until_done()
        finally:
            context.destroy(linger=2000)

    def endless(self, count: int) -> None:
        """Send messages of thousands of frames."""
        context = zmq.Context()
        try:
            for port, kind in (("control", zmq.DEALER), ("results", zmq.PUSH)):
                with self._socket(context, kind, key=True) as made:
                    made.connect(self.ports[port])
                    for _ in range(count):
                        with contextlib.suppress(zmq.ZMQError):
                            made.send_multipart([b"", *[b"x"] * self.rng.choice([2, 5000, 20_000])], zmq.NOBLOCK)
                            self.sent[f"messages of many frames to {port}"] += 1
        finally:
            context.destroy(linger=2000)


ATTACKS: dict[str, Callable[[Siege, int], None]] = {
    "garbage": lambda siege, messages: siege.messages(messages),
    "bytes below the protocol": lambda siege, messages: siege.bytes_below(max(100, messages // 100)),
    "results of nobody's items": lambda siege, messages: siege.forged(max(1000, messages // 10)),
    "many frames": lambda siege, messages: siege.endless(max(2, messages // 10_000)),
    "deaf peers": lambda siege, messages: siege.deaf(max(2000, messages // 10)),
    "slow peers": lambda siege, messages: siege.slowly(30, 2.0 if messages < 10_000 else 15.0),
    "connections left": lambda siege, messages: siege.left_open(min(10_000, max(100, messages // 10))),
}
