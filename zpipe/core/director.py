"""The ventilator's decisions about nodes: what they get, when work may start, who is gone.

Chunks are the ledger's business; this tells it which lanes there are. A process that joins again has lost its old lane.
"""

from __future__ import annotations

from typing import Any

import msgspec

from zpipe.core import wire
from zpipe.core.actions import Action, Admit, Fill, Inform, Lost, Reply, Report, Retire, Skip, Tell
from zpipe.core.awaited import awaited
from zpipe.core.chunk import Chunk
from zpipe.core.claim import provided
from zpipe.core.gate import Gate
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import INTERRUPTED, Lifecycle
from zpipe.core.policy import Policy
from zpipe.core.rejoin import Outcome, meet
from zpipe.core.roster import AnyJoin, Node, Roster, name_of
from zpipe.core.seat import Seat, Wants
from zpipe.core.sieve import Sieve
from zpipe.core.suspects import Verdict

__all__ = ["Director"]


class _Counts(msgspec.Struct):
    """How many workers did what."""

    joined: int = 0
    lost: int = 0


class Director:
    """Decides about nodes for one job. `local` is how a sink of this very process wants results, if there is one.

    `job` is what the job is called unless a sink has a part of it already, as its `fingerprint` tells. `base` is what
    lanes are numbered from: another one than that of an earlier ventilator.
    """

    def __init__(
        self,
        job: str,
        policy: Policy,
        ledger: Ledger,
        local: Wants | None = None,
        *,
        fingerprint: dict[str, str] | None = None,
        base: int = 0,
    ) -> None:
        self.policy, self.ledger = policy, ledger
        self.fingerprint = fingerprint or {}
        self.counts = _Counts()
        self.gate = Gate(policy)
        self.sink = Seat(job, local)
        self._roster = Roster(base)
        self.lifecycle = Lifecycle(ledger, self.sink, self._roster, policy.halt)
        self._fit = False
        self._unfit = ""
        """Why the last worker that could not load a task could not; empty if all could."""
        self._doubted: set[str] = set()
        """The hosts of those: their other workers are taken away for it."""
        self._unexplained: dict[int, Lost] = {}
        self.sieve: Sieve | None = None
        """What sets aside items that need not be run, if there is any such thing."""

    # what the shell asks

    @property
    def job(self) -> str:
        """What the job is called."""
        return self.sink.job

    @property
    def workers(self) -> int:
        """Workers that are ready now."""
        return len(self.ledger.lanes)

    def welcome(self, lane: int, endpoint: str) -> wire.Welcome:
        """The message that goes with an Admit, now that the lane is bound at `endpoint`."""
        node = self._roster.get(lane)
        assert node is not None
        if node.sink:
            return wire.Welcome(self.job, node.join.turn, lane, endpoint, fingerprint=self.fingerprint)
        wants = self.sink.wants
        assert wants is not None
        return wire.Welcome(self.job, node.join.turn, lane, endpoint, wants.endpoint, key=wants.key)

    def on_unbound(self, lane: int, reason: str) -> list[Action]:
        """There is no lane to be had for the node just admitted: turn it away."""
        node = self._roster.get(lane)
        assert node is not None
        told = self.gate.tell_of(node.join, "unbound", f"{node.name} has to wait for a lane: {reason}", node.since)
        return [Reply(node.identity, wire.Hold(reason)), *told, *self._drop(node, reason)]

    # messages

    def on_message(self, identity: bytes, message: Any, now: float) -> list[Action]:
        """A control message came."""
        if not self.gate.hears(identity):
            return []
        if self.lifecycle.over:
            bye = self.lifecycle.bye
            return [Reply(identity, bye)] if bye is not None else []
        if isinstance(message, wire.Join | wire.SinkJoin):
            return self._on_join(identity, message, now)
        if isinstance(message, wire.Receipts):
            return self.on_receipts(message, now) if self.sink.is_of(identity) and message.job == self.job else []
        if isinstance(message, wire.Finished):
            return self.lifecycle.on_finished(message) if self.sink.is_of(identity) and message.job == self.job else []
        if isinstance(message, wire.Doubt):
            asked = self.sink.is_of(identity) and message.job == self.job
            return self.on_issuing(message.number) if asked else []
        if isinstance(message, wire.Ask):
            return self._on_ask(identity, message.wish)
        if not isinstance(message, wire.Ready | wire.Wide | wire.Returned | wire.Leave | wire.Unfit):
            return []
        node = self._roster.get(message.lane)
        return self._on_node(node, message, now) if node is not None and node.identity == identity else []

    def _on_node(
        self,
        node: Node,
        message: wire.Ready | wire.Wide | wire.Returned | wire.Leave | wire.Unfit,
        now: float,
    ) -> list[Action]:
        """A node says something of its lane."""
        if isinstance(message, wire.Ready):
            return self._on_ready(node, now)
        if isinstance(message, wire.Wide):
            self.ledger.on_wide(node.lane, message.task, message.items, busy=message.busy)
            return self.lifecycle.refill()
        if isinstance(message, wire.Returned):
            return self._on_returned(node, message, now)
        if isinstance(message, wire.Leave):
            return self._on_leave(node, message)
        return self._on_unfit(node, message.reason, now) if node.ready else []

    def _on_returned(self, node: Node, message: wire.Returned, now: float) -> list[Action]:
        if self.ledger.returns.on_returned(node.lane, message.after, message.upto, message.cut):
            return self.lifecycle.refill()
        # There is nothing for others, of which there may be a thousand; but another lane may have something.
        return [Fill([node.lane]), *(self.on_hungry(now) if self.ledger.recalls.dry else [])]

    def _on_ask(self, identity: bytes, wish: str) -> list[Action]:
        """A person asks for the state of the job, or for another one; the answer is the state that comes of it."""
        answer = Report(identity)
        if wish == "cancel":
            return [answer, *self.lifecycle.on_failed("cancelled", INTERRUPTED)]
        if wish == "drain":
            why, status = ("its sink was interrupted", 1) if self.sink.is_of(identity) else ("cancelled", INTERRUPTED)
            told = [] if self.lifecycle.draining else [Tell(f"{why}: finishing what is in flight", error=True)]
            return [*told, answer, *self.lifecycle.on_drain(why, status)]
        if wish == "pause" and not self.lifecycle.draining:
            self.lifecycle.paused = True
        elif wish == "unpause" and self.lifecycle.paused:
            return [answer, *self.lifecycle.unpause()]
        return [answer]

    # joining

    def _on_join(self, identity: bytes, join: AnyJoin, now: float) -> list[Action]:
        stopped = self.gate.on_comer(identity, join, self._roster, now)
        if stopped is not None:
            return stopped
        news, node = self._roster.claim(identity, join)
        if not news:
            if node is None or node.identity == identity:
                return []
            twin = "another process is here as this one: if it was cloned, with its machine, start it anew"
            return [Reply(identity, wire.Hold(twin))]
        actions: list[Action] = self._drop(node, "it joined afresh") if node is not None else []
        if isinstance(join, wire.SinkJoin):
            return actions + self._admit_sink(identity, join, now)
        actions += self._verdict(join)
        if len(self._roster) >= self.policy.most:
            full = f"this ventilator's limit of open files allows {self.policy.most} workers; raise it (ulimit -n)"
            told = self.gate.tell_of(join, "full", f"{name_of(join)} has to wait: {full}", now)
            return [*actions, Reply(identity, wire.Hold(full)), *told]
        if not self.sink.taken:
            self._roster.hold(identity, join, self.policy.most)
            return [*actions, Reply(identity, wire.Hold(self.sink.missing()))]
        return actions + self._admit(identity, join, now)

    def _admit(self, identity: bytes, join: AnyJoin, now: float) -> list[Action]:
        return [Admit(identity, self._roster.seat(identity, join, now).lane)]

    def _admit_sink(self, identity: bytes, join: wire.SinkJoin, now: float) -> list[Action]:
        reason = self.sink.objection(join, self.policy.codec)
        if reason:
            return self.gate.refuse(identity, join, reason, now)
        rival = self.sink.rival(join)
        if rival:
            # Not refused: it may be the successor of one whose death has not been noticed yet. It asks again.
            return [Reply(identity, wire.Hold(rival))]
        met = bool(self.sink.session)
        meeting = meet(join.held, self.job, self.fingerprint, met=met, done=self.ledger.account.done)
        if meeting.outcome is Outcome.REFUSE:
            return self.gate.refuse(identity, join, meeting.why, now)
        if meeting.outcome is Outcome.FAIL:
            return [Reply(identity, wire.Refuse(meeting.why)), *self.lifecycle.on_failed(meeting.why)]
        if meeting.outcome in (Outcome.GIVE_WAY, Outcome.BEGIN_ANEW):
            status = 2 if meeting.outcome is Outcome.GIVE_WAY else 1
            return [
                Reply(identity, wire.Hold(meeting.why)),
                *self.lifecycle.give_way(f"{name_of(join)}: {meeting.why}", status),
            ]
        actions: list[Action] = []
        if join.session != self.sink.session:
            # What workers have sent may have reached it before it knew the job, and been dropped: all of it again.
            for node in [node for node in self._roster if not node.sink]:
                actions += self._drop(node, "the sink was started anew")
        self.sink.session = join.session
        self.sink.node = self._roster.seat(identity, join, now)
        actions.append(Admit(identity, self.sink.node.lane))
        return [*actions, *self._resume(join.held, met=met), *self.lifecycle.refill(), *self.lifecycle.closing()]

    def on_local_sink(self, wants: Wants, held: wire.Held) -> list[Action]:
        """A sink of this very process takes part, which may have a part of the job already."""
        self.sink.local = wants
        meeting = meet(held, self.job, self.fingerprint, met=False, done=0)
        if meeting.outcome is Outcome.GIVE_WAY:
            return self.lifecycle.give_way(f"the journal: {meeting.why}", 2)
        return self._resume(held)

    def _resume(self, held: wire.Held, *, met: bool = False) -> list[Action]:
        """Go on with what a sink has."""
        ledger = self.ledger
        if held.job:
            self.sink.job = held.job
        if held.limit is not None:
            ledger.account.on_limit(held.limit)
        ledger.account.on_done(held.ranges)
        if self.sieve is not None:
            self.sieve.on_held(list(held.ranges))
        if not met:
            self.lifecycle.on_held(held.failed, held.ranges.count)
        ledger.account.failed = max(ledger.account.failed, held.failed)
        return [Skip()] if ledger.skippable and not ledger.exhausted else self.lifecycle.shrunk()

    def _verdict(self, join: wire.Join) -> list[Action]:
        """A slot's new process tells how its last one ended: known now is whose fault the loss was."""
        lane, name = self._roster.predecessor(join)
        if not lane:
            return []
        how = f"{join.ended} ({name})" if join.late else join.ended
        fate = msgspec.structs.replace(join.fate, worker=name.removeprefix("worker "))
        killed = fate.code == wire.KILLED and not (join.crashed or join.late)
        self.ledger.returns.on_verdict(lane, Verdict(join.crashed, join.item, join.late, how, killed, fate))
        lost = self._unexplained.pop(lane, None)
        if lost is not None and join.late:
            return [Tell(f"killed {name} over item {join.item}: {join.ended}"), *self.lifecycle.refill()]
        told = [*self._tell_lost(lost), *self.lifecycle.refill()] if lost is not None else []
        return [*told, Tell(f"{name} had ended: {join.ended}")] if join.ended else told

    def _tell_lost(self, lost: Lost) -> list[Action]:
        self.counts.lost += 1
        return [lost]

    def _on_ready(self, node: Node, now: float) -> list[Action]:
        if node.ready:
            return []
        node.ready = True
        if node.sink:
            if self.sieve is not None:
                self.sieve.tell_again()
            actions: list[Action] = self.sink.issued(self.ledger.next, anew=True)
            actions += self.lifecycle.total() + self._copied(self.ledger.speculation.doubles())
            for identity, join in self._roster.release().items():
                actions += self._admit(identity, join, now)
            return actions
        self.counts.joined += 1
        labels = provided(node.join.labels) if isinstance(node.join, wire.Join) else frozenset[str]()
        self.ledger.on_ready(node.lane, labels)
        if not self.lifecycle.begun and self.workers >= self.policy.expect:
            return self.lifecycle.begin()
        return [Fill([node.lane])]

    # going

    def on_linked(self, lane: int) -> None:
        """The transport says that a node has connected to this lane: from now on its loss will be noticed."""
        self._roster.linked(lane)

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        ledger = None if self.lifecycle.paused else self.ledger.deadline()
        dates = [date for date in (self._roster.deadline(), ledger) if date is not None]
        return min(dates, default=None)

    def on_hungry(self, now: float) -> list[Action]:
        """There is a worker without a chunk, and nothing to issue."""
        if self.lifecycle.paused:
            return []
        return self._recall(self.ledger.recalls.hungry(now), items=True) + self._copy(now)

    def on_issuing(self, doubt: int = 0) -> list[Action]:
        """Chunks are about to go out: a sink elsewhere is told so ahead of any result. Or it is in `doubt`."""
        return self.sink.issued(self.ledger.next, doubt=doubt)

    def on_pressed(self, now: float) -> list[Action]:
        """What goes by a schedule has been shared out: something may be urgent for which there is no room."""
        plan = self.ledger.plan
        return self._recall(plan.overtaken(now), items=True) if plan is not None and not self.lifecycle.paused else []

    def _copy(self, now: float) -> list[Action]:
        """Have slow chunks copied, if there are any and it is wanted. The sink hears of it ahead of any result."""
        copies = self.ledger.speculate(now) if self.policy.speculate else None
        if not copies:
            return []
        return [*self._copied(list(copies.values())), Fill(list(copies))]

    def _copied(self, chunks: list[Chunk]) -> list[Action]:
        """Tell the sink what is run by two workers."""
        told = [wire.Copied(self.job, chunk.start, chunk.stop) for chunk in chunks]
        if self.sink.local is not None:
            return [Inform(message) for message in told]
        return [action for message in told for action in self.sink.tell(message)]

    def _recall(self, lanes: list[int], *, items: bool) -> list[Action]:
        nodes = [node for lane in lanes if (node := self._roster.get(lane)) is not None]
        return [Reply(node.identity, wire.Recall(node.lane, items)) for node in nodes]

    def on_tick(self, now: float) -> list[Action]:
        """Time passed: give up on nodes that were admitted and never connected, recall what waits too long."""
        late = self._roster.late(now)
        told: list[Action] = []
        for node in late:
            how = "joined but never connected to its lane: is its port open to it? See --lane-ports"
            told += self.gate.tell_of(node.join, "late", f"{node.name} {how}", now)
        told += [action for node in late for action in self._drop(node, "it never connected to its lane")]
        if self.lifecycle.paused:
            return told
        if self.ledger.due(now):
            told += self.lifecycle.refill()
            for lane in [lane for lane in self._unexplained if not self.ledger.returns.waits(lane)]:
                told += self._tell_lost(self._unexplained.pop(lane))
        told += self._recall(self.ledger.recalls.overdue(now), items=self.ledger.recalls.dry) + self.on_pressed(now)
        return told + (self._copy(now) if now >= self.ledger.speculation.look else [])

    def on_link_lost(self, lane: int, how: str = "its connection was cut") -> list[Action]:
        """The transport says that the node at the other end of a lane is gone."""
        node = self._roster.get(lane)
        return self._drop(node, how) if node is not None else []

    def _drop(self, node: Node, how: str) -> list[Action]:
        self._roster.remove(node)
        if node.sink:
            self.sink.node = None
            told = Tell(f"{node.name} is gone ({how}); waiting for it to come back", error=True)
            return [Retire(node.lane), told] if node.ready else [Retire(node.lane)]
        requeued = self.ledger.returns.on_lost(node.lane, verdict=node.ready and not node.leaving)
        # Even if it held nothing: what its lane refused when it was gone already waits for another, too.
        actions: list[Action] = [Retire(node.lane), *self.lifecycle.refill()]
        if not node.ready or (node.leaving and not requeued):
            return [*actions, *self.lifecycle.closing()]
        lost = Lost(node.name, how, requeued)
        if self.ledger.returns.waits(node.lane):  # what its slot's next process says may be all that need be told
            self._unexplained[node.lane] = lost
        else:
            actions += self._tell_lost(lost)
        if not node.leaving:  # one that is told to leave and then killed is not a crash
            self._roster.remember(node)
            early = self._roster.successor(node)
            actions += self._verdict(early) if early is not None else []
        return [*actions, *self.lifecycle.closing()]

    def on_released(self) -> list[Action]:
        """What was set aside is to be run after all."""
        return self.lifecycle.refill() if self.ledger.waiting else []

    def _on_leave(self, node: Node, message: wire.Leave) -> list[Action]:
        node.leaving = True
        back = self.ledger.returns.on_leave(node.lane, message.taken, message.cut)
        told: list[Action] = []
        if back and message.replaced:
            told = self.lifecycle.refill()
        elif back:
            self.ledger.returns.requeued += back
            told = [
                Tell(f"{node.name} leaves; {back} chunks it had not started go to others"),
                *self.lifecycle.refill(),
            ]
        return told + self._release(node)

    def _release(self, node: Node) -> list[Action]:
        """Let a leaving worker go once everything it has run is receipted."""
        lane = self.ledger.lanes.get(node.lane)
        if lane is not None and lane.busy:
            return []
        return [Reply(node.identity, wire.Bye()), *self._drop(node, "it left"), *self._forsake(node)]

    def _on_unfit(self, node: Node, reason: str, now: float) -> list[Action]:
        node.leaving = True
        actions = [Reply(node.identity, wire.Refuse(reason)), *self._drop(node, "it can't load the task")]
        self._unfit = reason
        self._doubted.add(node.join.host)
        if not self._fit and not self.ledger.lanes:
            return [*actions, *self._forsake(node)]
        left_out = f"{node.name} can't load the task and is left out: {reason}"
        return [*actions, *self.gate.tell_of(node.join, "unfit", left_out, now)]

    def _forsake(self, node: Node) -> list[Action]:
        """End the job if this was the last worker and none could load the task, as it seems.

        One that leaves may do so since another one of its host could not; of one elsewhere that says nothing.
        """
        if self._fit or self.ledger.lanes or self.ledger.finished or node.join.host not in self._doubted:
            return []
        return self.lifecycle.on_failed(self._unfit, status=2)

    def on_deserted(self) -> list[Action]:
        """The only workers there can be, this process's own, have ended for good."""
        why = self._unfit or "all local workers have ended before the job was done; see above why"
        return self.lifecycle.on_failed(why, status=2 if self._unfit else 1)

    # receipts

    def on_receipts(self, message: wire.Receipts, now: float) -> list[Action]:
        """The sink has these. Lanes with new credit are the ledger's to tell; leaving workers may go now."""
        was_full, self.ledger.full = self.ledger.full, message.full
        self._fit = self._fit or bool(message.receipts)
        self.ledger.account.lag = message.lag
        if message.limit is not None:
            self.ledger.account.on_limit(message.limit)
        actions: list[Action] = []
        free: dict[int, None] = {}
        for receipt in message.receipts:
            lane = self.ledger.account.on_receipt(receipt, now)
            if lane is not None:
                free[lane.number] = None
                if lane.leaving and (node := self._roster.get(lane.number)) is not None:
                    actions += self._release(node)
        if self.sieve is not None:
            self.sieve.on_receipts(message.receipts)
            if self.ledger.waiting:
                free.update(dict.fromkeys(lane for lane in self.ledger.lanes))
        if was_full and not message.full:
            actions += self.lifecycle.refill()
        elif free:
            actions.append(Fill(list(free)))
        if self.policy.speculate:
            actions += self._recall(self.ledger.speculation.take_losers(now), items=True)
        return actions + self.lifecycle.on_receipts()

    # a person's question

    def waiting(self, url: str) -> str:
        """What the job waits for, as a sentence; empty when it does not wait for a node."""
        life, sink, expect, joined = self.lifecycle, self.sink, self.policy.expect, self.counts.joined
        return awaited(url, life, sink, self._roster, self.ledger, expect=expect, joined=joined)

    def check(self) -> None:
        """Assert that nodes, lanes and ledger agree."""
        self.ledger.check()
        self._roster.check()
        ready = {node.lane for node in self._roster if node.ready and isinstance(node.join, wire.Join)}
        assert ready == self.ledger.lanes.keys(), (ready, set(self.ledger.lanes))
        sink = self.sink.node
        assert sink is None or self._roster.get(sink.lane) is sink
