"""Brings results that nobody ran for from a ventilator to a sink elsewhere, as a worker brings its own.

The rule: what was sent may be lost with its connection; whoever sends is told of each new one, and says it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.core.seat import Wants
from zpipe.net import endpoints, link
from zpipe.net.keys import Keys
from zpipe.net.loop import Loop
from zpipe.net.security import approach

__all__ = ["Courier"]

HERE = "tcp://127.0.0.1:0"
"""A sink that does not say on which host it is is on this one."""


class Courier:
    """A link to a sink's results socket. `linked` is called whenever there is a new connection."""

    def __init__(
        self, loop: Loop, context: Any, keys: Keys | None, linked: Callable[[], None], *, heartbeat: float
    ) -> None:
        self._loop, self._context, self._keys, self._linked = loop, context, keys, linked
        self._heartbeat = heartbeat
        self._wants: Wants | None = None
        self._socket: Any = None
        self._watch: link.Watch | None = None
        self._up = False

    def bring(self, wants: Wants, results: Sequence[tuple[wire.Result, Sequence[wire.Buffer]]]) -> bool:
        """Send results to a sink that wants them there; False if there is no connection to it now."""
        if self._wants is None or (wants.endpoint, wants.key) != (self._wants.endpoint, self._wants.key):
            self._connect(wants)
        if not self._up:
            return False
        for result, frames in results:
            if not link.send(self._socket, coding.encode(result, () if result.body is not None else frames)):
                self._up = False  # its monitor is about to say so
                return False
        return True

    def _connect(self, wants: Wants) -> None:
        self.close()
        self._wants = wants
        made = self._socket = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat)
        self._watch = link.Watch(self._loop, made, self._on_event)
        endpoint = endpoints.resolve(wants.endpoint, HERE)
        # The sink knows the last of these keys: it is the one that it has found this ventilator by.
        approach(made, endpoint, self._keys, -1, wants.key)
        made.connect(endpoint)

    def _on_event(self, event: int) -> None:
        if event == link.UP:
            self._up = True
            self._linked()
        elif event in (link.DOWN, link.CLOSED):
            self._up = False

    def close(self) -> None:
        """Close the link; what was sent may still go out."""
        self._up, self._wants = False, None
        if self._watch is not None:
            self._socket.set(zmq.LINGER, 1000)
            self._watch.close()
            self._watch = self._socket = None
