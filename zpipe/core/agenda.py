"""What goes next in a job with a schedule: parked chunks, and which of them a lane gets. Knows lanes, not receipts.

Chunks that the source has given ahead of their turn are parked here, and those that come back are again. The best for a
lane is of the highest priority among those whose time has come, whose key is free, whose budget has room, and whose
labels the lane has; of equal ones the first. What may not go now is put aside under what it waits for, a time, a key
or a budget, and is looked at again when that changes: no choice looks at all that is parked.

Entries of heaps may be stale, or there twice: what is popped is held against everything once more. What is in flight,
and which keys that are, is never counted but told by `on_flight`, from what lanes hold.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

from zpipe.core.budget import BOUNDLESS, Entry
from zpipe.core.budgets import Budgets
from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN, Schedule
from zpipe.core.lane import Lane
from zpipe.core.overtaking import Overtaking
from zpipe.core.turns import Turns

__all__ = ["AHEAD", "Agenda"]

AHEAD = 10_000
"""Items that are parked at most; further ones are left in the source."""

AHEAD_OF_ALL = 1e200
"""In place of a priority: what is `ahead` by one goes before what is not."""

TOLD = 1_000
"""Items that have expired of which one chunk tells."""

LOOK = 16
"""Chunks better left to other lanes that are passed over for one lane: beyond, it has the first of them after all."""

STALE = 1_000
"""Entries that may be stale, besides as many as are not, before they are looked for."""


class Agenda:
    """Decides among a ledger's `outstanding` chunks that are parked, for its `lanes`.

    `requeue` has a chunk parked again without what is done of it.
    """

    def __init__(
        self,
        schedule: Schedule,
        outstanding: dict[int, Chunk],
        lanes: dict[int, Lane],
        requeue: Callable[[Chunk], None],
    ) -> None:
        self.schedule = schedule
        self.parked: dict[int, Chunk] = {}
        """Parked chunks by where they start, and some that are settled."""
        self.left: int | None = None
        """How many items are to be sent yet, as far as known."""
        self._outstanding, self._lanes, self._requeue = outstanding, lanes, requeue
        self._serials = count(1)
        self._ready: dict[frozenset[str], list[Entry]] = {}
        self._later: list[Entry] = []
        self._ends: list[Entry] = []
        self._doomed: list[int] = []
        self._starts: list[int] = []
        self._unparked: list[int] = []
        self._turns = Turns(self.is_parked)
        self._budgets = Budgets(schedule, self._ready, self._serials)
        self._overtaking = Overtaking(lanes, self._rank)

    # what is parked

    def put(self, chunk: Chunk) -> None:
        """Park a chunk: a new one, or one that comes back."""
        start, claim = chunk.start, chunk.claim or PLAIN
        self.parked[start] = chunk
        heappush(self._starts, start)
        if len(self._starts) + len(self._ends) > STALE + 4 * len(self.parked):
            self._weed()
        if chunk.doom:
            heappush(self._doomed, start)
            if chunk.late and claim.key is not None:  # it may be tried again: those behind it wait
                self._turns.put(claim.key, chunk, next(self._serials))
            return
        if claim.end < inf and not chunk.attempt:
            self._push(self._ends, claim.end, chunk)
        if claim.key is None:
            self._offer(chunk)
        else:
            self._turns.put(claim.key, chunk, next(self._serials))
            self._expose(claim.key)

    def _push(self, heap: list[Entry], rank: float, chunk: Chunk) -> None:
        heappush(heap, (rank, chunk.start, next(self._serials), chunk))

    def _offer(self, chunk: Chunk) -> None:
        """Let a chunk be chosen, at once or from its time on."""
        claim = chunk.claim or PLAIN
        if claim.begin > -inf and not chunk.attempt:
            self._push(self._later, claim.begin, chunk)
        else:
            self._push(self._ready.setdefault(claim.requires, []), self._rank(chunk), chunk)

    def _rank(self, chunk: Chunk) -> float:
        """Return what orders chunks, least first: as all grow older at the same pace, that does not change."""
        claim = chunk.claim or PLAIN
        aged = max(chunk.since, claim.begin) / self.schedule.ageing if self.schedule.ageing else 0.0
        return aged - claim.priority - AHEAD_OF_ALL * claim.ahead

    def _expose(self, key: Any) -> None:
        """Let the first of a key's items be chosen, if none of them is under way."""
        first = self._turns.next(key)
        if first is not None:
            self._offer(first)

    def is_parked(self, chunk: Chunk) -> bool:
        """Whether a chunk is parked still: it may have been settled meanwhile, or be a suspect now."""
        start = chunk.start
        parked = self.parked.get(start) is chunk and self._outstanding.get(start) is chunk
        return parked and not (chunk.crashes or chunk.lane)

    def pass_over(self, chunk: Chunk) -> None:
        """A chunk that was to be chosen is parked no more: if nobody took it, the next of its key has its turn."""
        if self.parked.get(chunk.start) is chunk:
            del self.parked[chunk.start]
            if chunk.claim is not None and chunk.claim.key is not None:
                self._expose(chunk.claim.key)

    def _weed(self) -> None:
        """Let go of what is stale: nobody may ever come to look at it."""
        for chunk in list(self.parked.values()):
            if not self.is_parked(chunk):
                self.pass_over(chunk)
        self._starts = sorted(self.parked)
        self._ends = sorted(entry for entry in self._ends if self.parked.get(entry[1]) is entry[3])

    # what is in flight

    def on_flight(self, held: Iterable[Chunk], resting: Iterable[Chunk]) -> None:
        """Lanes hold these chunks; those `resting` are neither parked nor held, but tried again later."""
        self._unparked = []
        job, outs, tasks, busy = 0, dict[Any, int](), dict[int, tuple[int, int]](), dict[Any, float]()
        for chunk in held:
            self._unparked.append(chunk.start)
            claim = chunk.claim or PLAIN
            if claim.key is not None and (chunk.late or not chunk.doom):
                busy[claim.key] = -inf
            if chunk.doom:
                continue
            count = len(chunk) - (chunk.got.count if chunk.got is not None else 0)
            job += count
            if claim.rate_key is not None:
                outs[claim.rate_key] = outs.get(claim.rate_key, 0) + count
            if self.schedule.tasks:
                items, chunks = tasks.get(chunk.task, (0, 0))
                tasks[chunk.task] = items + count, chunks + 1
        for chunk in resting:
            self._unparked.append(chunk.start)
            if chunk.claim is not None and (key := chunk.claim.key) is not None:
                busy[key] = min(chunk.start, busy.get(key, inf))
        self._budgets.on_flight(job, outs, tasks)
        for key in self._turns.on_flight(busy):
            self._expose(key)

    def gate(self, tasks: Iterable[int]) -> None:
        """Items of these tasks may be `shut` off."""
        self._budgets.gate(tasks)

    def shut(self, tasks: Container[int]) -> None:
        """For now nothing of these tasks goes, but of all others that are gated."""
        self._budgets.shut(tasks)

    @property
    def wants_to_know(self) -> bool:
        """Whether `on_flight` makes a difference to what goes next, unless the sink is full: then it does."""
        return self._budgets.counts_flight or self._turns.any

    def on_suspect(self, chunk: Chunk) -> None:
        """A chunk that was none of the agenda's to give goes down a lane: it is in flight, room or no room."""
        if not chunk.doom:
            self._budgets.on_suspect(chunk)

    def on_unsent(self, chunk: Chunk) -> None:
        """A chunk that was taken, or a part of one, was not begun: what it drew goes back."""
        if not chunk.doom:
            self._budgets.on_unsent(chunk)

    # what waits on lanes

    def overtaken(self, now: float) -> Lane | None:
        """Return a lane to be recalled, if there is one, since what it has not begun could wait for what is ready."""
        ready = list(self._ready)
        return self._overtaking.find(((r, first) for r in ready if (first := self._urgent(r, now)) is not None), now)

    def _urgent(self, requires: frozenset[str], now: float) -> Chunk | None:
        """Return the first that is ready of those that require this."""
        heap = self._ready[requires]
        while heap and not self.is_parked(chunk := heap[0][3]):
            heappop(heap)
            self.pass_over(chunk)
            self._budgets.pass_on(chunk, now)
        if not heap:
            self._ready.pop(requires, None)
            return None
        return heap[0][3]

    def unmet(self) -> list[str]:
        """Return what is required of workers, and none here has, by what is ready now."""
        found = {
            requires
            for requires, heap in self._ready.items()
            if not any(requires <= lane.labels for lane in self._lanes.values())
            and any(self.is_parked(entry[3]) for entry in heap)
        }
        return sorted({", ".join(sorted(requires)) for requires in found})

    # time

    def deadline(self) -> float:
        """When `tick` is next worth calling."""
        times = [heap[0][0] for heap in (self._later, self._ends) if heap]
        return min([*times, self._budgets.deadline(), self._overtaking.look])

    def tick(self, now: float) -> bool:
        """Time passed: return whether there may be something new to choose."""
        found = self._ripen(now)
        found = self._budgets.tick(now) or found
        while self._ends and self._ends[0][0] <= now:
            end, start, _, chunk = heappop(self._ends)
            if self.is_parked(chunk) and not chunk.attempt and not chunk.doom:
                chunk.doom = f"it expired: it was not started within {end - chunk.since:.3g} s"
                chunk.expired = found = True
                heappush(self._doomed, start)
                if chunk.claim is not None and chunk.claim.key is not None:
                    self._expose(chunk.claim.key)
        return found

    def _ripen(self, now: float) -> bool:
        found = False
        while self._later and self._later[0][0] <= now:
            chunk = heappop(self._later)[3]
            if self.is_parked(chunk):
                requires = (chunk.claim or PLAIN).requires
                self._push(self._ready.setdefault(requires, []), self._rank(chunk), chunk)
                found = True
            else:
                self.pass_over(chunk)
        return found

    # choosing

    def take(self, lane: Lane, now: float, *, full: bool = False) -> Chunk | None:
        """Return the best chunk for this lane, cut to size, which is parked no more; None if there is none.

        `full`: only what everything behind it waits for.
        """
        self._ripen(now)
        chunk = self._gap(lane, now) if full else (self._told() or self._best(lane, now))
        if chunk is None:
            return None
        count = TOLD if chunk.doom else self._size(chunk, now)
        if count < len(chunk):
            rest = chunk.cut(chunk.start + count)
            self._outstanding[rest.start] = rest
            del self.parked[chunk.start]
            self.put(rest)
        else:
            del self.parked[chunk.start]
        if not chunk.doom:
            self._charge(chunk, lane, now)
        elif chunk.late and chunk.claim is not None and chunk.claim.key is not None:
            self._turns.take(chunk.claim.key)
        return chunk

    def _told(self) -> Chunk | None:
        """Return a chunk that is only to be told of."""
        while self._doomed:
            chunk = self.parked.get(heappop(self._doomed))
            if chunk is not None and self.is_parked(chunk) and chunk.doom:
                return chunk
        return None

    def _best(self, lane: Lane, now: float) -> Chunk | None:
        if not self._budgets.open(now):
            return None
        aside: list[tuple[list[Entry], Entry]] = []
        found = None
        while found is None and (heap := self._first(lane)) is not None:
            entry = heappop(heap)
            chunk = entry[3]
            if chunk.got is not None and self.is_parked(chunk):
                del self.parked[chunk.start]
                self._requeue(chunk)
                self._budgets.pass_on(chunk, now)
            elif not self._may_go(chunk, now):
                if not self.is_parked(chunk):
                    self.pass_over(chunk)
                self._budgets.pass_on(chunk, now)
            elif not self._budgets.has_room(chunk, self._rank(chunk), now):
                continue
            elif self._is_for_another(chunk, lane, now, firmly=len(aside) < LOOK):
                aside.append((heap, entry))
                self._budgets.pass_on(chunk, now)
            else:
                found = chunk
        for heap, entry in aside:
            heappush(heap, entry)
        return found

    def _first(self, lane: Lane) -> list[Entry] | None:
        """Return the heap with the best entry for a lane."""
        best = None
        for requires, heap in self._ready.items():
            if heap and requires <= lane.labels and (best is None or heap[0] < best[0]):
                best = heap
        return best

    def _may_go(self, chunk: Chunk, now: float) -> bool:
        """Whether a chunk is parked, it is time, and it is its key's first with none under way."""
        if not self.is_parked(chunk) or chunk.doom:
            return False
        claim = chunk.claim or PLAIN
        if claim.begin > now and not chunk.attempt:
            return False
        return claim.key is None or self._turns.next(claim.key) is chunk

    def _is_for_another(self, chunk: Chunk, lane: Lane, now: float, *, firmly: bool) -> bool:
        """Whether this lane should leave a chunk to others: it failed here, or another has room that had its key.

        Unless `firmly`, keys don't count.
        """
        avoided = now < chunk.until and len(self._lanes) > 1
        if avoided and chunk.avoid == lane.number:
            return True
        claim = chunk.claim or PLAIN
        home = self._lanes.get(self._turns.home(claim.key)) if claim.key is not None and firmly else None
        if home is None or home is lane or home.credit <= 0 or not claim.requires <= home.labels:
            return False
        return (lane.busy or not home.busy) and not (avoided and chunk.avoid == home.number)

    def _gap(self, lane: Lane, now: float) -> Chunk | None:
        """Return the first chunk of all that are not done, if it is parked and may go down this lane."""
        starts = self._starts
        while starts and not ((chunk := self.parked.get(starts[0])) is not None and self.is_parked(chunk)):
            heappop(starts)
        if not starts or min(self._unparked, default=BOUNDLESS) < starts[0]:
            return None
        chunk = self.parked[starts[0]]
        claim = chunk.claim or PLAIN
        if chunk.got is not None:
            del self.parked[chunk.start]
            self._requeue(chunk)
            return self._gap(lane, now)
        if chunk.doom:
            return chunk
        if not self._budgets.open(now):
            return None
        if not claim.requires <= lane.labels or not self._may_go(chunk, now):
            return None
        if not self._budgets.has_room(chunk, self._rank(chunk), now):
            return None
        return chunk

    def _size(self, chunk: Chunk, now: float) -> int:
        """Return how many of a chunk's items go now. One of a key goes alone, lest two of them crash and are parted."""
        if len(chunk) == 1 or (chunk.claim or PLAIN).key is not None:
            return 1
        lanes = max(1, len(self._lanes))
        size = min(chunk.chunker.size(self.left, lanes), max(1, AHEAD // (2 * lanes)))
        return min(size, self._budgets.most(chunk, lanes, now))

    def _charge(self, chunk: Chunk, lane: Lane, now: float) -> None:
        claim = chunk.claim or PLAIN
        self._budgets.charge(chunk, now)
        self._unparked.append(chunk.start)
        if claim.key is not None:
            self._turns.take(claim.key, lane.number)

    def check(self) -> None:
        """Assert that all that is parked will be looked at again: by somebody who chooses, or at some time."""
        ready = [entry for heap in (*self._ready.values(), self._later) for entry in heap]
        entries = [*ready, *self._budgets.check()]
        here = {id(entry[3]) for entry in entries}
        called = {(entry[3].claim or PLAIN).key for entry in entries}
        doomed = set(self._doomed)
        for start, chunk in self.parked.items():
            if not self.is_parked(chunk):
                continue
            key = (chunk.claim or PLAIN).key
            if chunk.doom:
                assert start in doomed, f"[{start}, {chunk.stop}) is never told of"
            elif key is None:
                assert id(chunk) in here, f"[{start}, {chunk.stop}) is forgotten"
            else:
                self._turns.check(chunk, key, called)
