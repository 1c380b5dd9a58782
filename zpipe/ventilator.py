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
from zpipe.allowed import implied
from zpipe.core import wire
from zpipe.core.actions import Action, Admit, End, Fill, Inform, Lost, Reply, Report, Retire, Skip, Tell
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director, Phase
from zpipe.core.ledger import Ledger
from zpipe.core.policy import Policy
from zpipe.errors import SourceError, UsageError, WireError
from zpipe.security import Guard
from zpipe.sources import Batch, Source
from zpipe.versions import host_name

__all__ = ["LocalSink", "Tasks", "Ventilator"]

BATCH = 256
"""Control messages handled before others get their turn."""

MESSAGE_CHUNKS, MESSAGE_BYTES = 64, 32_768
"""Small chunks for one lane travel together, up to this many and this many bytes: the first must not wait long."""


LANE_BITS = 24
"""Lanes of one ventilator are told apart by so many bits of their number, ventilators of one job by those above."""


class Tasks(Protocol):
    """What a job of many functions says of the items that its source gives next."""

    setup: wire.JobSpec | None
    """What is called once in each worker, ahead of everything."""

    def current(self) -> tuple[int, Chunker] | None:
        """The number of the task that the next items are for, and what sizes their chunks; None if there are none."""

    def single(self) -> tuple[int, Chunker, Batch] | None:
        """The next item where it is to be sent alone, whatever else there is, with its task; None if there is none."""

    def spec(self, number: int) -> wire.JobSpec:
        """The task of this number."""


class LocalSink(Protocol):
    """A sink in the same process: a receipt from it is a function call."""

    @property
    def endpoint(self) -> str:
        """Where workers send results, announced with `*` for the host."""

    @property
    def encoding(self) -> wire.Encoding:
        """How it wants results."""

    @property
    def letters(self) -> bool:
        """Whether it wants dead letters."""

    @property
    def joblog(self) -> bool:
        """Whether it wants lines for a job log."""

    def held(self) -> wire.Held:
        """Return what there is of the job already."""

    def on_job(self, job: str, fingerprint: dict[str, str]) -> None:
        """This is the job."""

    def on_total(self, total: int) -> None:
        """The job has `total` items."""

    def on_copied(self, start: int, stop: int) -> None:
        """Two workers run these items."""


class _Lane(msgspec.Struct, eq=False):
    """A bound PUSH socket. `tasks` are the numbers of those that went down it; `chunks` are about to go, as `parts`.

    `cut`: it refused a message, so its worker has gone, or has not linked yet.
    """

    number: int
    socket: Any
    watch: link.Watch
    endpoint: str
    peers: int = 0
    strangers: int = 0
    cut: bool = False
    tasks: set[int] = msgspec.field(default_factory=set)
    chunks: list[Chunk] = msgspec.field(default_factory=list)
    parts: list[wire.Chunk] = msgspec.field(default_factory=list)
    size: int = 0


class Ventilator:
    """Runs one job. `spec.encoding` is the sink's to say and set before the first worker gets it.

    `say(text, error)` tells the person. `ended` holds how the job ended once it did. `guard` says who may connect; a
    `hint` is what the command lines of other nodes need besides the address.
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
        tasks: Tasks | None = None,
        fingerprint: dict[str, str] | None = None,
        guard: Guard | None = None,
        hint: str = "",
    ) -> None:
        self._loop, self._context, self._source, self._spec, self._tasks = loop, context, source, spec, tasks
        self._say = say
        self._heartbeat, self._lane_ports, self._guard, self._hint = heartbeat, lane_ports, guard, hint
        allowed = implied(spec)
        self._allow = allowed.options() if allowed is not None else ""
        chunker = Chunker(chunk, most=spec.max_tasks or None)
        self.ledger = Ledger(chunker, policy.max_crashes, speculate=policy.speculate)
        self.ledger.limited = spec.limited
        base = int.from_bytes(os.urandom(4), "big") << LANE_BITS
        self.director = Director(os.urandom(8).hex(), policy, self.ledger, fingerprint=fingerprint, base=base)
        self.ended: End | None = None
        self.url = ""
        self._bound = ""
        self._control: Any = None
        self._watch: link.Watch | None = None
        self._sink: LocalSink | None = None
        self._lanes: dict[int, _Lane] = {}
        self._awaited: int | None = None
        self._dry = False
        self._began = time.monotonic()

    # setting up

    def bind(self, url: str) -> str:
        """Bind the control socket; return the address workers may be given. Raises UsageError."""
        control = link.make_socket(self._context, zmq.ROUTER, heartbeat=self._heartbeat, most=wire.MAX_CONTROL_BYTES)
        if self._guard is not None:
            self._guard.serve(control, url)
        try:
            self._bound = link.bind(control, url)
        except BaseException:
            control.close()
            raise
        self._control = control
        self._loop.add(control, self._on_control)
        if self._guard is not None and url.startswith("tcp://"):
            self._watch = link.Watch(self._loop, control, lambda _: None, self._guard.fault("control"))
        self.url = endpoints.reachable(self._bound, host_name())
        wide = "" if endpoints.is_loopback(self._bound) else f" --bind tcp://0.0.0.0:{endpoints.RESULTS_PORT}"
        codec = f" --codec {self._spec.codec}" if self._spec.codec != "pickle" else ""
        self.director.sink_line = f"zpipe sink {self.url}{wide}{self._hint}{codec} --output FILE"
        return self.url

    def issued(self) -> int:
        """Return the number of items sent so far: nobody can have results of others."""
        return self.ledger.next

    @property
    def worker_line(self) -> str:
        """The command line that starts workers elsewhere."""
        return f"zpipe worker {self.url}{self._hint}{self._allow}"

    @property
    def bound(self) -> str:
        """The endpoint the control socket is bound at."""
        return self._bound

    def start(self, sink: LocalSink | None = None) -> None:
        """Begin, with a sink of this process if given."""
        self._sink = sink
        self._source.start(self._loop.wake)
        if sink is not None:
            director = self.director
            wants = (sink.endpoint, sink.encoding, sink.letters, sink.held())
            self._perform(director.on_local_sink(*wants, joblog=sink.joblog))
            sink.on_job(director.job, director.fingerprint)
        if self._source.exhausted:
            self._exhausted()

    # events in

    def _on_control(self) -> bool:
        for _ in range(BATCH):
            frames = link.receive(self._control)
            if frames is None:
                return False
            identity = bytes(frames[0])
            if not self.director.hears(identity):
                continue
            try:
                message, _ = wire.decode(frames[1:])
            except WireError as error:
                self._perform(self.director.on_malformed(identity, str(error), time.monotonic()))
                continue
            self._perform(self.director.on_message(identity, message, time.monotonic()))
        return True

    def _on_lane(self, number: int, event: int) -> None:
        lane = self._lanes.get(number)
        if lane is None:
            return
        if event == link.UP:
            lane.peers += 1
            lane.cut = False
            if lane.peers == 1:
                self.director.on_linked(number)
                self._share([number])  # its Ready may have come first, and found nobody to send to
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
        self._perform(self.director.on_receipts(message, time.monotonic()))

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
        """Time passed."""
        self._perform(self.director.on_tick(now))

    def on_wake(self) -> None:
        """The loop was woken: the source may have more, or have come to its end."""
        if self._source.exhausted:
            self._exhausted()
        if self._dry:
            self._dry = False
            self._on_more()

    def offer(self) -> bool:
        """Send a single item to a worker that has none, without looking further; False if that takes more thought.

        For when nothing else is under way, so that nothing is to be shared or recalled: `on_wake` in fewer steps.
        """
        ledger, tasks = self.ledger, self._tasks
        if tasks is None or tasks.setup is not None or ledger.waiting or not (ledger.open and self.director.may_issue):
            return False
        for number, lane in ledger.lanes.items():
            if not lane.held and lane.credit > 0 and not self._lanes[number].cut:
                break
        else:
            return False
        single = tasks.single()
        if single is None:
            return False
        task, chunker, batch = single
        mine = self._lanes[number]
        self._put(mine, ledger.issue(number, 1, batch.kind, batch.frames, time.monotonic(), task, chunker))
        self._flush(mine)
        return True

    # actions out

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Fill):
                self._share(action.lanes)
            elif isinstance(action, Reply):
                self._reply(action.identity, action.message)
            elif isinstance(action, Report):
                self._reply(action.identity, self.state())
            elif isinstance(action, Inform):
                assert self._sink is not None
                self._sink.on_copied(action.message.start, action.message.stop)
            elif isinstance(action, Admit):
                self._admit(action)
            elif isinstance(action, Retire):
                self._close_lane(action.lane)
            elif isinstance(action, Skip):
                self._skip()
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
        try:
            lane = self._lanes[action.lane] = self._open_lane(action.lane)
        except UsageError as error:
            self._perform(self.director.on_unbound(action.lane, str(error)))
            return
        self._reply(action.identity, self.director.welcome(lane.number, endpoints.announce(lane.endpoint)))

    def _open_lane(self, number: int) -> _Lane:
        made = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat, most=0)
        fault = None
        if self._guard is not None:
            self._guard.serve(made, self._bound)
            fault = self._guard.fault("lane") if self._bound.startswith("tcp://") else None
        try:
            watch = link.Watch(self._loop, made, partial(self._on_lane, number), fault)
        except UsageError:
            made.close()
            raise
        at = endpoints.sibling(self._bound, f"lane-{number % (1 << LANE_BITS)}")
        try:
            return _Lane(number, made, watch, link.bind(made, at, self._lane_ports))
        except UsageError:
            watch.close()
            raise

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

    def _feed(self) -> None:
        """Share what the source has now among all lanes."""
        self._share(list(self.ledger.lanes))

    def _share(self, numbers: list[int]) -> None:
        """Share chunks among these lanes as far as they have credit, one chunk at a time, idle ones first."""
        ledger = self.ledger
        if self._is_idle():
            self._await_source()
            self._after_sharing(hungry=True)
            return
        pairs = [(self._lanes[n], ledger.lanes[n]) for n in numbers if n in self._lanes and n in ledger.lanes]
        if self._tasks is None or self._tasks.setup is not None:
            pairs = [pair for pair in pairs if self._introduce(pair[0], 0)]
        if len(pairs) > 1:
            pairs.sort(key=lambda pair: len(pair[1].held))
        hungry, now = False, time.monotonic()
        while pairs and self.director.may_issue:
            pairs = [pair for pair in pairs if pair[1].credit > 0 and not pair[0].cut]
            for lane, _ in pairs:
                chunk = ledger.again(lane.number, now) or self._issue(lane.number, now)
                if chunk is None:
                    hungry, pairs = True, []
                    break
                self._put(lane, chunk)
        for number in numbers:
            if (lane_of := self._lanes.get(number)) is not None:
                self._flush(lane_of)
        self._after_sharing(hungry=hungry)

    def _is_idle(self) -> bool:
        """Whether a pipeline has nothing to send, not even what sets workers up: a quick no, which is often asked."""
        tasks = self._tasks
        return tasks is not None and tasks.setup is None and not self.ledger.waiting and not tasks.current()

    def _after_sharing(self, *, hungry: bool) -> None:
        """`hungry`: there was not enough for all."""
        if hungry and len(self.ledger.lanes) > 1:
            self._perform(self.director.on_hungry(time.monotonic()))
        # Last: a sink in this process may have all results already, and end the job, these lanes included.
        if self._source.exhausted:
            self._exhausted()

    def _introduce(self, lane: _Lane, number: int) -> bool:
        """Send a task down a lane that has not had it; return whether it has it now."""
        if number not in lane.tasks:
            self._flush(lane)
            if not link.send(lane.socket, wire.encode(wire.Task(self.director.job, self._job_spec(number), number))):
                lane.cut = True
                return False
            lane.tasks.add(number)
        return True

    def forget(self, number: int) -> None:
        """No item is for this task any more: workers may let go of it."""
        for lane in self._lanes.values():
            if number in lane.tasks:
                lane.tasks.discard(number)
                link.send(lane.socket, wire.encode(wire.Forget(number)))

    def _issue(self, number: int, now: float) -> Chunk | None:
        """Make a chunk of what the source has for this lane."""
        while True:
            current = (0, self.ledger.chunker) if self._tasks is None else self._tasks.current()
            if current is None:
                self._await_source()
                return None
            task, chunker = current
            if self.ledger.ahead.count and not self._skip():
                return None
            wanted = self.ledger.wanted(self._source.remaining(), chunker)
            batch = self._take(wanted) if wanted else None
            if batch is not None:
                return self.ledger.issue(number, batch.count, batch.kind, batch.frames, now, task, chunker)
            if self._tasks is None or not wanted:
                return None

    def _put(self, lane: _Lane, chunk: Chunk) -> None:
        """Have a chunk sent down a lane: at once if it is large, else with the others of this turn."""
        if not self._introduce(lane, chunk.task):
            self.ledger.on_refused(chunk)
            return
        body = wire.inline(chunk.payload)
        part = wire.Chunk(
            chunk.start,
            chunk.stop,
            chunk.attempt,
            chunk.items,
            chunk.task,
            chunk.skip,
            chunk.doom,
            chunk.tries,
            body,
            chunk.late,
        )
        if body is None:
            self._flush(lane)
            self._send(lane, wire.encode(part, chunk.payload), [chunk])
            return
        lane.chunks.append(chunk)
        lane.parts.append(part)
        lane.size += chunk.size
        if lane.size >= MESSAGE_BYTES or len(lane.parts) >= MESSAGE_CHUNKS:
            self._flush(lane)

    def _flush(self, lane: _Lane) -> None:
        """Send what is to go down a lane."""
        if lane.parts:
            parts, chunks, lane.parts, lane.chunks, lane.size = lane.parts, lane.chunks, [], [], 0
            self._send(lane, wire.encode(parts[0] if len(parts) == 1 else wire.Chunks(parts)), chunks)

    def _send(self, lane: _Lane, frames: list[wire.Buffer], chunks: list[Chunk]) -> None:
        if not link.send(lane.socket, frames):
            # Its monitor is about to say so; the chunks wait for another worker.
            lane.cut = True
            for chunk in reversed(chunks):
                self.ledger.on_refused(chunk)

    def _take(self, wanted: int) -> Any:
        try:
            batch = self._source.take(wanted)
        except SourceError as error:
            self._on_source_error(error)
            return None
        if batch is None:
            if self._source.exhausted:
                self._exhausted()
            else:
                self._await_source()
        return batch

    def _on_source_error(self, error: SourceError) -> None:
        self._forget_source()
        self.drain(f"the source failed: {error}", error.exit_status)
        self._source.close()

    def _skip(self) -> bool:
        """Pass over the source's next items as far as they are done; return whether that is all of them."""
        while count := self.ledger.skippable:
            try:
                skipped = self._source.skip(count)
            except SourceError as error:
                self._on_source_error(error)
                return False
            if not skipped:
                if self._source.exhausted:
                    self._exhausted()
                else:
                    self._await_source()
                return False
            self.ledger.on_skipped(skipped)
        if self._source.exhausted:
            self._exhausted()
        return True

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
        self._on_more()
        return False

    def _on_more(self) -> None:
        if self.ledger.ahead.count:
            self._skip()  # even if there is no worker: all may be done
        self._feed()

    def _exhausted(self) -> None:
        if self.ledger.exhausted or self.ledger.closed:
            return  # a source that was closed early has no total
        self._perform(self.director.on_exhausted())
        if self._sink is not None and self.ended is None:  # else the source is not the job's: nor is its end
            self._sink.on_total(self.ledger.next)

    def _job_spec(self, number: int) -> wire.JobSpec:
        if self._tasks is not None:
            return self._tasks.spec(number)
        director, spec = self.director, self._spec
        wanted = (director.encoding, director.letters, director.joblog)
        if wanted[0] is not None and wanted != (spec.encoding, spec.letters, spec.joblog):
            self._spec = msgspec.structs.replace(spec, encoding=wanted[0], letters=wanted[1], joblog=wanted[2])
        return self._spec

    # what a person may want to know

    def state(self) -> wire.State:
        """Where the job is, for whoever asks for it from outside."""
        director, ledger = self.director, self.ledger
        total, exact = self.total()
        return wire.State(
            director.job,
            director.phase.value,
            ledger.done,
            ledger.failed,
            total,
            exact,
            director.workers,
            ledger.in_flight,
            time.monotonic() - self._began,
            director.paused,
            director.draining,
            self.waiting(),
        )

    def waiting(self) -> str:
        """What the job waits for, as a sentence, empty when it is at work."""
        if self.director.paused:
            return self.director.waiting(str(os.getpid()) if self.url.startswith("ipc://") else self.url)
        dry = self._dry or self._awaited is not None
        if dry and not self.ledger.in_flight and self.director.phase is Phase.RUNNING:
            return (
                "waiting for the source: no items have come yet" if not self.ledger.next else "waiting for more items"
            )
        return self.director.waiting(self.url + self._hint + self._allow)

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
            if self._watch is not None:
                self._control.set(zmq.LINGER, 1000)
                self._watch.close()
            else:
                self._control.close(linger=1000)
            self._control = None
            link.unlink(self._bound)
