"""A node's control connection to its ventilator: messages in and out, and what its monitor tells. Decides nothing.

Shared by worker and sink. A peer that is no ventilator is told of, and tried again: libzmq itself gives up for good on
one whose socket is of another kind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.core.handshake import Fault, Handshakes, Verdict
from zpipe.errors import WireError
from zpipe.net import endpoints, link
from zpipe.net.keys import Keys
from zpipe.net.loop import Loop
from zpipe.net.security import approach

__all__ = ["Dialog"]


class Dialog:
    """The control connection to the ventilator at `url`.

    `up` and `down` are called as it stands and is cut, `heard(message)` with each message, its endpoints ready to be
    connected to, and `say(text)` with what a person should know. `denied(why)` is called each time it turns out that
    the keys of both sides don't fit.
    """

    def __init__(
        self,
        loop: Loop,
        context: Any,
        url: str,
        *,
        heartbeat: float,
        up: Callable[[], None],
        down: Callable[[], None],
        heard: Callable[[Any], None],
        say: Callable[[str], None],
        denied: Callable[[str], None],
        keys: Keys | None = None,
    ) -> None:
        self._loop, self._url, self._keys = loop, url, keys
        self._up, self._down, self._heard, self._say, self._denied = up, down, heard, say, denied
        self._handshakes = Handshakes(url, len(keys.secrets) if keys else 0, keys.origin if keys else "")
        self._standing = False
        self._strange = False
        self._failed = False
        self._told = False
        self._control = link.make_socket(context, zmq.DEALER, heartbeat=heartbeat)
        self._watch = link.Watch(loop, self._control, self._on_event)
        loop.add(self._control, self.read)

    def connect(self) -> None:
        """Look for the ventilator; it goes on until `close`."""
        approach(self._control, self._url, self._keys, self._handshakes.key)
        link.prepare(self._url)
        self._control.connect(self._url)

    @property
    def key(self) -> int:
        """The number of the key that the ventilator takes, as far as is known."""
        return self._handshakes.key

    def send(self, message: wire.Control) -> None:
        """Send a message, if the connection stands; a cut one loses it."""
        link.send(self._control, coding.encode(message))
        self._loop.again(self._control)

    def look(self) -> None:
        """Look for messages in the loop's next turn, after a while in which the loop did not come round."""
        self._loop.again(self._control)

    def _on_event(self, event: int) -> None:
        if event == link.UP:
            self._standing, self._strange, self._told = True, False, False
            self._handshakes.on_up()
            self._up()
        elif event == link.DOWN and self._standing:
            self._standing = False
            self.read()  # what it said before it went: once it has gone, some of that would not be heeded
            self._down()
        elif event == link.FAILED:
            self._failed = True
            self._on_failed()
        elif event == link.DOWN:
            failed, self._failed = self._failed, False
            if not failed:
                self._wonder()

    def _on_failed(self) -> None:
        fault = self._watch.fault
        if fault is Fault.LEFT and link.mechanism(self._url) == ("CURVE" if self._keys is None else "NULL"):
            fault = Fault.MECHANISM  # which of the two sides is told so is chance
        verdict = self._handshakes.on_failed(fault)
        self._strange = self._strange or verdict in (Verdict.ANEW, Verdict.DENIED)
        if verdict is Verdict.ANEW:
            self.retry()
        elif verdict is Verdict.DENIED:
            self._disconnect()  # until the next retry
            self._denied(self._handshakes.why)
        elif verdict is Verdict.STRANGE:
            self._wonder()

    def _wonder(self) -> None:
        self._strange = True
        if not self._told:
            self._told = True
            self._say(f"something answers at {self._url} that is no zpipe ventilator; is the port right?")

    def retry(self) -> None:
        """Try a peer anew that turned out to be no ventilator; called every few seconds."""
        if self._strange and not self._standing:
            self._strange = False
            self._disconnect()
            self.connect()

    def _disconnect(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._control.disconnect(self._url)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when a message may have come."""
        fd: int = self._control.get(zmq.FD)
        return fd

    def read(self) -> bool:
        """Hand over the messages that have come."""
        while not self._control.closed:
            frames = link.receive(self._control)
            if frames is None:
                return False
            try:
                message, _ = coding.decode(frames)
            except WireError as error:
                self._say(f"dropped a malformed message from {self._url}: {error}")
                continue
            if isinstance(message, wire.Welcome):
                message = endpoints.resolved(message, self._url)
            self._heard(message)
        return False

    def close(self, linger: int = 0) -> None:
        """Close the connection, letting the last message out for `linger` milliseconds."""
        self._control.set(zmq.LINGER, linger)
        self._watch.close()
