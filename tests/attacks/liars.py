"""Nodes that were let in and lie: control messages that are well-formed and make no sense, to a real director."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from zpipe.core import coding, wire
from zpipe.core.actions import Action, Admit, Fill
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Phase
from zpipe.core.policy import Policy
from zpipe.core.seat import Wants

__all__ = ["Lies"]

V = wire.Versions(wire.PROTOCOL, "0.1", "3.11", "3.1")
PEERS = [b"first", b"second", b"third", b"sink"]
LARGEST = (1 << 62) - 1


class Lies:
    """A director of a job, three workers and a sink, of whom each says anything. What, follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(f"lies {seed}")
        speculate = rng.random() < 0.5
        local = Wants("ipc://results", "json") if rng.random() < 0.5 else None
        ledger = Ledger(Chunker(rng.choice([1, 3, None])), speculate=speculate)
        self.director = Director("job", Policy(V, speculate=speculate), ledger, local)
        self.now = 0.0
        self.issued = 0
        self._owners: dict[int, bytes] = {}

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.director.lifecycle.phase is Phase.OVER

    def step(self) -> wire.Message:
        """Let somebody say something, and time pass; return what was said. Raises AssertionError for what is broken."""
        rng, director = self.rng, self.director
        self.now += rng.choice([0.0, 0.01, 1.0, 20.0])
        said, _ = coding.decode(coding.encode(self._said()))
        self._perform(director.on_message(self._speaker(said), said, self.now))
        if rng.random() < 0.2:
            self._perform(director.on_tick(self.now))
        if rng.random() < 0.05:
            self._perform(director.on_hungry(self.now))
        if rng.random() < 0.05 and director.ledger.lanes:
            self._perform(director.on_link_lost(rng.choice(list(director.ledger.lanes))))
        director.check()
        return said

    def _speaker(self, said: Any) -> bytes:
        """Who says it: most often the one whose lane, session or office it is."""
        rng = self.rng
        if rng.random() < 0.1:
            return rng.choice(PEERS)
        if isinstance(said, wire.Join):
            return PEERS[said.slot % 3]
        if isinstance(said, wire.SinkJoin | wire.Receipts | wire.Doubt | wire.Finished):
            return PEERS[3]
        return self._owners.get(getattr(said, "lane", 0), PEERS[0])

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Admit):
                self._owners[action.lane] = action.identity
                self.director.on_linked(action.lane)
                if self.rng.random() < 0.9:
                    self._perform(self.director.on_message(action.identity, wire.Ready(action.lane), self.now))
            elif isinstance(action, Fill):
                for lane in action.lanes:
                    self._fill(lane)

    def _fill(self, lane: int) -> None:
        ledger = self.director.ledger
        while lane in ledger.lanes and self.director.lifecycle.may_issue and ledger.lanes[lane].credit > 0:
            if ledger.again(lane, self.now) is not None:
                continue
            if ledger.skippable:
                ledger.on_skipped(ledger.skippable)
                continue
            wanted = min(ledger.wanted(None), 3)
            if not wanted:
                return
            ledger.issue(lane, wanted, "lines", [bytes(wanted)], self.now)
            self.issued += wanted

    def _said(self) -> Any:
        rng = self.rng
        lane = rng.choice([*self.director.ledger.lanes] * 3 + [1, 2, 99, 0, -5])
        making: list[Callable[[], Any]] = [
            self._join,
            self._sink,
            self._receipts,
            self._receipts,
            self._receipts,
            lambda: wire.Ready(lane),
            lambda: wire.Returned(lane, self._number() - rng.randint(0, 1), self._number(), self._number()),
            lambda: wire.Leave(lane, self._number(), self._number(), rng.random() < 0.5),
            lambda: wire.Unfit(lane, "it does not please"),
            lambda: wire.Wide(lane, self._number(), rng.choice([1, 5, 50]), rng.random() < 0.5),
            lambda: wire.Doubt("job", self._number()),
            lambda: wire.Ask(rng.choice(["pause", "unpause", "unpause", "status"])),
            lambda: wire.Finished("job", 1, 1) if rng.random() < 0.01 else wire.Ask("status"),
        ]
        return rng.choice(making)()

    def _number(self) -> int:
        return self.rng.choice([0, 0, 1, 2, 3, 5, 10, 1 << 20, LARGEST])

    def _join(self) -> wire.Join:
        rng = self.rng
        slot, turn = rng.randint(1, 3), rng.randint(1, 5)
        past = (rng.choice([0, 101]), rng.choice(["", "killed"]), rng.random() < 0.5, rng.choice([None, 0, 3, LARGEST]))
        return wire.Join(V, f"session {slot}", turn, "host", 100 + slot, slot, *past, late=rng.random() < 0.3)

    def _sink(self) -> wire.SinkJoin:
        rng = self.rng
        job, runs = rng.choice(["", "job", "other"]), rng.choice([[], [0, 5], [3, 4, 9, 9]])
        fingerprint = {"task": "g"} if rng.random() < 0.1 else {}
        held = wire.Held(job, fingerprint, runs, self._number(), 5 if rng.random() < 0.1 else None)
        name, turn = f"sink {rng.random() < 0.2}", rng.randint(1, 4)
        return wire.SinkJoin(V, name, turn, "host", 50, "tcp://sink:1", "json", held)

    def _receipts(self) -> wire.Receipts:
        rng = self.rng
        found = []
        for _ in range(rng.randint(0, 3)):
            start = rng.choice([rng.randint(0, 30), self._number()])
            stop = min(LARGEST, start + rng.choice([1, 1, 2, 5, 1 << 30]))
            if start < stop:
                lane = rng.choice([*self.director.ledger.lanes, 1, 99])
                seconds = rng.choice([0.0, 0.1, 1e300, float("nan"), -1.0])
                again = rng.choice([None, None, 0.0, 3.0, wire.LONGEST])
                attempt, void = rng.choice([1, 1, 2, 0, -3]), rng.random() < 0.2
                number = self._number()
                found.append(wire.Receipt(start, stop, lane, seconds, number, number, again, attempt, void))
        limit = self._number() if rng.random() < 0.01 else None
        return wire.Receipts("job", found, rng.random() < 0.1, limit, rng.choice([0.0, 0.5, wire.LONGEST]))
