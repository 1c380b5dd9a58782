"""Sockets: the one place that knows how ZeroMQ's are made, bound, used and watched. Decides nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from zpipe.core.handshake import Fault
from zpipe.core.wire import Buffer
from zpipe.errors import UsageError
from zpipe.net.allocation import keep_freed
from zpipe.net.borrowed import borrowed
from zpipe.net.loop import Loop

__all__ = [
    "CLOSED",
    "DOWN",
    "FAILED",
    "UP",
    "Watch",
    "attach",
    "bind",
    "make_context",
    "make_socket",
    "mechanism",
    "prepare",
    "raise_limits",
    "receive",
    "send",
    "unlink",
]

COPY_BYTES = 131_072
"""Frames below this are copied into ZeroMQ's own memory; above, the caller's memory is sent as it is."""

PEER_MESSAGES = 10_000
"""Messages from one peer that wait at most, and control messages to one; those beyond are not read, or are lost.

More than a worker has to tell, since its lane has a window, so that only floods come that far: libzmq (4.3.5) aborts
the process as well if a peer's ping is in what has no room when its connection breaks.
"""

LONGEST_TTL = 65.0
"""Seconds of a heartbeat up to which a peer can be told to bear no more silence than that."""

SLACK = 1024
"""Bytes that encryption and the handshake's commands may add to a frame."""

EVENTS = 256
"""Events of a socket's connections that are looked at before others get their turn."""

SPARE_FILES = 8
"""Files to be had still when a socket is bound: libzmq (4.3.5) aborts the process where that finds none."""

FILES_A_LANE = 8
"""Open files a worker costs: its lane's socket and both ends of its monitor, a listener, and three connections."""

_NOW, _MORE = int(zmq.DONTWAIT), int(zmq.SNDMORE | zmq.DONTWAIT)
_STATE, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
FAILED = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
DOWN = int(zmq.EVENT_DISCONNECTED)
CLOSED = int(zmq.EVENT_CLOSED)

_ACCEPTED, _DENIED, _LEFT = (
    int(zmq.EVENT_ACCEPTED),
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
)
_MECHANISM, _CRYPTO = (
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH),
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC),
)


def raise_limits() -> int:
    """Raise the soft limit of open files to the hard one; return about how many workers that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 1_048_576) if hard != resource.RLIM_INFINITY else 1_048_576
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(1, (soft - 64) // FILES_A_LANE)


def make_context() -> Any:
    """Return a context of this process, able to hold as many lanes as the open-file limit allows."""
    keep_freed()
    context: Any = zmq.Context()
    context.set(zmq.MAX_SOCKETS, min(65_535, max(1023, 3 * raise_limits())))
    context.set(zmq.IPV6, 1)
    return context


def make_socket(
    context: Any, kind: int, *, heartbeat: float, reconnect: bool = True, most: int = -1, bounded: bool = False
) -> Any:
    """Return a socket that never blocks, and notices a silent peer after `heartbeat` s.

    most: bytes that a frame to it may have (-1: any number); whoever announces more is cut off. bounded: it takes no
    more than some messages ahead of whoever reads them, and notices a silent peer after that one's `heartbeat`. Raises
    UsageError when no more files may be opened.
    """
    try:
        made = context.socket(kind)
    except zmq.ZMQError as error:
        raise _scarce(error) from None
    made.set(zmq.LINGER, 0)
    # Peers that say much and hear little are to fill their own memory, not ours.
    made.set(zmq.SNDHWM, PEER_MESSAGES if kind == zmq.ROUTER else 0)
    made.set(zmq.RCVHWM, PEER_MESSAGES if bounded else 1000 if kind == zmq.PUSH else 0)
    made.set(zmq.MAXMSGSIZE, most if most < 0 else most + SLACK)
    if kind == zmq.PUSH:
        # Never queue for nobody. Not on a DEALER: there it also drops, at a cut, what has arrived and is not yet read.
        made.set(zmq.IMMEDIATE, 1)
    # libzmq (4.3.5) aborts the process when a ping is due on a connection that broke while what it brought had no room.
    # So who bounds that does not ping, but is pinged by those who connect, and told how long to bear silence.
    made.set(zmq.HEARTBEAT_IVL, 0 if bounded else max(1, int(heartbeat * 250)))
    made.set(zmq.HEARTBEAT_TIMEOUT, max(1, int(heartbeat * 750)))
    # It also takes a TTL of 65.6 s and more for its remainder.
    made.set(zmq.HEARTBEAT_TTL, max(100, int(heartbeat * 1000)) if heartbeat <= LONGEST_TTL else 0)
    if bounded:
        made.set(zmq.TCP_KEEPALIVE, 1)
        made.set(zmq.TCP_KEEPALIVE_IDLE, max(1, int(heartbeat)))
    made.set(zmq.HANDSHAKE_IVL, max(1000, int(heartbeat * 1000)))
    if reconnect:
        made.set(zmq.RECONNECT_IVL, 50)
        made.set(zmq.RECONNECT_IVL_MAX, 2000)
    else:
        made.set(zmq.RECONNECT_IVL, -1)
    if kind == zmq.ROUTER:
        made.set(zmq.ROUTER_MANDATORY, 1)
    return made


def _scarce(error: zmq.ZMQError | OSError) -> Exception:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return error
    return UsageError("this process may open no more files: many connections are open; raise the limit (ulimit -n)")


def _have_room() -> None:
    """Raise UsageError unless some more files can be opened."""
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(SPARE_FILES):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise _scarce(error) from None


def mechanism(url: str, patience: float = 1.0) -> str:
    """Return what the peer at a tcp address wants to be spoken to by, "NULL" or "CURVE"; empty if it doesn't say.

    That is in what a ZMTP peer says first (rfc.zeromq.org/spec/23). Waits `patience` seconds for it.
    """
    import socket  # it and what takes URLs apart are slow to load, and no worker on one machine needs them
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "tcp" or parts.hostname is None or parts.port is None:
        return ""
    said, until = b"", time.monotonic() + patience
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), patience) as peer:
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03")
        while len(said) < 64 and time.monotonic() < until and (more := peer.recv(64 - len(said))):
            said += more
    return said[12:32].rstrip(b"\0").decode("ascii", "replace") if len(said) == 64 else ""


def prepare(endpoint: str) -> None:
    """Load what a socket at this address may take, which is slow to load and which those of one machine do without.

    Later all files may be open that a process may have, by those who connect, and none be left to load it from.
    """
    if not endpoint.startswith("ipc://"):
        import hashlib  # noqa: F401
        import hmac  # noqa: F401
        import socket  # noqa: F401
        import urllib.parse  # noqa: F401


def bind(made: Any, endpoint: str, ports: Sequence[int] = ()) -> str:
    """Bind a socket at `endpoint`, or at the first free one of `ports` there; return where. Raises UsageError."""
    _have_room()
    prepare(endpoint)
    if endpoint.startswith("ipc://"):
        _check_unused(endpoint)
    base = endpoint.rpartition(":")[0]
    tries = [f"{base}:{port}" for port in ports] if ports and endpoint.startswith("tcp://") else [endpoint]
    for n, where in enumerate(tries, 1):
        try:
            made.bind(where)
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE and n < len(tries):
                continue
            raise UsageError(_why_unbound(where, error, len(tries))) from None
        if not where.startswith("tcp://"):
            return where
        # The host as it was asked for: libzmq would tell an IPv4 one in IPv6's clothes.
        port = made.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode().rpartition(":")[2]
        return f"{where.rpartition(':')[0]}:{port}"
    raise AssertionError("unreachable")


def _check_unused(endpoint: str) -> None:
    """Raise UsageError if somebody listens at an ipc endpoint: libzmq itself would take it from them in silence."""
    path = endpoint.removeprefix("ipc://")
    if not os.path.exists(path):  # noqa: PTH110 - pathlib is slow to load, as is socket
        return
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise UsageError(f"{endpoint} is in use by another process; stop that one, or choose another path")


def unlink(endpoint: str) -> None:
    """Remove the file of an ipc endpoint that was bound here: libzmq leaves it."""
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            os.unlink(endpoint.removeprefix("ipc://"))  # noqa: PTH108 - pathlib is a tenth of a worker's start


def _why_unbound(where: str, error: zmq.ZMQError, tried: int) -> str:
    if error.errno == zmq.EADDRINUSE:
        what = f"all {tried} lane ports are" if tried > 1 else f"{where} is"
        return f"{what} in use by another process; stop that one, or choose another address or port 0 for any"
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return f"{where} is no address of this host; bind one of its own, or 127.0.0.1"
    return f"{where} can't be bound: {os.strerror(error.errno) if error.errno else error}"


def send(made: Any, frames: Sequence[Buffer]) -> bool:
    """Send a message without blocking; return False if the other side is not there to take it."""
    try:
        last = frames[-1]
        if len(frames) > 1:
            for frame in frames[:-1]:
                made.send(frame, _MORE, copy=_to_copy(frame))
        made.send(last, _NOW, copy=len(last) < COPY_BYTES or _to_copy(last))
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True


def _to_copy(frame: Buffer) -> bool:
    # Of what is writable a task may hold on to the memory, and change it while ZeroMQ still sends it: serialize.release
    # marks what nobody holds any more.
    return len(frame) < COPY_BYTES or not (
        isinstance(frame, bytes) or (isinstance(frame, memoryview) and frame.readonly)
    )


def attach(made: Any) -> None:
    """Have a socket whose connection is up know of it: within a millisecond of a `send` another one looks for none."""
    made.get(_STATE)


def receive(made: Any, *, expected: bool = False) -> list[Buffer] | None:
    """Return the next message's frames, or None when there is none now.

    To look first takes as long as four messages, but to be refused as long as a dozen: it is left out where one is
    `expected`.
    """
    if not (expected or made.get(_STATE) & _READABLE):
        return None
    try:
        frame = made.recv(_NOW, copy=False)
    except zmq.Again:
        return None
    frames: list[Buffer] = [frame.bytes]
    while frame.more:  # asking the socket for RCVMORE costs two microseconds
        frame = made.recv(copy=False)
        frames.append(frame.buffer)
    return frames


def _monitor(made: Any, events: int) -> Any:
    """Return a socket that tells of these events of another."""
    where = f"inproc://monitor-{made.get(zmq.FD)}"
    made.monitor(where, events)
    try:
        monitor = made.context.socket(zmq.PAIR)
    except zmq.ZMQError:
        made.disable_monitor()
        raise
    # ZeroMQ's thread waits while there is no room for an event, and with it all sockets, and whoever closes this one:
    # strangers who come faster than they are looked at must not bring that about.
    monitor.set(zmq.RCVHWM, 0)
    monitor.set(zmq.LINGER, 0)
    monitor.connect(where)
    return monitor


def _fault(event: int, value: int) -> Fault:
    if event == _DENIED:
        return Fault.DENIED
    if event == _LEFT:
        return Fault.LEFT
    return {_MECHANISM: Fault.MECHANISM, _CRYPTO: Fault.CRYPTO}.get(value, Fault.GARBLED)


def _peer(fd: int) -> str:
    """Return the address of who is connected to a socket of ZeroMQ's, empty if it is gone already."""
    try:
        with borrowed(fd) as accepted:
            name = accepted.getpeername()
    except OSError:
        return ""
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""


class Watch:
    """Tells of a socket's connections: `call(UP | DOWN | FAILED | CLOSED)`, from its monitor.

    `fault` is how the last handshake failed. `on_fault(host, fault)` is called for each failed one of a socket that
    was bound; the host is empty if its connection was over before it could be looked at. Raises UsageError when no more
    files may be opened.
    """

    def __init__(
        self,
        loop: Loop,
        made: Any,
        call: Callable[[int], None],
        on_fault: Callable[[str, Fault], None] | None = None,
    ) -> None:
        self._loop, self._made, self._call, self._on_fault = loop, made, call, on_fault
        self.fault = Fault.LEFT
        self._failed = False
        self._hosts: dict[int, str] = {}
        self._linked: set[int] = set()
        try:
            self._monitor = _monitor(made, UP | DOWN | FAILED | CLOSED | (_ACCEPTED if on_fault else 0))
        except zmq.ZMQError as error:
            raise _scarce(error) from None
        loop.add(self._monitor, self._read)

    def _read(self) -> bool:
        for _ in range(EVENTS):
            if self._monitor.closed:
                return False
            frames = receive(self._monitor)
            if frames is None:
                return False
            event, value = struct.unpack_from("=HI", frames[0])
            if event == _ACCEPTED:
                self._hosts[value] = "" if bytes(frames[1]).startswith(b"ipc:") else _peer(value)
                continue
            if event & FAILED:
                self.fault, self._failed = _fault(event, value), True
                event = FAILED
            elif event == UP:
                self._linked.update(self._hosts)  # one of those; which is not told
            elif event == DOWN and self._on_fault is not None:
                self._look_back(value)
            self._call(event)
        return True

    def _look_back(self, fd: int) -> None:
        """See whether the connection of this descriptor, which is over, ever stood."""
        assert self._on_fault is not None
        # The two come together: one thread of ZeroMQ's tells of all connections.
        host, failed, self._failed = self._hosts.pop(fd, ""), self._failed, False
        if not failed and fd not in self._linked:  # some failures are not told, as of a frame that is too long
            self.fault, failed = Fault.GARBLED, True
            self._call(FAILED)
        self._linked.discard(fd)
        if failed:
            self._on_fault(host, self.fault)

    def close(self) -> None:
        """Close the watched socket and its monitor; what is queued in it is dropped."""
        if self._monitor.closed:
            return
        self._loop.remove(self._monitor)
        self._loop.remove(self._made)
        self._made.disable_monitor()
        self._monitor.close()
        self._made.close()
