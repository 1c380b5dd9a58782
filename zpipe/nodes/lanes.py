"""The ventilator's lanes: a bound PUSH socket for each worker, and what is about to go down it. Decides nothing.

Small chunks for one lane travel together. What a lane refuses is given back at once: its worker has gone, or has not
linked yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.core.chunk import Chunk
from zpipe.core.grains import ROW, ROW_BYTES
from zpipe.errors import UsageError
from zpipe.net import endpoints, link
from zpipe.net.loop import Loop
from zpipe.net.security import Guard

__all__ = ["LANE_BITS", "Change", "Lane", "Lanes"]

LANE_BITS = 24
"""Lanes of one ventilator are told apart by so many bits of their number, ventilators of one job by those above."""

MESSAGE_CHUNKS, MESSAGE_BYTES = ROW, ROW_BYTES
"""Small chunks for one lane travel together, up to this many and this many bytes: the first must not wait long."""


class Change(Enum):
    """What has become of a lane: a worker has linked to it, a second one has, it has lost its worker."""

    LINKED = 1
    DOUBLED = 2
    LOST = 3


class Lane:
    """A bound PUSH socket. `task(number)` makes the message that introduces a task, `refused(chunk)` gets chunks back.

    `ticket`: what its worker has to show. `cut`: it refused a message, so its worker has gone, or has not linked yet.
    """

    __slots__ = (
        "_chunks", "_count", "_parts", "_peers", "_refused", "_size", "_strangers", "_task", "_tasks", "_watch",
        "cut", "endpoint", "number", "socket", "ticket",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        socket: Any,
        watch: link.Watch,
        endpoint: str,
        task: Callable[[int], wire.Task],
        refused: Callable[[Chunk], None],
        ticket: str = "",
    ) -> None:
        self.number, self.socket, self.endpoint, self.ticket = number, socket, endpoint, ticket
        self.cut = False
        self._watch, self._task, self._refused = watch, task, refused
        self._peers = self._strangers = 0
        self._tasks: set[int] = set()
        self._chunks: list[Chunk] = []
        self._parts: list[wire.Chunk] = []
        self._size = self._count = 0

    def on_event(self, event: int) -> Change | None:
        """The socket's monitor says this; return what comes of it, if anything."""
        if event == link.UP:
            self._peers += 1
            self.cut = False
            link.attach(self.socket)
            return Change.LINKED if self._peers == 1 else Change.DOUBLED
        if event == link.FAILED:
            self._strangers += 1
        elif event == link.DOWN and self._strangers:
            self._strangers -= 1  # whoever connected never was a worker
        elif event == link.DOWN:
            return Change.LOST
        return None

    def introduce(self, number: int) -> bool:
        """Send a task down the lane if it has not had it; return whether it has it now."""
        if number not in self._tasks:
            self.flush()
            if not link.send(self.socket, coding.encode(self._task(number))):
                self.cut = True
                return False
            self._tasks.add(number)
        return True

    def forget(self, number: int) -> None:
        """No item is for this task any more: the worker may let go of it."""
        if number in self._tasks:
            self._tasks.discard(number)
            link.send(self.socket, coding.encode(wire.Forget(number)))

    def put(self, chunk: Chunk) -> None:
        """Have a chunk sent: at once if it is large, else with the others of this turn, when it is `flush`ed."""
        if chunk.task not in self._tasks and not self.introduce(chunk.task):
            self._refused(chunk)
            return
        body = coding.inline(chunk.payload) if not chunk.grain else None
        part = chunk.told(body)
        if body is None and not chunk.grain:
            self.flush()
            self._send(coding.encode(part, chunk.payload), [chunk])
            return
        self._chunks.append(chunk)
        self._parts.append(part)
        self._size += chunk.size
        self._count += chunk.places
        if self._size >= MESSAGE_BYTES or self._count >= MESSAGE_CHUNKS:
            self.flush()

    def send_first(self, part: wire.Chunk) -> bool:
        """Send a chunk with its payload inside, ahead of all else; False: it was not sent, and is to be `put`."""
        return part.task in self._tasks and not self._parts and link.send(self.socket, coding.encode(part))

    def flush(self) -> None:
        """Send what is about to go."""
        if self._parts:
            parts, chunks, self._parts, self._chunks = self._parts, self._chunks, [], []
            self._size = self._count = 0
            self._send(coding.encode(parts[0] if len(parts) == 1 else wire.Chunks(parts)), chunks)

    def _send(self, frames: list[wire.Buffer], chunks: list[Chunk]) -> None:
        if not link.send(self.socket, frames):
            # Its monitor is about to say so; the chunks wait for another worker.
            self.cut = True
            for chunk in reversed(chunks):
                self._refused(chunk)

    def close(self) -> None:
        """Close the socket and remove its file, if it has one."""
        self._watch.close()
        link.unlink(self.endpoint)


class Lanes:
    """The lanes that are open. Of each `on_event(number, event)` is told what its monitor says."""

    def __init__(
        self,
        loop: Loop,
        context: Any,
        on_event: Callable[[int, int], None],
        task: Callable[[int], wire.Task],
        refused: Callable[[Chunk], None],
        *,
        heartbeat: float,
        ports: Sequence[int] = (),
        guard: Guard | None = None,
    ) -> None:
        self.open: dict[int, Lane] = {}
        self._loop, self._context, self._on_event = loop, context, on_event
        self._task, self._refused = task, refused
        self._heartbeat, self._ports, self._guard = heartbeat, ports, guard

    def bind(self, number: int, control: str) -> Lane:
        """Open a lane beside the socket that is bound at `control`. Raises UsageError."""
        made = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat, most=0)
        fault, ticket = None, ""
        if self._guard is not None:
            ticket = self._guard.reserve(made, control)
            fault = self._guard.fault("lane") if control.startswith("tcp://") else None
        try:
            watch = link.Watch(self._loop, made, partial(self._on_event, number), fault)
        except UsageError:
            made.close()
            raise
        at = endpoints.sibling(control, f"lane-{number % (1 << LANE_BITS)}")
        try:
            endpoint = link.bind(made, at, self._ports)
        except UsageError:
            watch.close()
            raise
        lane = self.open[number] = Lane(number, made, watch, endpoint, self._task, self._refused, ticket)
        return lane

    def forget(self, task: int) -> None:
        """No item is for this task any more: workers may let go of it."""
        for lane in self.open.values():
            lane.forget(task)

    def close(self, number: int) -> None:
        """Close a lane, if it is open."""
        lane = self.open.pop(number, None)
        if lane is not None:
            lane.close()

    def close_all(self) -> None:
        """Close every lane."""
        for number in list(self.open):
            self.close(number)
