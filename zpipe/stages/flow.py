"""The source of a job in stages: the items of all of them, each under the number that it has in the job.

In the job items are numbered as they are sent, whichever stage they are of; this knows which is which. Results that
count come back through `outcome`, whose outputs go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from zpipe.core.chunking import Chunker
from zpipe.core.claim import Claim, Limits
from zpipe.core.spec import JobSpec
from zpipe.core.stages import Numbered, Stage, Stages
from zpipe.core.wire import Buffer
from zpipe.input.sources import Batch, Source
from zpipe.net.loop import Loop
from zpipe.running.packing import join, numbered
from zpipe.schedule.parked import Parked

__all__ = ["Flow", "NumberedLot", "StagePlan", "Ticket"]


class StagePlan(msgspec.Struct, frozen=True):
    """What is asked of a stage: its `spec` and what to call it; `chunk` items a chunk (None: as many as are best) and
    `most` workers at a time (0: any number). `unique`: equal items are run once; `cached`: a cache that the job
    has is for this stage, too. `limits` and the labels that it `requires` are for a job with a schedule."""

    spec: JobSpec
    name: str
    chunk: int | None = None
    most: int = 0
    unique: bool = False
    cached: bool = True
    limits: Limits = Limits()
    requires: frozenset[str] = frozenset()

    @property
    def scheduled(self) -> bool:
        """Whether it takes a schedule to keep to this."""
        return self.limits != Limits() or bool(self.requires)


class NumberedLot(Parked):
    """Items of a stage that wait for their turn, the first of them with this number there."""

    __slots__ = ("_first",)

    def __init__(self, items: Sequence[Any], pack: Callable[[Sequence[Any]], list[Buffer]], first: int) -> None:
        super().__init__(items, pack)
        self._first = first

    def frames(self, skip: int, count: int) -> tuple[int, list[Buffer] | None]:
        """Return the payload of these items, with the first one's number ahead."""
        return count, numbered(self._first + skip, self.pack(self.items[skip : skip + count]))


class Ticket(msgspec.Struct):
    """What was sent together: items of a stage from number `first` on, under those from `start` on in the job."""

    stage: Stage
    first: int
    start: int
    stop: int
    left: int


class Flow:
    """The items of all stages, as a source and as tasks. `source` gives the first stage's.

    In a job with a schedule (`scheduled`) they are parked as they are taken; how many are out is for that to say.
    """

    setup: JobSpec | None = None
    exact = False

    def __init__(
        self, loop: Loop, plans: Sequence[StagePlan], source: Source, *, ordered: bool, scheduled: bool = False
    ) -> None:
        self._loop, self.plans, self._source = loop, plans, source
        self._claims = [
            Claim(requires=plan.requires, ahead=number) if scheduled else None for number, plan in enumerate(plans)
        ]
        self._chunkers = [Chunker(plan.chunk, most=plan.spec.max_tasks or None) for plan in plans]
        stages = [
            Stage(number, 0 if scheduled else plan.most, partial(chunker.size, None, 1))
            for number, (plan, chunker) in enumerate(zip(plans, self._chunkers, strict=True), 1)
        ]
        self.stages = Stages(stages, ordered=ordered)
        self.stalled: Callable[[], bool] = lambda: False
        """Tells whether nothing more may go now."""
        self._tickets: dict[int, Ticket] = {}
        self._next = 0
        self._chosen: Stage | None = None
        self._watched: int | None = None
        self._wake: Callable[[], None] = lambda: None
        self._hungry = False
        self.unwanted: set[int] = set()
        """Stages none of whose items are to be chosen now."""

    # as Tasks

    def current(self) -> tuple[int, Chunker] | None:
        """Choose the stage whose items go next."""
        self._chosen = None if self.stalled() else self.stages.choose(self.unwanted)
        if self._chosen is None:
            self._hungry = True
            return None
        return self._chosen.number, self._chunkers[self._chosen.number - 1]

    def single(self) -> tuple[int, Chunker, Batch] | None:
        """Return None: items of stages go in chunks."""
        return None

    def spec(self, number: int) -> JobSpec:
        """The task of the stage of this number."""
        return self.plans[number - 1].spec

    # as Source

    @property
    def exhausted(self) -> bool:
        """Whether every item of every stage has its outcome, and all of those have been recorded."""
        if not self.stages.over and self._source.exhausted:
            self.stages.over = True
        return self.stages.finished and not self.stalled()

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        self._wake = wake
        self._source.start(self._on_more)

    def _on_more(self) -> None:
        self.stages.dry = False
        self._wake()

    def fileno(self) -> None:
        """Return None: the loop is woken."""

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` items of the chosen stage. Raises SourceError when the first one's source has failed."""
        stage = self._chosen
        if stage is None or not self._pass_over(stage):
            return None
        most = self.stages.room(stage, most)
        if stage.number == 1:
            batch = self._source.take(most)
            if batch is None:
                self._await()
                return None
        else:
            batch = self._packed(stage, self.stages.belts[stage.number - 2].take(most))
        first = self._send(stage, batch.count)
        frames: Sequence[Buffer]
        if isinstance(batch.frames, Parked):
            frames = NumberedLot(batch.frames.items, batch.frames.pack, first)
        else:
            frames = numbered(first, batch.frames)
        return Batch(batch.count, batch.kind, frames, claim=batch.claim, size=batch.size)

    def _packed(self, stage: Stage, outputs: list[bytes]) -> Batch:
        """Return outputs as items of a stage."""
        claim = self._claims[stage.number - 1]
        if claim is None:
            return Batch(len(outputs), "packed", [join(outputs)])
        lot = Parked(outputs, lambda items: [join(items)])
        return Batch(len(outputs), "packed", lot, claim=claim, size=sum(map(len, outputs)))

    def _send(self, stage: Stage, count: int) -> int:
        """So many of a stage's items get the job's next numbers; return the first one's in the stage."""
        first = self.stages.on_taken(stage, count)
        self._tickets[self._next] = Ticket(stage, first, self._next, self._next + count, count)
        self._next += count
        self._pass_over(stage)
        self._chosen = None
        return first

    # as a source whose items are looked at before they go

    def peek(self, most: int) -> tuple[int, Batch] | None:
        """Return up to `most` items of the chosen stage, and the first one's number there; None if there are none.

        They stay until they `go`, and are not to be asked for again before. Raises SourceError as `take` does.
        """
        stage = self._chosen
        if stage is None or not self._pass_over(stage):
            return None
        most = self.stages.room(stage, most)
        if stage.number > 1:
            outputs = self.stages.belts[stage.number - 2].peek(most)
            return stage.taken, self._packed(stage, outputs)
        batch = self._source.take(most)
        if batch is None:
            self._await()
            return None
        self.stages.held += batch.count
        return stage.taken, batch

    def room(self, most: int) -> int:
        """Return how many of `most` items of the chosen stage may go now."""
        return self.stages.room(self._chosen, most) if self._chosen is not None else 0

    def go(self, count: int) -> None:
        """So many of the chosen stage's items that were peeked at go, under the job's next numbers."""
        stage = self._chosen
        assert stage is not None
        if stage.number > 1:
            self.stages.belts[stage.number - 2].take(count)
        else:
            self.stages.held -= count
        self._send(stage, count)

    def _pass_over(self, stage: Stage) -> bool:
        """Pass over those of a stage's next items that are done; return whether there are others behind them."""
        n = stage.number - 2
        while row := stage.ahead.row(stage.taken):
            passed = self._source.skip(row) if n < 0 else self.stages.belts[n].skip(row)
            if not passed:
                if n < 0:
                    self._await()
                return False
            stage.taken += passed
            stage.ahead.passed(passed)
        return n < 0 or self.stages.belts[n].at < self.stages.belts[n].next

    def preload(self, number: int, items: Sequence[bytes]) -> int:
        """Have a stage begin with these items; return the first one's number."""
        belt = self.stages.belts[number - 2]
        first = belt.next
        belt.next += len(items)
        belt.restore(first, items)
        return first

    def pass_over(self) -> None:
        """Pass over what is done of what waits between stages."""
        for stage in self.stages.stages[1:]:
            self._pass_over(stage)

    def _await(self) -> None:
        """The first stage's source has nothing now."""
        if self._source.exhausted:
            self.stages.over = True
            return
        self.stages.dry = True
        fd = self._source.fileno()
        if fd is not None and self._watched is None:
            self._watched = fd
            self._loop.add_fd(fd, self._on_readable)

    def _on_readable(self) -> bool:
        self._forget()
        self._on_more()
        return False

    def _forget(self) -> None:
        if self._watched is not None:
            self._loop.remove(self._watched)
            self._watched = None

    def skip(self, _most: int) -> int:
        """Return 0: what is done is passed over stage by stage."""
        return 0

    def remaining(self) -> int | None:
        """Return how many items the chosen stage has left, if that is known."""
        if self._chosen is None:
            return None
        if self._chosen.number > 1:
            return self.stages.left(self._chosen)
        left = self._source.remaining()
        return None if left is None else left + self.stages.held

    def close(self) -> None:
        """Let go of the source."""
        self._forget()
        self._source.close()

    # outcomes

    def find(self, start: int) -> Ticket:
        """Return what the item of this number in the job was sent with."""
        found = self._tickets.get(start)
        if found is None:  # a part of what was sent
            found = self._tickets[max(begin for begin in self._tickets if begin <= start)]
        return found

    def outcome(self, ticket: Ticket, count: int, failed: int) -> None:
        """So many items of what was sent have their outcome."""
        ticket.left -= count
        self.stages.on_outcome(ticket.stage, count, failed)
        if not ticket.left:
            ticket.stage.chunks -= 1
            del self._tickets[ticket.start]

    def pass_on(self, ticket: Ticket, start: int, stop: int, outputs: Sequence[bytes]) -> list[Numbered]:
        """Have the outputs of a stage's items `[start, stop)` go to the next; return what has its numbers now."""
        return self.stages.belts[ticket.stage.number - 1].put(start, stop, outputs)

    def stir(self) -> None:
        """Something has changed: have the loop look, if there was nothing to send, or this is the end."""
        if self._hungry or self.exhausted:
            self._hungry = False
            self._wake()

    def total(self) -> tuple[int | None, bool]:
        """Return how many items the first stage has, or an estimate of it, and whether it is exact."""
        stage = self.stages.stages[0]
        if self.stages.over:
            return stage.taken + self.stages.held, True
        remaining = self._source.remaining()
        if remaining is None:
            return None, False
        return stage.taken + self.stages.held + remaining, self._source.exact
