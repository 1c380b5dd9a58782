"""The sink of a world: the real collector, and an output that is a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.collector import Collector
from zpipe.core.grains import results_of
from zpipe.core.horizon import Horizon
from zpipe.core.member import Send, State
from zpipe.core.ranges import RangeSet

from .faults import SINK
from .network import Connection
from .node import VERSIONS, Node

if TYPE_CHECKING:
    from .engine import World

__all__ = ["FULL", "SimSink"]

FULL = "the disk is full"


@dataclass(frozen=True)
class Disk:
    """What is left of a sink with a journal: its state at the last commit, and the output up to there."""

    written: tuple[int, ...]
    state: dict[str, Any]
    done: tuple[tuple[int, int], ...]
    kept: tuple[Any, ...]

    @classmethod
    def of(cls, c: Collector, written: list[int]) -> Disk:
        names = ("job", "fingerprint", "failed", "hit", "limit", "total")
        state = {name: getattr(c, name) for name in names}
        return cls(tuple(written), {**state, "next": c._next}, tuple(c.done), tuple(c._waiting.values()))

    @property
    def held(self) -> wire.Held:
        """What a ventilator may be told: this, and no more."""
        state = self.state
        done = RangeSet(self.done).runs
        return wire.Held(state["job"], state["fingerprint"], done, state["failed"], state["limit"])

    def open(self, ordered: bool, reorder: int) -> Collector:
        """A collector that goes on from there."""
        made = Collector(ordered=ordered, reorder=reorder, done=RangeSet(self.done), **self.state)
        for result, payload, size in self.kept:
            made.on_kept(result, payload, size)
        return made


class SimSink(Node):
    """The sink: results in, receipts out, output kept as the list of indices written."""

    links = ("lane",)
    label = "sink"
    who = SINK

    def __init__(self, world: World, disk: Disk | None = None) -> None:
        s = world.scenario
        self.disk = disk
        self.written: list[int] = list(disk.written) if disk is not None else []
        self.collector = disk.open(s.ordered, s.reorder) if disk else Collector(ordered=s.ordered, reorder=s.reorder)
        self.collector.horizon = Horizon()
        self._committing = False
        self._seen = 0
        self._counted: dict[int, int] = {}
        self.finished: wire.Finished | None = None
        self.stopped = False
        self.broken_off = False
        self.doubles: list[int] = []
        """Items of which a copy ran before their outcome was here."""
        super().__init__(world)

    def join(self, turn: int) -> wire.Control:
        held = self.collector.held
        if self.world.scenario.journal and not self.commit():  # a ventilator may forget all that it is told is done
            committed = self.disk.held if self.disk is not None else wire.Held()
            if self.collector.done.count:  # the job is this one, whatever there is of it
                held = msgspec.structs.replace(committed, job=held.job, fingerprint=held.fingerprint)
        return wire.SinkJoin(VERSIONS, self.session, turn, "host", 1, "sink:1", "values", held)

    def receive(self, connection: Connection, frames: list[bytes]) -> None:
        if not self.alive:
            return
        message, _ = coding.decode(frames)
        if isinstance(message, wire.Result | wire.Results):
            if self.broken_off:
                return
            for part in [message] if isinstance(message, wire.Result) else message.results:
                self.take_part(part)
            self.taken()
            return
        if isinstance(message, wire.Welcome) and self.member.expects(message):
            self.collector.on_job(message.job, message.fingerprint)
            if self.collector.job != message.job:
                self.perform(self.member.on_misfit(self.now))
                return
        elif isinstance(message, wire.Issued):
            for early in self.collector.on_issued(message.items, message.doubt):
                self.take(early.result, early.payload)
            self.taken()
        elif isinstance(message, wire.Total):
            self.collector.on_total(message.items)
            self.taken()
        elif isinstance(message, wire.Copied):
            self.collector.on_copied(message.start, message.stop)
            done = self.collector.done
            self.doubles += [i for i in range(message.start, message.stop) if not done.covers(i, i + 1)]
        elif isinstance(message, wire.Stop):
            self.stopped = True
        self.perform(self.member.on_message(message, self.now))

    def take_part(self, row: wire.Result) -> None:
        """Have a result counted, or those of a row: one by one, if some count already."""
        if not row.grains:
            assert row.body is not None
            assert row.again is not None or len(row.body) == row.stop - row.start
            self.take(row, [row.body])
            return
        if not self.collector.done.overlaps(row.start, row.stop) and self.world.chance(0.8):
            self.take(row, row.grains)
            return
        for one, payload, _ in results_of(row, row.grains):
            self.take(one, payload)

    def take(self, given: wire.Result, payload: Any) -> None:
        """Have a result counted, or held."""
        for result, found in self.collector.on_result(given, payload, sum(map(len, payload))):
            assert result.again is not None or sum(map(len, found)) == result.stop - result.start
            assert result.stop <= self.world.issued, "a result of what was never issued counts"
            self.written.extend(range(result.start, result.stop))
            for failure in result.failures:
                runs = self.world.failed_runs.get(failure.index, 0) + self.world.failed.get(failure.index, 0)
                assert failure.index not in self.doubles or runs > 1, "one of two runs failed, and that counted"

    def perform(self, actions: list[Any]) -> None:
        super().perform(actions)
        if any(isinstance(a, Send) and isinstance(a.message, wire.Ready) for a in actions):
            self.commit()
            self.settle(again=True)

    def taken(self) -> None:
        """Something was taken: with a journal, nobody is told before it is committed."""
        if not self.world.scenario.journal:
            self.settle()
        elif not self._committing:
            self._committing = True
            self.world.soon(self.committed, self)

    def committed(self) -> None:
        """It is time for a commit."""
        if self.alive and self.commit():
            self.settle()

    def commit(self) -> bool:
        """Have what there is last beyond the end of this process; return whether it does."""
        self._committing = False
        if not self.world.scenario.journal or self.broken_off:
            return not self.broken_off
        if self.world.full:
            self.break_off()
            return False
        self.disk = Disk.of(self.collector, self.written)
        return True

    def break_off(self) -> None:
        """The disk is full: nothing more is written, and nobody is told that it was."""
        self.broken_off = True
        self.world.tell(f"the disk is full: {len(self.written)} items are written, some of them in vain")
        self.say_so()

    def say_so(self) -> None:
        """Tell the ventilator that it is over."""
        c = self.collector
        self.finished = wire.Finished(c.job, c.counted, c.failed, c.duplicates, c.hit, FULL)
        if self.control is not None:
            self.control.send(0, coding.encode(self.finished))

    def settle(self, again: bool = False) -> None:
        """Send what is due; after a cut the last word may have been lost, so it is said again."""
        if self.member.state is not State.READY or self.control is None:
            return
        if self.broken_off:
            if again:
                self.say_so()
            return
        c = self.collector
        receipts = c.take_receipts(again=again)
        if receipts or again:
            for receipt in receipts:
                done = receipt.again is not None or c.done.covers(receipt.start, receipt.stop)
                assert done, f"a receipt for [{receipt.start}, {receipt.stop}), which is not all here"
            message = coding.encode(wire.Receipts(c.job, receipts, c.full, c.limit))
            for _ in range(2 if self.world.chance(self.world.scenario.doubled) else 1):
                self.control.send(0, message)
        if c.horizon is not None and (doubt := c.horizon.take_doubt(again=again)):
            self.control.send(0, coding.encode(wire.Doubt(c.job, doubt)))
        if c.finished and (self.finished is None or again):
            self.finished = wire.Finished(c.job, c.counted, c.failed, c.duplicates, c.hit)
            self.control.send(0, coding.encode(self.finished))

    def check(self) -> None:
        self.collector.check()
        self.member.check()
        for place, index in enumerate(self.written[self._seen :], self._seen):
            assert index not in self._counted, f"item {index} was written twice"
            assert not self.world.scenario.ordered or index == place, f"item {index} was written out of order"
            self._counted[index] = place
        self._seen = len(self.written)
