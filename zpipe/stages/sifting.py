"""A supply for a job in stages, some of whose stages have items that need not be run.

Each stage's items are looked up by themselves, and stay where they are until they go: so what is nearest to the end
goes first here, too, and no stage waits behind what was read of another. Items of a stage for which nothing was asked
are not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from zpipe.caching.answers import Teller, Untellable
from zpipe.core.chunking import Chunker
from zpipe.core.sieve import Answer
from zpipe.core.spec import ItemKind, JobSpec
from zpipe.core.wire import Buffer
from zpipe.errors import SourceError, TaskError
from zpipe.input.sources import Batch
from zpipe.nodes.sifting import AHEAD, SLICE, Cut, Outgoing, Plan, SiftedSupply
from zpipe.nodes.supply import Supply
from zpipe.running.packing import join, numbered, split
from zpipe.schedule.parked import Parked
from zpipe.stages.flow import Flow, NumberedLot

__all__ = ["StageSifting", "StagedPlan"]


class StagedPlan(Plan):
    """A plan whose stages differ: `wishes` says of each whether equal items are run once, and whether it has a cache.

    The `key` is for the first stage's items.
    """

    def __init__(self, whole: Plan, wishes: Sequence[tuple[bool, bool]]) -> None:
        super().__init__(whole.identity, whole.past, whole.key, whole.cache)
        self._wishes = wishes

    @property
    def kind(self) -> type[SiftedSupply]:
        return StageSifting

    def spares(self, task: int) -> bool:
        return any(self._wishes[task - 1])

    def of(self, task: int) -> Plan:
        unique, cached = self._wishes[task - 1]
        key = self.key if unique and task == 1 else None
        return Plan(self.identity, self.past if unique else None, key, self.cache if cached else None)


class StageSifting(SiftedSupply):
    """A supply whose source is a `Flow`."""

    def plan_with(self, plan: Plan, *, spec: Callable[[int], JobSpec], **more: Any) -> None:
        super().plan_with(plan, spec=spec, **more)
        assert isinstance(self.source, Flow)
        self._flow = self.source
        self._tellers: dict[int, Teller] = {}

    def remaining(self) -> int | None:
        """Return how many items the chosen stage has left, as far as known."""
        return self._flow.remaining()

    @property
    def waiting_for(self) -> None:
        """None: the flow chooses."""

    def total(self) -> tuple[int | None, bool]:
        """The number of items, or an estimate of it, and whether it is exact."""
        return Supply.total(self)

    def take(self, wanted: int) -> Batch | None:
        """Return 1 to `wanted` items of the chosen stage that are to be run; those ahead of them are set aside."""
        flow = self._flow
        current = flow.current()
        if current is None:
            self.wait()
            return None
        self.taken = current
        if not self._plan.spares(current[0]):
            return Supply.take(self, wanted)
        if not self._is_there(*current, max(wanted, AHEAD)):
            return None
        loaded = self.sieve.loaded
        assert loaded is not None
        room = flow.room(wanted)
        found = self.sieve.take(room)
        if found is not None:
            count, kind, frames = found
            flow.go(count)
            claim = loaded.claim and loaded.claim[0]
            return Batch(count, kind, frames, loaded.cut.skip(loaded.at - count), claim, self.weight * count)
        count = self.sieve.set_aside(room)
        if count:
            flow.go(count)
            self._more_to_do = True  # they are told of before others are looked at
        return None

    def skip(self) -> bool:
        """Return True: what is done is passed over stage by stage."""
        return True

    def _is_there(self, task: int, chunker: Chunker, most: int) -> bool:
        """Have a stage's next items looked up; return whether there are any."""
        self.sieve.turn_to(task)
        if self.sieve.waiting:
            return True
        try:
            found = self._flow.peek(most)
        except SourceError as error:
            self._fail(error)
            return False
        if found is None:
            if self.source.exhausted:
                self.end()
            else:
                self.wait()
            return False
        self._store()
        first, batch = found
        loaded = self._looked_up(batch, task, chunker, first)
        assert isinstance(loaded.cut, Cut)
        loaded.cut = _NumberedCut(loaded.cut, batch, first)
        self.sieve.load(loaded)
        return True

    def sift(self, room: int, send: Outgoing | None) -> bool:
        """Set aside what comes next of the chosen stage, up to `room` items at a time, and tell what is known.

        Return whether there is news, as of any sifted supply.
        """
        self._store()
        until = time.monotonic() + SLICE
        news = bool(self.sieve.answers)  # which are a next stage's items, once they are told
        self._more_to_do = self._stuck = False
        while room > 0 and (current := self._flow.current()) is not None and self._plan.spares(current[0]):
            count, news = self._pass(*current, news)
            if send is not None and not self._tell_all(send):
                break
            if not count:
                break
            if time.monotonic() >= until:
                self._more_to_do = True
                break
        if send is not None:
            self._tell_all(send)
        self.flush()
        return news

    def _pass(self, task: int, chunker: Chunker, news: bool) -> tuple[int, bool]:
        """Set aside the next items of a stage; return how many, and whether there is news."""
        waited = self.sieve.waiting_of(task)
        if not self._is_there(task, chunker, AHEAD):
            return 0, news
        count = self.sieve.set_aside(self._flow.room(AHEAD))
        if count:
            self._flow.go(count)
        return count, news or count > 0 or not waited

    def _told_of(self, answer: Answer) -> list[Any]:
        number = answer.chunk.task
        if number not in self._tellers:
            try:
                self._tellers[number] = Teller(self._spec(number), self._job())
            except TaskError as error:
                raise Untellable(str(error)) from None
        start = answer.chunk.start
        ticket = self._flow.find(start)
        shift = ticket.first - ticket.start
        return [outcome.moved(-shift) for outcome in self._tellers[number].tell(answer, shift)]


class _NumberedCut:
    """Makes payloads of a stage's items, with the number that the first of them has there ahead of each."""

    def __init__(self, cut: Cut, batch: Batch, first: int) -> None:
        self._cut, self._batch, self._first = cut, batch, first

    def skip(self, start: int) -> int:
        """How many items the payload of a part has ahead of the one at `start`."""
        whole = self._batch.kind == "packed" or isinstance(self._batch.frames, Parked)
        return 0 if whole else self._cut.skip(start)

    def __call__(self, start: int, stop: int) -> tuple[ItemKind, Sequence[Buffer]]:
        first, frames = self._first + start, self._batch.frames
        if isinstance(frames, Parked):
            return self._batch.kind, NumberedLot(frames.items[start:stop], frames.pack, first)
        if self._batch.kind == "packed":
            return "packed", numbered(first, [join(split(frames[0])[start:stop])])
        kind, frames = self._cut(start, stop)
        return kind, numbered(first - self._cut.skip(start), frames)
