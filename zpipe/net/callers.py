"""Who calls at a socket that was bound, and how one who breaks the protocol is cut off.

ZeroMQ can't drop one of the peers that have connected. But a message tells by which descriptor it came (ZMQ_SRCFD), and
a connection that is shut down under its hands is one that the peer has closed: it lets go of it, and of nothing else.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import zmq

from zpipe.core.wire import Buffer
from zpipe.net.borrowed import borrowed

__all__ = ["Callers"]

GRACE = 1.0
"""Seconds in which a last word still goes out."""

MOST = 1000
"""Connections that are about to be cut off; of more the first one is at once."""

_NOW, _STATE, _READABLE = int(zmq.DONTWAIT), int(zmq.EVENTS), int(zmq.POLLIN)


class Callers:
    """Takes the messages of `made`, a socket bound at `endpoint`. On ipc, in a private folder, nobody is cut off."""

    def __init__(self, made: Any, endpoint: str) -> None:
        self._made = made
        self._port = int(endpoint.rpartition(":")[2]) if endpoint.startswith("tcp://") else 0
        self._frame: Any = None
        self._going: deque[tuple[float, Any]] = deque()

    def receive(self, *, expected: bool = False) -> list[Buffer] | None:
        """Return the next message's frames, or None when there is none now. `expected`: as for `link.receive`."""
        if not (expected or self._made.get(_STATE) & _READABLE):
            return None
        try:
            frame = self._frame = self._made.recv(_NOW, copy=False)
        except zmq.Again:
            return None
        frames: list[Buffer] = [frame.bytes]
        while frame.more:
            frame = self._made.recv(copy=False)
            frames.append(frame.buffer)
        return frames

    def cut_off(self) -> str:
        """Shut the connection that the last message came by; return its host, empty if that is not known."""
        return self._shut(self._frame)

    def part(self, now: float) -> None:
        """Shut it when what was said to it has had time to go out."""
        if self._port:
            self._going.append((now + GRACE, self._frame))
            if len(self._going) > MOST:
                self._shut(self._going.popleft()[1])

    @property
    def parting(self) -> bool:
        """Whether a connection is about to be shut."""
        return bool(self._going)

    def deadline(self, other: float | None) -> float | None:
        """When `on_tick` is due, or the `other` thing that somebody waits for."""
        if not self._going:
            return other
        due = self._going[0][0]
        return due if other is None else min(due, other)

    def on_tick(self, now: float) -> None:
        """Time passed."""
        while self._going and self._going[0][0] <= now:
            self._shut(self._going.popleft()[1])

    def _shut(self, frame: Any) -> str:
        if not self._port or frame is None:
            return ""
        import socket  # slow to load, and hardly anybody is cut off

        with contextlib.suppress(OSError, zmq.ZMQError, ValueError):
            with borrowed(frame.get(zmq.SRCFD)) as peer:
                # Since the message came its descriptor may have become another's.
                if peer.family not in (socket.AF_INET, socket.AF_INET6) or peer.getsockname()[1] != self._port:
                    return ""
                host = str(peer.getpeername()[0])
                if host != frame.get("Peer-Address"):
                    return ""
                peer.shutdown(socket.SHUT_RDWR)
            return host.removeprefix("::ffff:")
        return ""
