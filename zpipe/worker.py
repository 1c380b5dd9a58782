"""The worker's shell: takes a chunk from its lane, runs it, sends the result. One thread does it all.

ZeroMQ's own thread answers heartbeats, so a task that never lets go of the interpreter is not taken for dead. Control
and monitors are looked at between chunks, at most every few milliseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import zmq

from zpipe import link
from zpipe.core import wire
from zpipe.core.intake import Intake
from zpipe.core.member import Action, Close, Gone, Member, Open, Say, Send
from zpipe.dialog import Dialog
from zpipe.errors import TaskError, WireError
from zpipe.runner import Runner
from zpipe.versions import host_name, our_versions

__all__ = ["Past", "Worker"]

LOOK = 0.005
"""Seconds of running chunks after which control and monitors are looked at."""


class Past(msgspec.Struct, frozen=True):
    """How this slot's last process ended: its pid (0: there was none), in words, and whether by its own fault."""

    pid: int = 0
    ended: str = ""
    crashed: bool = False


class Worker:
    """One slot's process. `gone` says how it ended once it did; `say(text)` tells the person."""

    def __init__(
        self,
        url: str,
        *,
        slot: int,
        say: Callable[[str], None],
        past: Past | None = None,
        heartbeat: float = 10.0,
        patience: float | None = None,
        stay: bool = False,
    ) -> None:
        self._url, self._say, self._heartbeat = url, say, heartbeat
        self.gone: Gone | None = None
        self._loop = link.Loop()
        self._context = link.make_context()
        self.terminated = False
        self._runner: Runner | None = None
        self._task: wire.Task | None = None
        self._name = f"{host_name()}/{os.getpid()} slot {slot}"
        session, versions, host, last = os.urandom(8).hex(), our_versions(), host_name(), past or Past()

        def join(turn: int) -> wire.Join:
            return wire.Join(versions, session, turn, host, os.getpid(), slot, last.pid, last.ended, last.crashed)

        member = Member(join, ("lane", "results"), url=url, now=time.monotonic(), patience=patience, stay=stay)
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
        )

    def run(self) -> Gone:
        """Work until there is no more to do here; return how it ended."""
        self._control.connect()
        while self.gone is None:
            due = self._member.deadline()
            self._loop.turn(None if due is None else max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if self.terminated and self.gone is None:
                self._perform(self._intake.on_terminate(now))
            due = self._member.deadline()
            if due is not None and due <= now:
                self._perform(self._intake.after(self._member.on_tick(now)))
                self._control.retry()
        return self.gone

    def terminate(self) -> None:
        """Ask the worker to leave after the chunk it is running. Safe from a signal handler."""
        self.terminated = True
        self._loop.wake()

    # control and links

    def _on_control_up(self) -> None:
        self._perform(self._member.on_control_up(time.monotonic()))

    def _on_control_down(self) -> None:
        self._perform(self._intake.after(self._member.on_control_down(time.monotonic())))

    def _on_message(self, message: Any) -> None:
        self._perform(self._intake.on_message(message, time.monotonic()))

    def _on_link_event(self, turn: int, name: str, event: int) -> None:
        if turn != self._member.turn or (name == "results" and event == link.CLOSED):
            return  # a results connection that is refused is tried again: the sink may be on its way
        now = time.monotonic()
        if event == link.UP:
            self._perform(self._member.on_link_up(name, now))
        else:
            self._perform(self._intake.after(self._member.on_link_down(name, now)))

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
            made.connect(endpoint)
        self._loop.add(self._lane, self._on_lane)

    def _close_links(self) -> None:
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self._lane = self._results = None

    # chunks

    def _on_lane(self) -> bool:
        look = time.monotonic() + LOOK
        while not self.terminated and self._lane is not None:
            frames = link.receive(self._lane)
            if frames is None:
                return False
            self._take(frames)
            if time.monotonic() >= look:
                self._control.look()
                return True
        return False

    def _take(self, frames: list[wire.Buffer]) -> None:
        try:
            message, payload = wire.decode(frames)
            if isinstance(message, wire.Task):
                self._load(message)
            elif not isinstance(message, wire.Chunk):
                raise WireError(f"a {type(message).__name__} where a task or a chunk should be")
            elif self._intake.on_chunk():
                self._run(message, payload)
        except WireError as error:
            # Nobody would miss its chunk: with the lane, all that is on it goes to another worker.
            self._say(f"gave up a lane with a message that can't be read: {error}")
            self._perform(self._intake.after(self._member.on_link_down("lane", time.monotonic())))

    def _load(self, task: wire.Task) -> None:
        if self._runner is not None and task == self._task:
            return
        try:
            self._runner, self._task = Runner(task.spec, self._name, task.job), task
        except TaskError as error:
            self._perform(self._intake.on_unfit(str(error), time.monotonic()))

    def _run(self, chunk: wire.Chunk, payload: Any) -> None:
        if self._runner is None:
            raise WireError("a chunk before its task")
        welcome = self._member.welcome
        assert welcome is not None
        began = time.monotonic()
        outcome = self._runner.run(chunk.start, chunk.stop, chunk.attempt, chunk.items, payload)
        seconds = time.monotonic() - began
        header = wire.Result(
            welcome.job, welcome.lane, chunk.start, outcome.stop, chunk.attempt, seconds, outcome.failures, outcome.hit
        )
        # Refused only when the sink's connection is gone, which its monitor is about to tell: the chunk is then
        # requeued, by the ventilator, and this outcome is void.
        link.send(self._results, wire.encode(header, outcome.frames))

    def close(self) -> None:
        """Let the last control message out and close every socket."""
        self._close_links()
        self._control.close(linger=500)
        self._context.term()
        self._loop.close()
