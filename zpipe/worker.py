"""The worker's shell: takes a chunk from its lane, runs it, sends the result. One thread does it all.

A second one, the attendant, is at work only while a chunk runs: it hears control messages, so that what waits behind
a straggler can be handed back, and sends results that were kept to travel with others. Whoever touches sockets or
decisions holds the one lock; the first thread lets go of it while the user's code runs, and only then.

ZeroMQ's own thread answers heartbeats, so a task that never lets go of the interpreter is not taken for dead. Monitors
are looked at between chunks.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import zmq

from zpipe import link
from zpipe.allowed import Allowed
from zpipe.core import coding, wire
from zpipe.core.handshake import explain
from zpipe.core.intake import Intake
from zpipe.core.member import Action, Close, Gone, Member, Open, Say, Send
from zpipe.dialog import Dialog
from zpipe.errors import TaskError, WireError
from zpipe.keys import Keys
from zpipe.loop import Loop
from zpipe.runner import Runner, set_up
from zpipe.security import approach
from zpipe.stagerunner import StageRunner
from zpipe.stopwatch import Stopwatch
from zpipe.versions import host_name, our_versions

__all__ = ["Past", "Worker"]

TURN = 0.05
"""Seconds of running chunks after which monitors are looked at; control messages are the attendant's to hear."""

LOOK = 0.005
"""Seconds that results are kept at most."""

QUICK = 0.0005
"""Seconds a chunk takes from which its result is sent at once: the lane is to be filled again in time."""

LINGER = 1000
"""Milliseconds in which results that were sent may still go out when the links are closed."""

KEPT, KEPT_BYTES = 64, 32_768
"""Results, and bytes of them, that are kept to travel together."""


class Past(msgspec.Struct, frozen=True):
    """How this slot's last process ended: its pid (0: there was none), in words, and whether by its own fault.

    `item` is what it ran then, if that is known; with `late` it was killed for running too long.
    """

    pid: int = 0
    ended: str = ""
    crashed: bool = False
    item: int | None = None
    late: bool = False
    fate: wire.Fate = wire.Fate()


class Worker:
    """One slot's process. `gone` says how it ended once it did; `say(text)` tells the person.

    `ready` is called when a task has been loaded; `stopwatch` is where the supervisor sees what runs.
    `allowed` is what it may run, if not everything. It looks for a ventilator for `patience` seconds (None: for ever),
    or the first time for `first_patience`, if given.
    """

    def __init__(
        self,
        url: str,
        *,
        slot: int,
        say: Callable[[str], None],
        ready: Callable[[], None],
        past: Past | None = None,
        heartbeat: float = 10.0,
        patience: float | None = None,
        stay: bool = False,
        keys: Keys | None = None,
        stopwatch: Stopwatch | None = None,
        first_patience: float | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self._allowed = allowed
        self._patience = patience
        self._stopwatch = stopwatch
        self._url, self._say, self._ready, self._heartbeat, self._keys = url, say, ready, heartbeat, keys
        self.gone: Gone | None = None
        self._loop = Loop()
        self._context = link.make_context()
        self.terminated = False
        self.spent = False
        """Whether it leaves to be replaced by a fresh process."""
        self._ran = 0
        self._tasks: dict[int, wire.Task] = {}
        self._setup: wire.Task | None = None
        self._state: dict[str, Any] | None = None
        self._runners: dict[int, Runner] = {}
        self._kept: list[wire.Result] = []
        self._kept_bytes = 0
        self._kept_since = 0.0
        self._turned = 0.0
        self._lock = threading.Lock()
        self._at_work: Runner | None = None
        self._drowsy = True
        self._hears, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._attendant = threading.Thread(target=self._attend, name="zpipe attendant", daemon=True)
        self._name = f"{host_name()}/{os.getpid()} slot {slot}"
        session, versions, host, last = os.urandom(8).hex(), our_versions(), host_name(), past or Past()

        def join(turn: int) -> wire.Join:
            known = (last.pid, last.ended, last.crashed, last.item, last.late, last.fate)
            return wire.Join(versions, session, turn, host, os.getpid(), slot, *known)

        first = patience if first_patience is None else first_patience
        member = Member(join, ("lane", "results"), url=url, now=time.monotonic(), patience=first, stay=stay)
        self._intake, self._member = Intake(member), member
        self._lane: Any = None
        self._results: Any = None
        self._watches: list[link.Watch] = []
        self._control = Dialog(
            self._loop,
            self._context,
            url,
            heartbeat=heartbeat,
            up=self._on_control_up,
            down=self._on_control_down,
            heard=self._on_message,
            say=say,
            denied=lambda why: self._perform(self._member.on_denied(why, time.monotonic())),
            keys=keys,
        )

    def run(self) -> Gone:
        """Work until there is no more to do here; return how it ended."""
        with self._lock:
            self._control.connect()
            self._attendant.start()
            while self.gone is None:
                due = self._member.deadline()
                self._loop.turn(None if due is None else max(0.0, due - time.monotonic()))
                now = self._turned = time.monotonic()
                if self.terminated and self.gone is None:
                    self._perform(self._intake.on_terminate(now, self._cut, replaced=self.spent))
                due = self._member.deadline()
                if due is not None and due <= now:
                    self._perform(self._intake.after(self._member.on_tick(now)))
                    self._control.retry()
        return self.gone

    def terminate(self) -> None:
        """Ask the worker to leave after the item it is at. Safe from a signal handler."""
        self.terminated = True
        self._loop.wake()
        self._ring()

    # the attendant

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._bell, b"\0")

    def _attend(self) -> None:
        """Be there while a chunk runs."""
        poll = select.poll()
        poll.register(self._hears, select.POLLIN)
        poll.register(self._control.fileno(), select.POLLIN)
        while True:
            for fd, _ in poll.poll(None if self._drowsy else LOOK * 1000):
                if fd == self._hears:
                    os.read(self._hears, 4096)
            with self._lock:
                if self.gone is not None:
                    return
                if self._at_work is not None:
                    self._look_after()
                self._drowsy = not self._kept

    def _look_after(self) -> None:
        if self.terminated:
            self._perform(self._intake.on_terminate(time.monotonic(), self._cut, replaced=self.spent))
        self._control.read()
        if self._kept and time.monotonic() >= self._kept_since + LOOK:
            self._flush()

    # control and links

    @property
    def reached(self) -> bool:
        """Whether there was a ventilator at all."""
        return self._member.turn > 0

    def _on_control_up(self) -> None:
        self._member.patience = self._patience
        self._perform(self._member.on_control_up(time.monotonic()))

    def _on_control_down(self) -> None:
        self._perform(self._intake.after(self._member.on_control_down(time.monotonic())))

    def _on_message(self, message: Any) -> None:
        if isinstance(message, wire.Recall):
            while self._receive():
                pass
            self._perform(self._intake.on_recall(message, self._cut))
            return
        if isinstance(message, wire.Bye):
            self._cut()  # nobody wants what runs any more
        self._perform(self._intake.on_message(message, time.monotonic()))

    def _cut(self) -> int:
        return self._at_work.cut() if self._at_work is not None else 0

    def _on_link_event(self, turn: int, name: str, event: int) -> None:
        if turn != self._member.turn or (name == "results" and event == link.CLOSED):
            return  # a results connection that is refused is tried again: the sink may be on its way
        now = time.monotonic()
        if event == link.UP:
            self._perform(self._member.on_link_up(name, now))
            for job, frames in self._intake.late():
                self._send(frames, job)
        else:
            why = ""
            if event == link.FAILED:
                fault = self._watches[name == "results"].fault
                why = explain(fault, keyed=self._keys is not None)
            self._perform(self._intake.after(self._member.on_link_down(name, now, why)))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._control.send(action.message)
            elif isinstance(action, Open):
                self._open(action.welcome)
            elif isinstance(action, Close):
                self._close_links()
            elif isinstance(action, Say):
                self._say(action.text)
            elif isinstance(action, Gone):
                self.gone = action

    def _open(self, welcome: wire.Welcome) -> None:
        self._lane = link.make_socket(self._context, zmq.PULL, heartbeat=self._heartbeat, reconnect=False)
        self._results = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat)
        turn = welcome.turn
        for name, made, endpoint in (
            ("lane", self._lane, welcome.endpoint),
            ("results", self._results, welcome.sink),
        ):
            self._watches.append(link.Watch(self._loop, made, partial(self._on_link_event, turn, name)))
            sink = welcome.key if name == "results" else ""
            approach(made, endpoint, self._keys, self._control.key, sink)
            made.connect(endpoint)
        self._loop.add(self._lane, self._on_lane)

    def _close_links(self) -> None:
        self._flush()
        if self._results is not None:
            self._results.set(zmq.LINGER, LINGER)  # the sink may be there, and the ventilator alone be gone
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self._lane = self._results = None

    # chunks

    def _on_lane(self) -> bool:
        while not self.terminated:
            if self.spent and self._intake.waiting:  # else there may be no more to do
                self.terminate()
                break
            entry = self._intake.start()
            if entry is None:
                self._flush()
                if not self._receive():
                    return False
                continue
            self._run(*entry)
            if time.monotonic() >= self._turned + TURN:
                self._control.look()
                return True
        self._flush()
        return False

    def _receive(self) -> bool:
        """Take what comes next on the lane, without running it; return whether there was anything."""
        frames = link.receive(self._lane) if self._lane is not None else None
        if frames is None:
            return False
        try:
            message, payload = coding.decode(frames)
            if isinstance(message, wire.Chunk):
                self._intake.on_chunks([(message, payload)])
            elif isinstance(message, wire.Chunks):
                self._intake.on_chunks([(chunk, (chunk.body,)) for chunk in message.chunks])
            elif isinstance(message, wire.Task):
                self._learn(message)
            elif isinstance(message, wire.Forget):
                self._tasks.pop(message.number, None)
                self._runners.pop(message.number, None)
            else:
                raise WireError(f"a {type(message).__name__} where a task or a chunk should be")
        except WireError as error:
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: WireError) -> None:
        # Nobody would miss its chunk: with the lane, all that is on it goes to another worker.
        self._say(f"gave up a lane with a message that can't be read: {error}")
        self._perform(self._intake.after(self._member.on_unreadable(str(error), time.monotonic())))

    def _learn(self, task: wire.Task) -> None:
        if task.spec.setup:
            if task != self._setup:
                self._setup, self._state = task, None
        elif self._tasks.get(task.number) != task:
            self._tasks[task.number] = task
            self._runners.pop(task.number, None)
        if self._at_work is None:
            self._load(task.number)  # at once: the first chunk need not wait for it

    def _load(self, number: int) -> Runner | None:
        """Return what runs a task, loading it unless it is; None if that can't be."""
        if number in self._runners:
            return self._runners[number]
        try:
            if self._setup is not None and self._state is None:
                self._state = set_up(self._setup.spec, self._allowed)
            task = self._tasks.get(number)
            if task is None:
                return None
            known = self._state, self._stopwatch, self._allowed
            kind = StageRunner if task.spec.stage else Runner
            runner = self._runners[number] = kind(task.spec, self._name, task.job, *known)
            self._ready()
        except TaskError as error:
            self._perform(self._intake.on_unfit(str(error), time.monotonic()))
            return None
        return runner

    def _run(self, chunk: wire.Chunk, payload: Any) -> None:
        welcome = self._member.welcome
        assert welcome is not None
        try:
            runner = self._runners.get(chunk.task)
            if runner is None:
                if chunk.task not in self._tasks:
                    raise WireError("a chunk before its task")
                runner = self._load(chunk.task)
                if runner is None:
                    return
            began = time.monotonic()
            self._at_work = runner
            self._lock.release()
            try:
                outcomes = runner.run(chunk, payload)
            finally:
                self._lock.acquire()
                self._at_work = None
        except WireError as error:
            self._give_up(error)
            return
        now = time.monotonic()
        self._member.stir(now)
        stands = self._member.welcome is welcome
        count = outcomes[-1].stop - chunk.start
        each = (now - began) / count
        if runner.max_tasks:
            self._ran += count
            self.spent = self._ran >= runner.max_tasks
        for outcome in outcomes:
            body = coding.inline(outcome.frames)
            result = wire.Result(
                welcome.job,
                welcome.lane,
                outcome.start,
                outcome.stop,
                chunk.attempt,
                each * (outcome.stop - outcome.start),
                outcome.failures,
                outcome.hit,
                outcome.again,
                body,
                outcome.log,
                outcome.kept,
            )
            if not stands:
                # The lane was cut meanwhile and the chunk is another's; but if this comes first, it counts.
                self._put_by(result.job, coding.encode(result, () if body is not None else outcome.frames))
            elif body is None:
                self._flush()
                self._send(coding.encode(result, outcome.frames), result.job)
            elif not (self._kept or self._intake.waiting):
                self._send(coding.encode(result), result.job)  # the only one, and likely waited for: no detour
            else:
                self._keep(result, len(body), now, quick=now - began < QUICK)

    def _keep(self, result: wire.Result, size: int, now: float, *, quick: bool) -> None:
        """Have a small result sent: at once if no other is likely to follow soon, else with those that do."""
        if not self._kept:
            self._kept_since = now
        self._kept.append(result)
        self._kept_bytes += size
        full = len(self._kept) >= KEPT or self._kept_bytes >= KEPT_BYTES or now >= self._kept_since + LOOK
        if full or not quick or not self._intake.waiting or self.terminated:
            self._flush()
        elif self._drowsy:
            self._drowsy = False
            self._ring()

    def _flush(self) -> None:
        """Send the results that were kept."""
        if self._kept:
            kept, self._kept, self._kept_bytes = self._kept, [], 0
            self._send(coding.encode(kept[0] if len(kept) == 1 else wire.Results(kept)), kept[0].job)

    def _send(self, frames: list[wire.Buffer], job: str) -> None:
        # Refused only when the sink's connection is gone, which its monitor is about to tell.
        if self._results is None or not link.send(self._results, frames):
            self._put_by(job, frames)

    def _put_by(self, job: str, frames: list[wire.Buffer]) -> None:
        """Keep a message to the sink until there is one."""
        self._intake.keep(job, frames, sum(memoryview(frame).nbytes for frame in frames))

    def close(self) -> None:
        """Let the last control message out and close every socket."""
        self._ring()
        self._attendant.join()
        os.close(self._hears)
        os.close(self._bell)
        self._close_links()
        self._control.close(linger=500)
        self._context.term()
        self._loop.close()
