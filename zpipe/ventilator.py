"""The ventilator's shell: reads the source, sends chunks down lanes, hears control messages. Decides nothing itself.

What to do is the director's and the ledger's to say; this turns messages and monitor events into their events, and
their actions into messages. One thread, inside a `Loop` that it may share with a sink of the same process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import zmq

from zpipe import endpoints, link
from zpipe.core import wire
from zpipe.core.chunking import Chunker
from zpipe.core.director import Action, Admit, Director, End, Fill, Lost, Phase, Policy, Reply, Retire, Tell
from zpipe.core.ledger import Ledger
from zpipe.errors import SourceError, UsageError, WireError
from zpipe.sources import Source
from zpipe.versions import host_name

__all__ = ["LocalSink", "Ventilator"]

BATCH = 256
"""Control messages handled before others get their turn."""


class LocalSink(Protocol):
    """A sink in the same process: a receipt from it is a function call."""

    @property
    def endpoint(self) -> str:
        """Where workers send results, announced with `*` for the host."""

    @property
    def encoding(self) -> wire.Encoding:
        """How it wants results."""

    def on_total(self, total: int) -> None:
        """The job has `total` items."""


class _Lane(msgspec.Struct, eq=False):
    """A bound PUSH socket. `tasked` once the job's functions went down it."""

    socket: Any
    watch: link.Watch
    endpoint: str
    peers: int = 0
    strangers: int = 0
    tasked: bool = False


class Ventilator:
    """Runs one job. `spec.encoding` is the sink's to say and set before the first worker gets it.

    `say(text, error)` tells the person. `ended` holds how the job ended once it did.
    """

    def __init__(
        self,
        loop: link.Loop,
        context: Any,
        source: Source,
        spec: wire.JobSpec,
        policy: Policy,
        *,
        say: Callable[[str, bool], None],
        chunk: int | None = None,
        heartbeat: float = 10.0,
        lane_ports: Sequence[int] = (),
    ) -> None:
        self._loop, self._context, self._source, self._spec = loop, context, source, spec
        self._say = say
        self._heartbeat, self._lane_ports = heartbeat, lane_ports
        self.ledger = Ledger(Chunker(chunk))
        self.director = Director(os.urandom(8).hex(), policy, self.ledger)
        self.ended: End | None = None
        self.url = ""
        self._bound = ""
        self._control: Any = None
        self._sink: LocalSink | None = None
        self._lanes: dict[int, _Lane] = {}
        self._awaited: int | None = None
        self._dry = False
        self._malformed: set[bytes] = set()

    # setting up

    def bind(self, url: str) -> str:
        """Bind the control socket; return the address workers may be given. Raises UsageError."""
        control = link.make_socket(self._context, zmq.ROUTER, heartbeat=self._heartbeat)
        try:
            self._bound = link.bind(control, url)
        except BaseException:
            control.close()
            raise
        self._control = control
        self._loop.add(control, self._on_control)
        self.url = endpoints.reachable(self._bound, host_name())
        near = endpoints.is_loopback(self._bound)
        wide = "" if near else f" --bind tcp://0.0.0.0:{endpoints.RESULTS_PORT} --insecure"
        self.director.sink_line = f"zpipe sink {self.url}{wide} --output FILE"
        return self.url

    @property
    def bound(self) -> str:
        """The endpoint the control socket is bound at."""
        return self._bound

    def start(self, sink: LocalSink | None = None) -> None:
        """Begin, with a sink of this process if given."""
        self._sink = sink
        if sink is not None:
            self.director.local_sink = (sink.endpoint, sink.encoding)
        self._source.start(self._loop.wake)
        if self._source.exhausted:
            self._exhausted()

    # events in

    def _on_control(self) -> bool:
        for _ in range(BATCH):
            frames = link.receive(self._control)
            if frames is None:
                return False
            identity = bytes(frames[0])
            try:
                message, _ = wire.decode(frames[1:])
            except WireError as error:
                if identity not in self._malformed:
                    self._malformed.add(identity)
                    self._perform(self.director.on_malformed(identity, str(error)))
                continue
            self._perform(self.director.on_message(identity, message, time.monotonic()))
        return True

    def _on_lane(self, number: int, event: int) -> None:
        lane = self._lanes.get(number)
        if lane is None:
            return
        if event == link.UP:
            lane.peers += 1
            if lane.peers == 1:
                self.director.on_linked(number)
                self._fill(number)  # its Ready may have come first, and found nobody to send to
            else:
                self._perform(self.director.on_link_lost(number, "a second peer connected to its lane"))
        elif event == link.FAILED:
            lane.strangers += 1
        elif event == link.DOWN and lane.strangers:
            lane.strangers -= 1  # whoever connected never was a worker
        elif event == link.DOWN:
            self._perform(self.director.on_link_lost(number))

    def on_receipts(self, message: wire.Receipts) -> None:
        """The local sink has these."""
        self._perform(self.director.on_receipts(message))

    def on_finished(self, message: wire.Finished) -> None:
        """The local sink is done, or can't be."""
        self._perform(self.director.on_finished(message))

    def drain(self, reason: str, status: int) -> None:
        """Issue nothing more; end when what is in flight is done."""
        self._perform(self.director.on_drain(reason, status))

    def abort(self, reason: str, status: int) -> None:
        """End the job here."""
        self._perform(self.director.on_failed(reason, status))

    # time

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        return self.director.deadline()

    def on_tick(self, now: float) -> None:
        """Time passed, or the loop was woken: the source may have more."""
        self._perform(self.director.on_tick(now))
        if self._source.exhausted:
            self._exhausted()
        if self._dry:
            self._dry = False
            self._feed()

    # actions out

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Fill):
                self._fill(action.lane)
            elif isinstance(action, Reply):
                self._reply(action.identity, action.message)
            elif isinstance(action, Admit):
                self._admit(action)
            elif isinstance(action, Retire):
                self._close_lane(action.lane)
            elif isinstance(action, Lost):
                again = f"; {action.requeued} of its chunks go to others" if action.requeued else ""
                self._say(f"lost {action.name}: {action.how}{again}", False)
            elif isinstance(action, Tell):
                self._say(action.text, action.error)
            elif isinstance(action, End):
                self._end(action)

    def _reply(self, identity: bytes, message: wire.Control) -> None:
        link.send(self._control, [identity, *wire.encode(message)])
        self._loop.again(self._control)

    def _admit(self, action: Admit) -> None:
        made = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat)
        number = action.lane
        watch = link.Watch(self._loop, made, partial(self._on_lane, number))
        at = endpoints.sibling(self._bound, f"lane-{number}")
        try:
            bound = link.bind(made, at, self._lane_ports)
        except UsageError as error:
            watch.close()
            self._perform(self.director.on_unbound(number, str(error)))
            return
        self._lanes[number] = _Lane(made, watch, bound)
        self._reply(action.identity, self.director.welcome(number, endpoints.announce(bound)))

    def _end(self, end: End) -> None:
        self.ended = end
        self._close_lanes()

    def _close_lane(self, number: int) -> None:
        lane = self._lanes.pop(number, None)
        if lane is not None:
            lane.watch.close()
            link.unlink(lane.endpoint)

    def _close_lanes(self) -> None:
        for number in list(self._lanes):
            self._close_lane(number)

    # chunks

    def _fill(self, number: int) -> None:
        """Send the task, if it has not been, and as many chunks as the lane has credit for."""
        lane, state = self._lanes.get(number), self.ledger.lanes.get(number)
        if lane is None or state is None:
            return
        if not lane.tasked:
            lane.tasked = link.send(lane.socket, wire.encode(wire.Task(self.director.job, self._job_spec())))
            if not lane.tasked:
                return
        while state.credit > 0 and self.director.may_issue:
            if not self._send_one(number, lane):
                return

    def _feed(self) -> None:
        """Share what the source has now among all lanes with credit, one chunk at a time, idle ones first."""
        progress = True
        while progress and self.director.may_issue:
            progress = False
            for state in sorted(self.ledger.lanes.values(), key=lambda lane: len(lane.held)):
                lane = self._lanes.get(state.number)
                if lane is not None and lane.tasked and state.credit > 0:
                    if not self._send_one(state.number, lane):
                        return
                    progress = True

    def _send_one(self, number: int, lane: _Lane) -> bool:
        """Send one chunk down a lane with credit; return whether there was one to send."""
        ledger = self.ledger
        chunk = ledger.again(number)
        if chunk is None:
            wanted = ledger.wanted(self._source.remaining())
            batch = self._take(wanted) if wanted else None
            if batch is None:
                return False
            chunk = ledger.issue(number, batch.count, batch.kind, batch.frames)
        header = wire.Chunk(chunk.start, chunk.stop, chunk.attempt, chunk.items)
        sent = link.send(lane.socket, wire.encode(header, chunk.payload))
        if not sent:
            # The worker has gone and its monitor is about to say so; the chunk waits for another.
            ledger.on_refused(chunk)
        # Last: a sink in this process may have its result already, and end the job, this lane included.
        if self._source.exhausted:
            self._exhausted()
        return sent

    def _take(self, wanted: int) -> Any:
        try:
            batch = self._source.take(wanted)
        except SourceError as error:
            self._forget_source()
            self.drain(f"the source failed: {error}", error.exit_status)
            self._source.close()
            return None
        if batch is None:
            if self._source.exhausted:
                self._exhausted()
            else:
                self._await_source()
        return batch

    def _await_source(self) -> None:
        fd = self._source.fileno()
        self._dry = fd is None
        if fd is not None and self._awaited is None:
            self._awaited = fd
            self._loop.add_fd(fd, self._on_source)

    def _forget_source(self) -> None:
        if self._awaited is not None:
            self._loop.remove(self._awaited)
            self._awaited = None

    def _on_source(self) -> bool:
        self._forget_source()
        self._feed()
        return False

    def _exhausted(self) -> None:
        if self.ledger.exhausted or self.ledger.closed:
            return  # a source that was closed early has no total
        self._perform(self.director.on_exhausted())
        if self._sink is not None:
            self._sink.on_total(self.ledger.next)

    def _job_spec(self) -> wire.JobSpec:
        encoding = self.director.encoding
        if encoding is not None and encoding != self._spec.encoding:
            self._spec = msgspec.structs.replace(self._spec, encoding=encoding)
        return self._spec

    # what a person may want to know

    def waiting(self) -> str:
        """What the job waits for, as a sentence, empty when it is at work."""
        dry = self._dry or self._awaited is not None
        if dry and not self.ledger.in_flight and self.director.phase is Phase.RUNNING:
            return (
                "waiting for the source: no items have come yet" if not self.ledger.next else "waiting for more items"
            )
        return self.director.waiting(self.url)

    def total(self) -> tuple[int | None, bool]:
        """The number of items, or an estimate of it, and whether it is exact."""
        if self.ledger.exhausted:
            return self.ledger.next, True
        remaining = self._source.remaining()
        return (None, False) if remaining is None else (self.ledger.next + remaining, self._source.exact)

    def close(self) -> None:
        """Let the last messages out and close every socket."""
        self._forget_source()
        self._source.close()
        self._close_lanes()
        if self._control is not None:
            self._loop.remove(self._control)
            self._control.close(linger=1000)
            self._control = None
            link.unlink(self._bound)
