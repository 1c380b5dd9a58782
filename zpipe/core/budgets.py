"""What a whole job, and each rate key of it, may still have. Must not know which chunk is best, nor whose turn it is.

A chunk whose rate key has no room waits with that key's budget, and is put back among those that are ready when there
is some: after a time, or when something in flight is done. Nobody looks at all that wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from math import inf
from typing import Any

from zpipe.core.budget import BOUNDLESS, Budget, Entry
from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN, Schedule

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
        self._timers: list[tuple[float, int, Any]] = []
        self._outs: dict[Any, int] = {}
        self._many = REMEMBERED
        """Budgets from which on is looked for those that are as if they had never been used."""

    @property
    def counts_flight(self) -> bool:
        """Whether `on_flight` makes a difference."""
        return self._schedule.max_in_flight is not None or self._schedule.key_max_in_flight is not None

    # room

    def open(self, now: float) -> bool:
        """Whether the job may have anything; if not, when it may is noted."""
        if self._job.room(now) >= 1:
            return True
        self._wake = self._job.when()
        return False

    def has_room(self, chunk: Chunk, rank: float, now: float) -> bool:
        """Whether the budget of a chunk's rate key has room; if not, the chunk waits for that."""
        claim = chunk.claim or PLAIN
        if claim.rate_key is None or not self._keyed:
            return True
        budget = self._budgets.get(claim.rate_key)
        if budget is None:
            if len(self._budgets) >= self._many:
                self._budgets = {key: kept for key, kept in self._budgets.items() if not kept.idle(now)}
                self._many = max(REMEMBERED, 2 * len(self._budgets))  # else each new key would look at all others
            budget = Budget(self._schedule.key_rate, self._schedule.key_max_in_flight, now)
            self._budgets[claim.rate_key] = budget
        if budget.room(now) >= 1:
            return True
        heappush(budget.waiting.setdefault(claim.requires, []), (rank, chunk.start, next(self._serials), chunk))
        self._call_next(budget, now, claim.rate_key)
        return False

    def most(self, chunk: Chunk, lanes: int, now: float) -> int:
        """Return how many of a chunk's items may go now, for all of so many lanes to get some."""
        most = BOUNDLESS
        for budget in (self._job, self._of(chunk)):
            if budget is not None:
                most = min(most, budget.room(now), budget.share(lanes))
        return most

    def _of(self, chunk: Chunk) -> Budget | None:
        return self._budgets.get((chunk.claim or PLAIN).rate_key)

    # what draws on them

    def charge(self, chunk: Chunk, now: float) -> None:
        """A chunk goes down a lane."""
        self._job.take(len(chunk))
        budget = self._of(chunk)
        if budget is not None:
            budget.take(len(chunk))
            self._note(chunk, budget)
            self._call_next(budget, now, (chunk.claim or PLAIN).rate_key)

    def on_suspect(self, chunk: Chunk) -> None:
        """A chunk that was not chosen goes down a lane: it is in flight, room or no room."""
        self._job.out += len(chunk)
        budget = self._of(chunk)
        if budget is not None:
            budget.out += len(chunk)
            self._note(chunk, budget)

    def _note(self, chunk: Chunk, budget: Budget) -> None:
        if budget.most is not None:  # else nobody tells how many come back
            self._outs[(chunk.claim or PLAIN).rate_key] = budget.out

    def on_unsent(self, chunk: Chunk) -> None:
        """A chunk that was taken, or a part of one, was not begun: what it drew goes back."""
        self._job.give_back(len(chunk))
        budget = self._of(chunk)
        if budget is not None:
            budget.give_back(len(chunk))
            self._release(budget, len(chunk))

    def on_flight(self, job: int, keys: dict[Any, int]) -> None:
        """So many items are in flight, and so many of each rate key."""
        self._job.out = job
        keys = {**dict.fromkeys(self._outs, 0), **keys}
        outs = {key: out for key, out in keys.items() if key in self._budgets}
        for key, out in outs.items():
            budget = self._budgets[key]
            fewer, budget.out = out < budget.out, out
            if fewer:
                self._release(budget, budget.room_in_flight)
        self._outs = {key: out for key, out in outs.items() if out}

    # what waits

    def pass_on(self, chunk: Chunk, now: float) -> None:
        """A chunk that was ready was chosen, or let go of, but does not go: what waits for its budget is to be seen to.

        So what waits has another ahead of it that is ready, or a time when it is looked at, or something in flight.
        """
        self._call_next(self._of(chunk), now, (chunk.claim or PLAIN).rate_key)

    def _call_next(self, budget: Budget | None, now: float, key: Any) -> None:
        if budget is None or not budget.waiting:
            return
        if budget.room(now) >= 1:
            self._release(budget, 1)
        elif not budget.timed and (when := budget.when()) < inf:
            budget.timed = True
            heappush(self._timers, (when, next(self._serials), key))

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
            budget = self._budgets[heappop(self._timers)[2]]
            budget.timed, found = False, True
            self._release(budget, budget.room(now))
        return found

    def check(self) -> Iterable[Entry]:
        """Assert that somebody looks after each budget for which something waits; return what does."""
        found: list[Entry] = []
        for key, budget in self._budgets.items():
            entries = [entry for heap in budget.waiting.values() for entry in heap]
            ready = any((entry[3].claim or PLAIN).rate_key == key for heap in self._ready.values() for entry in heap)
            assert not entries or budget.timed or budget.out or ready, f"nobody looks after {key!r}"
            found += entries
        return found
