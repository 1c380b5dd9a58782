"""The ventilator's decisions about nodes: who may join, when work may start, who is gone, when the job is over.

Chunks are the ledger's business; this tells it which lanes there are. An identity is one control connection; a
session is one process; a lane is one membership of it. A process that joins again has lost its old lane.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from zpipe.core import wire
from zpipe.core.ledger import Ledger

__all__ = ["Action", "Admit", "Director", "End", "Fill", "Lost", "Phase", "Policy", "Reply", "Retire", "Tell"]


LINK = 10.0
"""Seconds an admitted node has to connect to its lane; one that died in between leaves no other trace."""


class Phase(Enum):
    """Where the job is: gathering its nodes, running, waiting for the sink to finish, over."""

    GATHERING = "gathering"
    RUNNING = "running"
    CLOSING = "closing"
    OVER = "over"


class Policy(msgspec.Struct, frozen=True):
    """What is asked of nodes. `expect` workers must be ready before work starts; `mixed` lets versions differ."""

    versions: wire.Versions
    expect: int = 1
    mixed: bool = False


class Reply(msgspec.Struct, frozen=True):
    """Send this to a control connection."""

    identity: bytes
    message: wire.Control


class Admit(msgspec.Struct, frozen=True):
    """Bind a lane and welcome the node with it: `Director.welcome` makes the message."""

    identity: bytes
    lane: int


class Retire(msgspec.Struct, frozen=True):
    """Close a lane; what is queued in it is void."""

    lane: int


class Fill(msgspec.Struct, frozen=True):
    """A worker's lane may have credit: send the task down it if it has not had it, then chunks."""

    lane: int


class Lost(msgspec.Struct, frozen=True):
    """A worker is gone without leave; `requeued` of its chunks go to others. `how` it ended, as far as known."""

    name: str
    how: str
    requeued: int


class Tell(msgspec.Struct, frozen=True):
    """Tell the person."""

    text: str
    error: bool = False


class End(msgspec.Struct, frozen=True):
    """The job is over: `error` is why it failed (empty: it did not); `status` is that error's exit status."""

    error: str = ""
    status: int = 1


Action = Reply | Admit | Retire | Fill | Lost | Tell | End


class _Node(msgspec.Struct, eq=False):
    """A joined process. `sink` tells its role; `ready` that its links stand."""

    identity: bytes
    join: wire.Join | wire.SinkJoin
    lane: int
    since: float = 0.0
    ready: bool = False
    leaving: bool = False

    @property
    def sink(self) -> bool:
        return isinstance(self.join, wire.SinkJoin)

    @property
    def name(self) -> str:
        join = self.join
        if isinstance(join, wire.SinkJoin):
            return f"sink {join.host}/{join.pid}"
        return f"worker {join.host}/{join.pid} slot {join.slot}"


class _Counts(msgspec.Struct):
    """How many workers did what."""

    joined: int = 0
    lost: int = 0
    unfit: int = 0


class Director:
    """Decides about nodes for one job. `local_sink` is the endpoint for results of a sink in this very process."""

    def __init__(
        self, job: str, policy: Policy, ledger: Ledger, local_sink: tuple[str, wire.Encoding] | None = None
    ) -> None:
        self.job, self.policy, self.ledger, self.local_sink = job, policy, ledger, local_sink
        self.phase = Phase.GATHERING
        self.counts = _Counts()
        self.finished: wire.Finished | None = None
        self._nodes: dict[int, _Node] = {}
        self._unlinked: dict[int, _Node] = {}
        self._waiting: dict[bytes, wire.Join] = {}
        self._turns: dict[str, int] = {}
        self._gone: dict[tuple[str, int], tuple[int, str]] = {}
        self._sink: _Node | None = None
        self._sink_session = ""
        self._lanes = 0
        self._fit = False
        self._drain: tuple[str, int] | None = None

    # what the shell asks

    @property
    def encoding(self) -> wire.Encoding | None:
        """How the sink wants results, once there is one."""
        if self.local_sink is not None:
            return self.local_sink[1]
        return self._sink.join.encoding if self._sink and isinstance(self._sink.join, wire.SinkJoin) else None

    @property
    def may_issue(self) -> bool:
        """Whether chunks may go out."""
        return self.phase is Phase.RUNNING

    @property
    def workers(self) -> int:
        """Workers that are ready now."""
        return len(self.ledger.lanes)

    def welcome(self, lane: int, endpoint: str) -> wire.Welcome:
        """The message that goes with an Admit, now that the lane is bound at `endpoint`."""
        node = self._nodes[lane]
        sink = "" if node.sink else self._sink_endpoint()
        return wire.Welcome(self.job, node.join.turn, lane, endpoint, sink)

    def name(self, lane: int) -> str:
        """What to call the node of a lane."""
        node = self._nodes.get(lane)
        return node.name if node else f"lane {lane}"

    def _sink_endpoint(self) -> str:
        if self.local_sink is not None:
            return self.local_sink[0]
        assert self._sink is not None
        assert isinstance(self._sink.join, wire.SinkJoin)
        return self._sink.join.endpoint

    @property
    def _sink_stands(self) -> bool:
        return self.local_sink is not None or (self._sink is not None and self._sink.ready)

    # messages

    def on_message(self, identity: bytes, message: Any, now: float) -> list[Action]:
        """A control message came."""
        if self.phase is Phase.OVER:
            return [Reply(identity, wire.Bye())]
        if isinstance(message, wire.Join | wire.SinkJoin):
            return self._on_join(identity, message, now)
        if isinstance(message, wire.Receipts):
            return self.on_receipts(message) if self._is_sink(identity) and message.job == self.job else []
        if isinstance(message, wire.Finished):
            return self.on_finished(message) if self._is_sink(identity) and message.job == self.job else []
        if not isinstance(message, wire.Ready | wire.Leave | wire.Unfit):
            return []
        node = self._nodes.get(message.lane)
        if node is None or node.identity != identity:
            return []
        if isinstance(message, wire.Ready):
            return self._on_ready(node, now)
        if isinstance(message, wire.Leave):
            return self._on_leave(node, message.taken)
        return self._on_unfit(node, message.reason)

    def on_malformed(self, identity: bytes, error: str) -> list[Action]:
        """A control connection sent what is no zpipe message of this protocol."""
        ours = self.policy.versions
        reason = f"this ventilator speaks zpipe {ours.zpipe}, protocol {ours.protocol}, and could not read: {error}"
        return [
            Reply(identity, wire.Refuse(reason)),
            Tell(f"dropped a malformed message on the control port: {error}"),
        ]

    def _is_sink(self, identity: bytes) -> bool:
        return self._sink is not None and self._sink.identity == identity

    # joining

    def _on_join(self, identity: bytes, join: wire.Join | wire.SinkJoin, now: float) -> list[Action]:
        reason = self._unwelcome(join)
        who = _Node(identity, join, 0).name
        if reason:
            return [Reply(identity, wire.Refuse(reason)), Tell(f"refused {who}: {reason}", error=True)]
        if join.turn < self._turns.get(join.session, 0):
            return []
        node = next((n for n in self._nodes.values() if n.join.session == join.session), None)
        if node is not None and node.join.turn == join.turn and node.identity == identity:
            return []
        self._turns[join.session] = join.turn
        self._waiting = {i: j for i, j in self._waiting.items() if j.session != join.session}
        actions: list[Action] = self._drop(node, "it joined afresh") if node is not None else []
        if isinstance(join, wire.SinkJoin):
            return actions + self._admit_sink(identity, join, now)
        actions += self._verdict(join)
        if not self._sink_stands:
            self._waiting[identity] = join
            return [*actions, Reply(identity, wire.Hold(self._no_sink()))]
        return actions + self._admit(identity, join, now)

    def _unwelcome(self, join: wire.Join | wire.SinkJoin) -> str:
        ours, theirs = self.policy.versions, join.versions
        if theirs.protocol != ours.protocol:
            return (
                f"it speaks protocol {theirs.protocol} (zpipe {theirs.zpipe}), this ventilator protocol "
                f"{ours.protocol} (zpipe {ours.zpipe}); install the same zpipe on both"
            )
        for what, a, b in (
            ("Python", theirs.python, ours.python),
            ("cloudpickle", theirs.cloudpickle, ours.cloudpickle),
        ):
            if a != b and not self.policy.mixed:
                return (
                    f"it runs {what} {a}, this ventilator {what} {b}, and pickles may not carry over; use the same "
                    f"version, or start the ventilator with --mixed-versions"
                )
        return ""

    def _admit(self, identity: bytes, join: wire.Join | wire.SinkJoin, now: float) -> list[Action]:
        self._lanes += 1
        self._nodes[self._lanes] = self._unlinked[self._lanes] = _Node(identity, join, self._lanes, now)
        return [Admit(identity, self._lanes)]

    def _admit_sink(self, identity: bytes, join: wire.SinkJoin, now: float) -> list[Action]:
        if self._sink is not None and join.session != self._sink_session:
            # Not refused: it may be the successor of one whose death has not been noticed yet. It asks again.
            return [Reply(identity, wire.Hold(f"there is a sink already, {self._sink.name}; a job has one"))]
        reason = self._sink_unwelcome(join)
        if reason:
            who = f"sink {join.host}/{join.pid}"
            return [Reply(identity, wire.Refuse(reason)), Tell(f"refused {who}: {reason}", error=True)]
        if join.session != self._sink_session and self.ledger.done:
            lost = f"the sink was started anew, and the {self.ledger.done:,} results its first process had are gone"
            return [Reply(identity, wire.Refuse(f"{lost}; start the job anew")), *self.on_failed(lost)]
        actions: list[Action] = []
        if join.session != self._sink_session:
            # What workers have sent may have reached it before it knew the job, and been dropped: all of it again.
            for node in [n for n in self._nodes.values() if not n.sink]:
                actions += self._drop(node, "the sink was started anew")
        self._sink_session = join.session
        actions += self._admit(identity, join, now)
        self._sink = self._nodes[self._lanes]
        for start, stop in join.done:
            self.ledger.on_done(start, stop)
        return [*actions, *self._refill(), *self._closing()]

    def _sink_unwelcome(self, join: wire.SinkJoin) -> str:
        if self.local_sink is not None:
            return "this ventilator has its own sink; `zpipe ventilator` is the one that waits for another"
        if join.job and join.job != self.job:
            return "it holds results of another job; start a fresh sink for this one"
        return ""

    def _no_sink(self) -> str:
        if self._sink_session:
            return "the sink is gone; work goes on when it is back"
        return "no sink has joined yet; start one with: zpipe sink URL --output FILE"

    def _verdict(self, join: wire.Join) -> list[Action]:
        """A slot's new process tells how its last one ended: known now is whose fault the loss was."""
        lane, name = self._gone.pop((join.host, join.previous), (0, ""))
        if not lane:
            return []
        self.ledger.on_verdict(lane, crashed=join.crashed)
        return [Tell(f"{name} had ended: {join.ended}")] if join.ended else []

    def _on_ready(self, node: _Node, now: float) -> list[Action]:
        if node.ready:
            return []
        node.ready = True
        self._unlinked.pop(node.lane, None)
        if node.sink:
            actions: list[Action] = self._total()
            waiting, self._waiting = self._waiting, {}
            for identity, join in waiting.items():
                actions += self._admit(identity, join, now)
            return actions
        self.counts.joined += 1
        self.ledger.on_ready(node.lane)
        if self.phase is Phase.GATHERING and self.workers >= self.policy.expect:
            self.phase = Phase.RUNNING
            return [Fill(lane) for lane in self.ledger.lanes]
        return [Fill(node.lane)]

    # going

    def on_linked(self, lane: int) -> None:
        """The transport says that a node has connected to this lane: from now on its loss will be noticed."""
        self._unlinked.pop(lane, None)

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        return min((node.since + LINK for node in self._unlinked.values()), default=None)

    def on_tick(self, now: float) -> list[Action]:
        """Time passed: give up on nodes that were admitted and never connected."""
        late = [node for node in self._unlinked.values() if now >= node.since + LINK]
        return [action for node in late for action in self._drop(node, "it never connected to its lane")]

    def on_link_lost(self, lane: int, how: str = "its connection was cut") -> list[Action]:
        """The transport says that the node at the other end of a lane is gone."""
        node = self._nodes.get(lane)
        return self._drop(node, how) if node is not None else []

    def _drop(self, node: _Node, how: str) -> list[Action]:
        del self._nodes[node.lane]
        self._unlinked.pop(node.lane, None)
        if node.sink:
            self._sink = None
            return [
                Retire(node.lane),
                Tell(f"{node.name} is gone ({how}); waiting for it to come back", error=True),
            ]
        requeued = self.ledger.on_lost(node.lane)
        actions: list[Action] = [Retire(node.lane), *(self._refill() if requeued else [])]
        if node.leaving or not node.ready:
            return [*actions, *self._closing()]
        self.counts.lost += 1
        assert isinstance(node.join, wire.Join)
        self._gone[node.join.host, node.join.pid] = (node.lane, node.name)
        if len(self._gone) > 10_000:
            del self._gone[next(iter(self._gone))]
        return [*actions, Lost(node.name, how, requeued), *self._closing()]

    def _refill(self) -> list[Action]:
        """Chunks wait to be sent again: whoever has credit may have them."""
        return [Fill(number) for number, lane in self.ledger.lanes.items() if lane.credit > 0]

    def _on_leave(self, node: _Node, taken: int) -> list[Action]:
        if node.sink:
            return self._drop(node, "it left")
        node.leaving = True
        back = self.ledger.on_leave(node.lane, taken)
        told: list[Action] = (
            [Tell(f"{node.name} leaves; {back} chunks it had not started go to others")] if back else []
        )
        return told + self._release(node)

    def _release(self, node: _Node) -> list[Action]:
        """Let a leaving worker go once everything it has run is receipted."""
        lane = self.ledger.lanes.get(node.lane)
        if lane is not None and lane.held:
            return []
        return [Reply(node.identity, wire.Bye()), *self._drop(node, "it left")]

    def _on_unfit(self, node: _Node, reason: str) -> list[Action]:
        node.leaving = True
        self.counts.unfit += 1
        actions = [Reply(node.identity, wire.Refuse(reason)), *self._drop(node, "it can't load the task")]
        if not self._fit and not self.ledger.lanes:
            return [*actions, *self.on_failed(reason, status=2)]
        return [*actions, Tell(f"{node.name} can't load the task and is left out: {reason}", error=True)]

    # receipts and the end

    def on_receipts(self, message: wire.Receipts) -> list[Action]:
        """The sink has these. Lanes with new credit are the ledger's to tell; leaving workers may go now."""
        was_full, self.ledger.full = self.ledger.full, message.full
        if message.limit is not None:
            self.ledger.on_limit(message.limit)
        actions: list[Action] = []
        free: dict[int, None] = {}
        for receipt in message.receipts:
            lane = self.ledger.on_receipt(receipt)
            if lane is not None:
                free[lane.number] = None
                if lane.leaving and not lane.held:
                    actions += self._release(self._nodes[lane.number])
        if was_full and not message.full:
            actions += self._refill()
        else:
            actions += [Fill(number) for number in free]
        self._fit = self._fit or bool(message.receipts)
        return actions + self._closing()

    def on_exhausted(self) -> list[Action]:
        """The source has ended: the total is known."""
        self.ledger.on_exhausted()
        return self._total() + self._closing()

    def _total(self) -> list[Action]:
        if not self.ledger.exhausted or self._sink is None:
            return []
        return [Reply(self._sink.identity, wire.Total(self.job, self.ledger.next))]

    def on_drain(self, error: str, status: int) -> list[Action]:
        """End the job once what is in flight is done, with this error; nothing new is issued."""
        if self.phase is Phase.OVER or self._drain is not None:
            return []
        self._drain = (error, status)
        self.ledger.closed = True
        return self._closing()

    def _closing(self) -> list[Action]:
        if self._drain is not None and (not self.ledger.in_flight or not self.ledger.lanes):
            return self.on_failed(*self._drain)
        if self.ledger.finished and self.phase in (Phase.GATHERING, Phase.RUNNING):
            self.phase = Phase.CLOSING
        return []

    def on_finished(self, message: wire.Finished) -> list[Action]:
        """The sink has written everything, or can't."""
        self.finished = message
        if message.error:
            return self.on_failed(message.error)
        return self._over("")

    def on_failed(self, error: str, status: int = 1) -> list[Action]:
        """The job can't go on: end it here, with what is done kept."""
        if self.phase is Phase.OVER:
            return []
        stop: list[Action] = []
        if self._sink is not None and self.finished is None:
            stop = [Reply(self._sink.identity, wire.Stop(self.job, error))]
        return [*stop, *self._over(error, status)]

    def _over(self, error: str, status: int = 1) -> list[Action]:
        self.phase = Phase.OVER
        bye = wire.Bye(error)
        actions: list[Action] = [Reply(node.identity, bye) for node in self._nodes.values()]
        actions += [Reply(identity, bye) for identity in self._waiting]
        self._waiting.clear()
        return [*actions, End(error, status if error else 0)]

    # a person's question

    def waiting(self, url: str) -> str:
        """What the job waits for, as a sentence; empty when it does not wait for a node."""
        if self.phase is Phase.OVER:
            return ""
        if not self._sink_stands:
            return self._no_sink().replace("URL", url)
        if self.phase is Phase.CLOSING:
            return "all results are in; waiting for the sink to finish its output"
        linking = sum(not node.ready and not node.sink for node in self._nodes.values())
        if linking and not self.workers:
            return f"{linking} workers have joined but can't reach the sink at {self._sink_endpoint()} yet"
        if not self.workers:
            have = "no worker has joined yet" if not self.counts.joined else "all workers are gone"
            return f"{have}; start one with: zpipe worker {url}"
        if self.phase is Phase.GATHERING:
            here = f"{self.workers} of the {self.policy.expect} expected workers are here"
            return f"{here}; start more with: zpipe worker {url}"
        return ""

    def check(self) -> None:
        """Assert that nodes, lanes and ledger agree."""
        self.ledger.check()
        ready = {node.lane for node in self._nodes.values() if node.ready and not node.sink}
        assert ready == set(self.ledger.lanes), (ready, set(self.ledger.lanes))
        sessions = [node.join.session for node in self._nodes.values()]
        assert len(sessions) == len(set(sessions)), "a session has two lanes"
        assert all(number <= self._lanes for number in self._nodes)
        if self._sink is not None:
            assert self._nodes[self._sink.lane] is self._sink
