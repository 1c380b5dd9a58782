"""Waiting: one selector for many of ZeroMQ's sockets and other descriptors. Decides nothing.

A `Loop` waits on the `ZMQ_FD`s of all its sockets. Such a descriptor tells of changes, not of states: whoever is called
must read until there is nothing left, or say that there is more; and after a send on a socket that also receives, the
socket must be looked at again (`Loop.again`), since the send may have swallowed the change.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
from collections.abc import Callable
from io import FileIO
from typing import Any

import zmq

__all__ = ["Loop"]


class Loop:
    """Waits for any of many sockets and descriptors, and calls back. Used by one thread; `wake` by any."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: dict[Any, Callable[[], bool]] = {}
        self._due: dict[Any, None] = {}
        self._gates: dict[Any, Any] = {}
        self._lent: Any = None
        ear, mouth = os.pipe()
        os.set_blocking(ear, False)
        os.set_blocking(mouth, False)
        self._ear, self._mouth = FileIO(ear), FileIO(mouth, "w")  # which know when they are closed
        self._selector.register(self._ear, selectors.EVENT_READ, None)

    def add(self, made: Any, call: Callable[[], bool]) -> None:
        """Call `call` when `made`, a zmq socket, may have something; it returns True if it left something unread."""
        self._calls[made] = call
        self._selector.register(made.get(zmq.FD), selectors.EVENT_READ, made)
        self._due[made] = None

    def add_fd(self, fd: int, call: Callable[[], bool]) -> None:
        """Call `call` when the descriptor is readable. Raises PermissionError for one that can't be waited on."""
        self._selector.register(fd, selectors.EVENT_READ, fd)
        self._calls[fd] = call

    def again(self, made: Any) -> None:
        """Look at this socket in the next turn, whatever its descriptor says."""
        if made in self._calls:
            self._due[made] = None

    def remove(self, made: Any) -> None:
        """Forget a socket (before it is closed) or a descriptor."""
        if self._calls.pop(made, None) is None:
            return
        self._due.pop(made, None)
        gate = self._gates.pop(made, None)
        if gate is None:
            self._selector.unregister(made if isinstance(made, int) else made.get(zmq.FD))
        else:
            self._selector.unregister(gate)
            gate.close()

    def lend(self, made: Any) -> bool:
        """Leave a socket to another thread, which reads it until `take_back`; False if it is about to be read here.

        The loop may be waiting meanwhile, and goes on to: the socket's descriptor is put behind a gate, an epoll of its
        own, that is shut and opened without anybody's being woken.
        """
        if made in self._due:
            return False
        fd, gate = made.get(zmq.FD), self._gates.get(made)
        if gate is None:
            gate = self._gates[made] = select.epoll()
            gate.register(fd, 0)
            self._selector.unregister(fd)
            self._selector.register(gate, selectors.EVENT_READ, made)
        else:
            gate.modify(fd, 0)
        self._lent = made
        return True

    def take_back(self, made: Any) -> None:
        """Watch a socket again that was lent; whoever had it has left nothing unread, or wakes the loop for it."""
        self._lent = None
        self._gates[made].modify(made.get(zmq.FD), select.EPOLLIN)

    @property
    def pressing(self) -> bool:
        """Whether calls are due already."""
        return bool(self._due)

    def turn(self, timeout: float | None) -> None:
        """Wait `timeout` seconds at most (None: for ever) and make the calls that are due."""
        self.call(self.wait(timeout))

    def wait(self, timeout: float | None) -> list[Any]:
        """Wait `timeout` seconds at most (None: for ever); return what `call` takes. Touches nothing that is shared."""
        return self._selector.select(0 if self._due else timeout)

    def call(self, events: list[Any]) -> None:
        """Make the calls that are due."""
        for key, _ in events:
            if key.data is None:
                self._ear.read(4096)  # what is left, if anything, ends the next wait
            elif key.data is not self._lent:
                self._due[key.data] = None
        due, self._due = self._due, {}
        for made in due:
            call = self._calls.get(made)
            if call is not None and call():
                self.again(made)

    def wake(self) -> None:
        """End the wait under way, or the next one, at once. Safe from any thread and from a signal handler."""
        with contextlib.suppress(OSError, ValueError):
            self._mouth.write(b"\0")

    def close(self) -> None:
        """Let go of the selector; sockets are their owners' to close."""
        self._selector.close()
        self._ear.close()
        self._mouth.close()
