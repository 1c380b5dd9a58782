"""The worker's shell: takes a chunk from its lane, runs it, sends the result. One thread does it all.

A second one, the `Attendant`, is at work only while a chunk runs: it hears control messages, so that what waits behind
a straggler can be handed back, and sends results that were kept to travel with others. Whoever touches sockets or
decisions holds the one lock; the first thread lets go of it while the user's code runs, and only then.

ZeroMQ's own thread answers heartbeats, so a task that never lets go of the interpreter is not taken for dead. Monitors
are looked at between chunks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zmq

from zpipe.core import coding, wire
from zpipe.core.handshake import explain
from zpipe.core.intake import Intake
from zpipe.core.member import Action, Close, Gone, Member, Open, Say, Send
from zpipe.errors import TaskError, WireError
from zpipe.net import link
from zpipe.net.keys import Keys
from zpipe.net.lookout import Lookout
from zpipe.net.loop import Loop
from zpipe.net.security import approach
from zpipe.net.versions import host_name, our_versions
from zpipe.nodes.attendant import Attendant
from zpipe.nodes.dialog import Dialog
from zpipe.nodes.outbox import LOOK, Outbox
from zpipe.nodes.past import Past
from zpipe.running.allowed import Allowed
from zpipe.running.awaitables import Awaiting
from zpipe.running.crowd import Crowd, Run
from zpipe.running.repertoire import Repertoire
from zpipe.running.rowing import Row
from zpipe.running.runner import Runner
from zpipe.running.stopwatch import Stopwatch

__all__ = ["Worker"]

TURN = 0.05
"""Seconds of running chunks after which monitors are looked at; control messages are the attendant's to hear."""

QUICK = 0.0005
"""Seconds a chunk takes from which its result is sent at once: the lane is to be filled again in time."""

LINGER = 1000
"""Milliseconds in which results that were sent may still go out when the links are closed."""


class Worker:
    """One slot's process. `gone` says how it ended once it did; `say(text)` tells the person.

    `ready` is called when a task has been loaded; `stopwatch` is where the supervisor sees what runs.
    `allowed` is what it may run, if not everything. It looks for a ventilator for `patience` seconds (None: for ever),
    or the first time for `first_patience`, if given. `concurrency`: items of coroutine functions that it runs at
    a time, if the job is not to say so. `labels` tell it from others.
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
        concurrency: int = 0,
        labels: Sequence[str] = (),
    ) -> None:
        self._patience = patience
        self._url, self._say, self._ready, self._heartbeat, self._keys = url, say, ready, heartbeat, keys
        self.gone: Gone | None = None
        self._context = link.make_context()
        self.terminated = False
        self.spent = False
        """Whether it leaves to be replaced by a fresh process."""
        self._ran = 0
        self._told: set[tuple[int, int]] = set()
        self._turned, self._ahead = 0.0, False
        self._lock = threading.Lock()
        self._at_work: Runner | None = None
        self._row: Row | None = None
        self._attendant = Attendant(self._lock, self._attend, LOOK)
        self._loop, self._lookout = Loop(), Lookout()
        self._single = False
        """Whether the last message was a single item, whose outcome somebody may wait for who then sends another."""
        name = f"{host_name()}/{os.getpid()} slot {slot}"
        self._repertoire = Repertoire(name, self._loop.wake, stopwatch, allowed, concurrency)
        session, versions, host, last = os.urandom(8).hex(), our_versions(), host_name(), past or Past()

        def join(turn: int) -> wire.Join:
            known = (last.pid, last.ended, last.crashed, last.item, last.late, last.fate)
            return wire.Join(versions, session, turn, host, os.getpid(), slot, *known, labels=list(labels))

        first = patience if first_patience is None else first_patience
        member = Member(join, ("lane", "results"), url=url, now=time.monotonic(), patience=first, stay=stay)
        self._intake, self._member = Intake(member), member
        self._outbox = Outbox(self._intake, self._attendant.rouse)
        self._lane: Any = None
        self._crowd: Crowd | None = None
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
            self._attendant.start(self._control.fileno())
            while self.gone is None:
                due = self._member.deadline()
                if self._crowd is not None:
                    due = min((date for date in (due, self._crowd.deadline()) if date is not None), default=None)
                wait, most = self._loop.wait, None if due is None else max(0.0, due - time.monotonic())
                self._loop.call(self._lookout.wait(wait, most) if self._single else wait(most))
                now = self._turned = time.monotonic()
                if self._crowd is not None:
                    self._gather(self._crowd, now)
                if self.terminated and self.gone is None:
                    self._perform(self._intake.on_terminate(now, self._cut, replaced=self.spent))
                if (due := self._member.deadline()) is not None and due <= now:
                    self._perform(self._intake.after(self._member.on_tick(now)))
                    self._control.retry()
        return self.gone

    def terminate(self) -> None:
        """Ask the worker to leave after the item it is at. Safe from a signal handler."""
        self.terminated = True
        self._loop.wake()
        self._attendant.ring()

    # while a chunk runs

    def _attend(self) -> bool:
        """See to what has come; return whether there are results that wait to be sent."""
        if self.gone is not None:
            return False
        if self._at_work is not None:
            self._look_after()
        return bool(self._outbox.kept) or self._row is not None

    def _look_after(self) -> None:
        if self.terminated:
            self._perform(self._intake.on_terminate(time.monotonic(), self._cut, replaced=self.spent))
        self._control.read()
        self._outbox.look(self._row, time.monotonic())

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
            self._perform(self._intake.on_recall(message, self._cut, self._rest))
            return
        if isinstance(message, wire.Bye):
            self._cut()  # nobody wants what runs any more
            if self._crowd is not None:
                self._crowd.drop()
        self._perform(self._intake.on_message(message, time.monotonic()))

    def _rest(self) -> int:
        return self._row.cut() if self._row is not None else 0

    def _cut(self) -> int:
        rest = self._rest()
        if self._at_work is not None:
            return self._at_work.cut() or rest
        return self._crowd.cut() if self._crowd is not None else 0

    def _on_link_event(self, turn: int, name: str, event: int) -> None:
        if turn != self._member.turn or (name == "results" and event == link.CLOSED):
            return  # a results connection that is refused is tried again: the sink may be on its way
        now = time.monotonic()
        if event == link.UP:
            link.attach(self._outbox.socket)
            self._perform(self._member.on_link_up(name, now))
            for job, frames in self._intake.late():
                self._outbox.send(frames, job)
        else:
            why = ""
            if event == link.FAILED:
                why = explain(self._watches[name == "results"].fault, keyed=self._keys is not None)
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
        results = self._outbox.socket = link.make_socket(self._context, zmq.PUSH, heartbeat=self._heartbeat)
        turn = welcome.turn
        for name, made, endpoint, sink, ticket in (
            ("lane", self._lane, welcome.endpoint, "", welcome.ticket),
            ("results", results, welcome.sink, welcome.key, ""),
        ):
            self._watches.append(link.Watch(self._loop, made, partial(self._on_link_event, turn, name)))
            approach(made, endpoint, self._keys, self._control.key, sink, ticket)
            made.connect(endpoint)
        self._loop.add(self._lane, self._on_lane)

    def _close_links(self) -> None:
        self._outbox.flush()
        self._rest()
        if self._crowd is not None:
            self._crowd.leave()  # it is another's now; what has been begun is worth its end
        if self._outbox.socket is not None:
            self._outbox.socket.set(zmq.LINGER, LINGER)  # the sink may be there, and the ventilator alone be gone
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self._lane = self._outbox.socket = None

    # chunks

    def _on_lane(self) -> bool:
        expected = self._crowd is None  # else it is looked at whenever an item has ended
        while not self.terminated:
            if self._crowd is not None and self._crowd.full:
                break
            if self.spent and self._intake.waiting:  # else there may be no more to do
                self.terminate()
                break
            if (entry := self._intake.start()) is None:
                self._outbox.flush()
                if not self._receive(expected=expected):
                    self._ahead = False
                    return False
                expected = False
                continue
            self._run(*entry)
            expected, self._ahead = self._ahead, True  # the next one is there if it was the last time
            if time.monotonic() >= self._turned + TURN:
                self._control.look()
                return True
        self._outbox.flush()
        return False

    def _receive(self, *, expected: bool = False) -> bool:
        """Take what comes next on the lane, without running it; return whether there was anything."""
        frames = link.receive(self._lane, expected=expected) if self._lane is not None else None
        if frames is None:
            return False
        try:
            message, payload = coding.decode(frames)
            self._single = isinstance(message, wire.Chunk) and message.stop - message.start == 1
            if isinstance(message, wire.Chunk):
                self._intake.on_chunks([(message, payload)])
            elif isinstance(message, wire.Chunks):
                self._intake.on_chunks([(chunk, (chunk.body,)) for chunk in message.chunks])
            elif isinstance(message, wire.Task):
                self._learn(message)
            elif isinstance(message, wire.Forget):
                self._repertoire.forget(message.number)
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
        self._repertoire.learn(task)
        if self._at_work is None:
            self._load(task.number)  # at once: the first chunk need not wait for it

    def _load(self, number: int) -> Runner | None:
        """Return what runs a task, loading it unless it is; None if that can't be."""
        try:
            runner = self._repertoire.load(number)
        except TaskError as error:
            self._perform(self._intake.on_unfit(str(error), time.monotonic()))
            return None
        if runner is not None:
            self._ready()
            if runner.width:
                self._tell_width(number, runner)
        return runner

    def _tell_width(self, number: int, runner: Runner) -> None:
        welcome = self._member.welcome
        if welcome is not None and (welcome.lane, number) not in self._told:
            self._told.add((welcome.lane, number))
            busy = self._crowd is not None and self._crowd.has_others(welcome)
            self._control.send(wire.Wide(welcome.lane, number, runner.width, busy))

    def _run(self, chunk: wire.Chunk, payload: Any) -> None:
        welcome = self._member.welcome
        assert welcome is not None
        row: Row | None = None
        try:
            runner = self._repertoire.runners.get(chunk.task)
            if runner is None:
                if not self._repertoire.knows(chunk.task):
                    raise WireError("a chunk before its task")
                if (runner := self._load(chunk.task)) is None:
                    return
            if runner.width and not chunk.doom:
                self._begin(runner, chunk, payload, welcome)
                return
            if self._crowd is not None:
                self._crowd.pass_on()
            if chunk.grain:
                row = self._row = Row(chunk, welcome)
                self._attendant.rouse()  # while it runs, to bring what is done
            began = time.monotonic()
            self._at_work = runner
            self._lock.release()
            try:
                outcomes = runner.run(chunk, payload) if row is None else row.run(runner)
            finally:
                self._lock.acquire()
                self._at_work = self._row = None
                if row is not None:
                    self._outbox.bring(row, time.monotonic())
        except Awaiting as found:
            assert runner is not None
            runner.widen()
            self._begin(runner, chunk if row is None else row.rest, payload, welcome, found.values)
            return
        except WireError as error:
            self._give_up(error)
            return
        now = time.monotonic()
        count = (chunk.stop if row is not None else outcomes[-1].stop) - chunk.start
        each, quick = (now - began) / count, now - began < QUICK and not self.terminated
        for outcome in outcomes:
            self._outbox.report(chunk, outcome, each * (outcome.stop - outcome.start), welcome, now, quick=quick)
        self._member.stir(now)  # last: somebody may be waiting for just this outcome
        self._count(runner, count)

    def _count(self, runner: Runner, items: int) -> None:
        self._ran += items
        self.spent = self.spent or 0 < runner.max_tasks <= self._ran

    # items on the event loop

    def _begin(
        self, runner: Runner, chunk: wire.Chunk, payload: Any, welcome: wire.Welcome, given: Sequence[Any] = ()
    ) -> None:
        """Have a chunk's items run beside others. `given`: what the task has returned already for the first ones."""
        try:
            run = Run(runner, chunk, payload, given, welcome)
            crowd = self._crowd = self._repertoire.prepare(runner)
        except WireError as error:
            self._give_up(error)
            return
        except TaskError as error:
            self._perform(self._intake.on_unfit(str(error), time.monotonic()))
            return
        self._tell_width(chunk.task, runner)
        crowd.begin(run)
        self._count(runner, chunk.stop - chunk.start)

    def _gather(self, crowd: Crowd, now: float) -> None:
        """See to what has ended on the event loop."""
        assert self._repertoire.coroutines is not None
        why = self._repertoire.coroutines.refused
        if why and self.gone is None:
            crowd.drop()
            self._perform(self._intake.on_unfit(why, now))
            return
        if crowd.busy:
            self._member.stir(now)
        for run, outcome, seconds in crowd.gather(now):
            self._outbox.report(run.chunk, outcome, seconds, run.tag, now, quick=not self.terminated)
        if not self._intake.waiting:
            self._outbox.flush()
        if self._lane is not None and not crowd.full:
            self._loop.again(self._lane)

    def close(self) -> None:
        """Let the last control message out and close every socket."""
        self._attendant.close()
        self._repertoire.close()
        self._close_links()
        self._control.close(linger=500)
        self._context.term()
        self._loop.close()
