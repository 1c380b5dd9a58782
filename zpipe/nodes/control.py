"""A ventilator's control socket: bound once, spoken through to many. Must not know what its messages mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.net import link
from zpipe.net.callers import Callers
from zpipe.net.loop import Loop
from zpipe.net.security import Guard

__all__ = ["Control"]


class Control:
    """Calls `heard` when there are messages, which `callers` takes. `guard` says who may connect."""

    def __init__(
        self, loop: Loop, context: Any, guard: Guard | None, heard: Callable[[], bool], *, heartbeat: float
    ) -> None:
        self._loop, self._context, self._guard, self._heard = loop, context, guard, heard
        self._heartbeat = heartbeat
        self._socket: Any = None
        self._watch: link.Watch | None = None
        self.callers = Callers(None, "")
        self.endpoint = ""
        """Where it is bound."""

    def bind(self, url: str) -> None:
        """Bind it. Raises UsageError."""
        most = wire.MAX_CONTROL_BYTES
        made = link.make_socket(self._context, zmq.ROUTER, heartbeat=self._heartbeat, most=most, bounded=True)
        if self._guard is not None:
            self._guard.serve(made, url)
        try:
            self.endpoint = link.bind(made, url)
        except BaseException:
            made.close()
            raise
        self._socket = made
        self.callers = Callers(made, self.endpoint)
        self._loop.add(made, self._heard)
        if self._guard is not None and url.startswith("tcp://"):
            self._watch = link.Watch(self._loop, made, lambda _: None, self._guard.fault("control"))

    def send(self, identity: bytes, message: wire.Control) -> None:
        """Send this to one that called, if it is still there."""
        link.send(self._socket, [identity, *coding.encode(message)])
        self._loop.again(self._socket)

    def close(self) -> None:
        """Let the last messages out, and be no more."""
        if self._socket is None:
            return
        self._loop.remove(self._socket)
        if self._watch is not None:
            self._socket.set(zmq.LINGER, 1000)
            self._watch.close()
        else:
            self._socket.close(linger=1000)
        self._socket = None
        link.unlink(self.endpoint)
