"""A sink in a process of its own: a member of a ventilator elsewhere, to whom it sends its receipts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from zpipe.core import wire
from zpipe.core.horizon import Horizon
from zpipe.core.member import Action, Close, Gone, Member, Open, Say, Send, State
from zpipe.net import endpoints, link
from zpipe.net.keys import Keys
from zpipe.net.loop import Loop
from zpipe.net.security import Guard, approach
from zpipe.net.versions import host_name, our_versions
from zpipe.nodes.dialog import Dialog
from zpipe.nodes.sink import Sink
from zpipe.output.landing import Landing

__all__ = ["SinkNode"]

LAST_WORD = 10.0
"""Seconds a sink that is done looks for a ventilator it lost, to tell it so."""

PART = 4 << 20
"""Bytes of outcomes that go home to the ventilator in one message."""


class SinkNode:
    """A sink that belongs to a ventilator elsewhere. `gone` says how it ended once it did."""

    def __init__(
        self,
        loop: Loop,
        context: Any,
        landing: Landing,
        url: str,
        *,
        say: Callable[[str, bool], None],
        heartbeat: float = 10.0,
        patience: float | None = None,
        guard: Guard | None = None,
        keys: Keys | None = None,
    ) -> None:
        self._loop, self._context, self._say, self._url, self._heartbeat = loop, context, say, url, heartbeat
        self._keys = keys
        self.sink = Sink(
            loop,
            context,
            landing,
            deliver=self._send,
            say=say,
            heartbeat=heartbeat,
            guard=guard,
        )
        self.sink.collector.horizon = Horizon()
        self.sink.ask = self._ask
        self.advertised = ""
        self.gone: Gone | None = None
        self.stopped = ""
        session, versions, host = os.urandom(8).hex(), our_versions(), host_name()

        def join(turn: int) -> wire.SinkJoin:
            return wire.SinkJoin(
                versions,
                session,
                turn,
                host,
                os.getpid(),
                self.advertised,
                self.sink.encoding,
                self.sink.held(),
                self.sink.letters,
                self.sink.joblog,
                self.sink.key,
            )

        self.member = Member(join, ("lane",), url=url, now=time.monotonic(), patience=patience)
        self._lane: link.Watch | None = None
        self._control = Dialog(
            loop,
            context,
            url,
            heartbeat=heartbeat,
            up=self._on_control_up,
            down=self._on_control_down,
            heard=self._on_message,
            say=lambda text: say(text, True),
            denied=lambda why: self._perform(self.member.on_denied(why, time.monotonic())),
            keys=keys,
        )

    def start(self, bind: str, advertise: str) -> None:
        """Bind the results socket and look for the ventilator. Raises UsageError."""
        announced = self.sink.bind(bind)
        self.advertised = advertise or announced
        if not advertise and announced.startswith("tcp://*:"):
            # Away from the ventilator's host workers need this one's address on the network. On it, where the way
            # there is loopback by whatever name, they need the name they reached the ventilator by.
            own = f"tcp://{endpoints.bracket(endpoints.address_towards(self._url))}:{announced.rpartition(':')[2]}"
            if not endpoints.is_loopback(own):
                self.advertised = own
        self._control.connect()

    def waiting(self) -> str:
        """What this sink waits for, as a sentence, empty when it is at work."""
        if self.member.state is State.READY and not self.sink.collector.counted:
            return "joined; no result has come yet"
        return ""

    def _on_control_up(self) -> None:
        self._perform(self.member.on_control_up(time.monotonic()))

    def _on_control_down(self) -> None:
        self._perform(self.member.on_control_down(time.monotonic()))

    def _on_lane_event(self, turn: int, event: int) -> None:
        if turn != self.member.turn:
            return
        now = time.monotonic()
        up = event == link.UP
        self._perform(self.member.on_link_up("lane", now) if up else self.member.on_link_down("lane", now))
        if up and self.member.state is State.READY:
            # A cut may have lost the last receipts; the join told what is done, and this tells the rest.
            self.sink.settle(again=True)

    def _on_message(self, message: Any) -> None:
        collector = self.sink.collector
        if isinstance(message, wire.Welcome) and self.member.expects(message):
            self.sink.on_job(message.job, message.fingerprint)
            if collector.job != message.job:
                self._perform(self.member.on_misfit(time.monotonic()))
                return
        elif isinstance(message, wire.Issued) and message.job == collector.job:
            self.sink.on_issued(message.items, message.doubt)
        elif isinstance(message, wire.Total) and message.job == collector.job:
            self.sink.on_total(message.items)
        elif isinstance(message, wire.Copied) and message.job == collector.job:
            self.sink.on_copied(message.start, message.stop)
        elif isinstance(message, wire.Stop) and message.job == collector.job:
            self.stopped = message.reason
        self._perform(self.member.on_message(message, time.monotonic()))

    def _send(self, message: wire.Control) -> None:
        for part in message.parted(PART) if isinstance(message, wire.Receipts) else (message,):
            self._control.send(part)

    def _ask(self, doubt: int) -> None:
        if self.member.state is State.READY:  # else it is asked once it is
            self._control.send(wire.Doubt(self.sink.collector.job, doubt))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._send(action.message)
            elif isinstance(action, Open):
                made = link.make_socket(self._context, zmq.PULL, heartbeat=self._heartbeat, reconnect=False)
                turn = action.welcome.turn
                self._lane = link.Watch(self._loop, made, partial(self._on_lane_event, turn))
                welcome = action.welcome
                approach(made, welcome.endpoint, self._keys, self._control.key, ticket=welcome.ticket)
                made.connect(action.welcome.endpoint)
            elif isinstance(action, Close):
                if self._lane is not None:
                    self._lane.close()
                    self._lane = None
            elif isinstance(action, Say):
                self._say(action.text, False)
            elif isinstance(action, Gone):
                self.gone = action

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        return self.member.deadline()

    def on_tick(self, now: float) -> None:
        """Time passed."""
        if self.sink.finished is not None:
            self.member.patience = LAST_WORD
        self._perform(self.member.on_tick(now))
        self._control.retry()

    @property
    def may_drain(self) -> bool:
        """Whether a ventilator is there to send nothing more to workers, so that this sink gets what they have."""
        return self.member.state is State.READY and self.sink.finished is None

    def drain(self) -> None:
        """The person wants this sink to end: the ventilator is to end the job once what is in flight is done."""
        self._send(wire.Ask("drain"))

    def interrupt(self) -> None:
        """The person wants this sink to end now: the job can't go on without it, and its ventilator is told so."""
        c = self.sink.collector
        if self.sink.finished is None and c.job:
            self._send(wire.Finished(c.job, c.counted, c.failed, c.duplicates, c.hit, "its sink was interrupted"))

    def close(self) -> None:
        """Close every socket."""
        if self._lane is not None:
            self._lane.close()
        self.sink.close()
        self._control.close(linger=1000)
