"""What a whole job, each rate key and each task of it may still have. Must not know which chunk is best.

A chunk whose rate key has no room waits with that key's budget, or so with its task's, and is put back among those that
are ready when there is some: after a time, or when something in flight is done. Nobody looks at all that wait.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

from zpipe.core.budget import BOUNDLESS, Budget, Entry
from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN, Limits, Schedule

__all__ = ["Budgets"]

REMEMBERED = 10_000
"""Budgets that are kept though nobody has drawn on them lately."""


class Budgets:
    """The budgets of a `schedule`. `ready` are heaps of what may be chosen, `serials` number the entries of heaps."""

    def __init__(self, schedule: Schedule, ready: dict[frozenset[str], list[Entry]], serials: Iterator[int]) -> None:
        self._schedule, self._ready, self._serials = schedule, ready, serials
        self._keyed = schedule.key_rate is not None or schedule.key_max_in_flight is not None
        self._job = Budget(schedule.rate, schedule.max_in_flight, 0.0)
        self._wake = inf
        self._budgets: dict[Any, Budget] = {}
        self._timers: list[tuple[float, int, Budget]] = []
        self._tasks = {number: list(_limiting(limits)) for number, limits in schedule.tasks}
        self._gates: dict[int, Budget] = {}
        self._outs: dict[Any, int] = {}
        self._many = REMEMBERED
        """Budgets from which on is looked for those that are as if they had never been used."""

    @property
    def counts_flight(self) -> bool:
        """Whether `on_flight` makes a difference."""
        schedule = self._schedule
        own = [budget for budgets in self._tasks.values() for budget in budgets]
        most = [schedule.max_in_flight, schedule.key_max_in_flight, *(budget.most or None for budget in own)]
        return any(limit is not None for limit in most)

    def gate(self, tasks: Iterable[int]) -> None:
        """Items of these tasks may be `shut` off."""
        for number in tasks:
            self._gates[number] = Budget(None, None, 0.0)
            self._tasks.setdefault(number, []).append(self._gates[number])

    def shut(self, tasks: Container[int]) -> None:
        """For now nothing of these tasks goes, but of all others that are gated."""
        for number, gate in self._gates.items():
            gate.most = 0 if number in tasks else None
            if gate.most is None and gate.waiting:
                self._release(gate, BOUNDLESS)

    # room

    def open(self, now: float) -> bool:
        """Whether the job may have anything; if not, when it may is noted."""
        if self._job.room(now) >= 1:
            return True
        self._wake = self._job.when()
        return False

    def has_room(self, chunk: Chunk, rank: float, now: float) -> bool:
        """Whether its rate key and its task have room for a chunk; if not, it waits for that."""
        claim = chunk.claim or PLAIN
        if self._keyed and claim.rate_key is not None and claim.rate_key not in self._budgets:
            self._open_for(claim.rate_key, now)
        for budget in self._of(chunk):
            if budget.room(now) < 1:
                entry = rank, chunk.start, next(self._serials), chunk
                heappush(budget.waiting.setdefault(claim.requires, []), entry)
                self.pass_on(chunk, now)
                return False
        return True

    def _open_for(self, key: Any, now: float) -> None:
        if len(self._budgets) >= self._many:
            self._budgets = {key: kept for key, kept in self._budgets.items() if not kept.idle(now)}
            self._many = max(REMEMBERED, 2 * len(self._budgets))  # else each new key would look at all others
        self._budgets[key] = Budget(self._schedule.key_rate, self._schedule.key_max_in_flight, now)

    def most(self, chunk: Chunk, lanes: int, now: float) -> int:
        """Return how many of a chunk's items may go now, for all of so many lanes to get some."""
        most = min(self._job.room(now), self._job.share(lanes))
        for budget in self._of(chunk):
            most = min(most, budget.room_for_items(now), budget.share(lanes))
        return most

    def _of(self, chunk: Chunk) -> Sequence[Budget]:
        """Return what a chunk draws on besides the job's."""
        own = self._tasks.get(chunk.task, ()) if self._tasks else ()
        keyed = self._budgets.get((chunk.claim or PLAIN).rate_key) if self._keyed else None
        return own if keyed is None else [*own, keyed]

    # what draws on them

    def charge(self, chunk: Chunk, now: float) -> None:
        """A chunk goes down a lane."""
        self._job.take(len(chunk))
        for budget in self._of(chunk):
            budget.take(len(chunk))
            self._call_next(budget, now)
        self._note(chunk)

    def on_suspect(self, chunk: Chunk) -> None:
        """A chunk that was not chosen goes down a lane: it is in flight, room or no room."""
        for budget in (self._job, *self._of(chunk)):
            budget.out += 1 if budget.chunks else len(chunk)
        self._note(chunk)

    def _note(self, chunk: Chunk) -> None:
        key = (chunk.claim or PLAIN).rate_key
        budget = self._budgets.get(key)
        if budget is not None and budget.most is not None:  # else nobody tells how many come back
            self._outs[key] = budget.out

    def on_unsent(self, chunk: Chunk) -> None:
        """A chunk that was taken, or a part of one, was not begun: what it drew goes back."""
        self._job.give_back(len(chunk))
        for budget in self._of(chunk):
            budget.give_back(len(chunk))
            self._release(budget, len(chunk))

    def on_flight(self, job: int, keys: dict[Any, int], tasks: dict[int, tuple[int, int]]) -> None:
        """So many items are in flight, and so many of each rate key; of each task so many items, and chunks."""
        self._job.out = job
        keys = {**dict.fromkeys(self._outs, 0), **keys}
        outs = {key: out for key, out in keys.items() if key in self._budgets}
        for key, out in outs.items():
            self._set_out(self._budgets[key], out)
        self._outs = {key: out for key, out in outs.items() if out}
        for number, budgets in self._tasks.items():
            items, chunks = tasks.get(number, (0, 0))
            for budget in budgets:
                self._set_out(budget, chunks if budget.chunks else items)

    def _set_out(self, budget: Budget, out: int) -> None:
        fewer, budget.out = out < budget.out, out
        if fewer:
            self._release(budget, budget.room_in_flight)

    # what waits

    def pass_on(self, chunk: Chunk, now: float) -> None:
        """A chunk that was ready was chosen, or let go of, but does not go: what waits for its budgets has a look.

        So what waits has another ahead of it that is ready, or a time when it is looked at, or something in flight.
        """
        for budget in self._of(chunk):
            self._call_next(budget, now)

    def _call_next(self, budget: Budget, now: float) -> None:
        if not budget.waiting:
            return
        if budget.room(now) >= 1:
            self._release(budget, 1)
        elif not budget.timed and (when := budget.when()) < inf:
            budget.timed = True
            heappush(self._timers, (when, next(self._serials), budget))

    def _release(self, budget: Budget, room: int) -> None:
        """Let so many be chosen of what has waited for a budget's room: who of them goes depends on the lanes."""
        for requires, heap in list(budget.waiting.items()):
            ready = self._ready.setdefault(requires, [])
            for _ in range(min(len(heap), max(1, room))):
                heappush(ready, heappop(heap))
            if not heap:
                del budget.waiting[requires]

    # time

    def deadline(self) -> float:
        """When `tick` is next worth calling."""
        return min(self._wake, self._timers[0][0]) if self._timers else self._wake

    def tick(self, now: float) -> bool:
        """Time passed: return whether there may be room for something."""
        found = self._wake <= now
        if found:
            self._wake = inf
        while self._timers and self._timers[0][0] <= now:
            budget = heappop(self._timers)[2]
            budget.timed, found = False, True
            self._release(budget, budget.room(now))
        return found

    def check(self) -> Iterable[Entry]:
        """Assert that somebody looks after each budget for which something waits; return what does."""
        found: list[Entry] = []
        ready = [entry[3] for heap in self._ready.values() for entry in heap]
        for budget in [*self._budgets.values(), *(own for owns in self._tasks.values() for own in owns)]:
            entries = [entry for heap in budget.waiting.values() for entry in heap]
            looked = budget.timed or budget.out or budget.most == 0 or any(budget in self._of(chunk) for chunk in ready)
            assert not entries or looked, f"nobody looks after what waits from [{entries[0][1]} on"
            found += entries
        return found


def _limiting(limits: Limits) -> Iterator[Budget]:
    if limits.rate is not None or limits.max_in_flight is not None:
        yield Budget(limits.rate, limits.max_in_flight, 0.0)
    if limits.chunks is not None:
        yield Budget(None, limits.chunks, 0.0, chunks=True)
