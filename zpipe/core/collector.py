"""The sink's decisions: which results count, in what order they are written, what is receipted, when it is over.

A result counts if none of its items has counted before; one that has is a duplicate and is dropped, and receipted
again since the first receipt may have been lost. One that only overlaps what is done is dropped too, since payloads
are opaque here and can't be parted: the rest of its items are asked for again. That takes two ventilators, one after
the other, which made other chunks of the same items, or two runs of a chunk that part. A result with failures while a
copy of its items runs does not count either, unless another run has failed on the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from zpipe.core.horizon import Early, Horizon
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Buffer, Held, Receipt, Result

__all__ = ["Collector"]

Payload = Sequence[Buffer]

SWEEP = 64
"""So many that are wanted again are gone through for those done since; then when they are twice as many as are left."""

RUNS = 4
"""Runs of the same items, the last ones, of which is remembered that another is wanted: two are under way at most."""


class Collector:
    """Counts every item's outcome exactly once. `reorder` bytes at most wait for earlier ones when `ordered`.

    To go on with a job: its id and `fingerprint`, the items that are `done` and how many of them `failed`, `next`, up
    to which those of an ordered one are written, and what is known of its end. Results that are done and not written
    are then given to `on_kept`.
    """

    def __init__(
        self,
        *,
        ordered: bool = False,
        reorder: int = 256 << 20,
        job: str = "",
        fingerprint: dict[str, str] | None = None,
        done: RangeSet | None = None,
        failed: int = 0,
        next: int = 0,  # noqa: A002 - as the ledger has it
        hit: int | None = None,
        limit: int | None = None,
        total: int | None = None,
    ) -> None:
        self.ordered = ordered
        self.reorder = reorder
        self.job = job
        self.fingerprint = fingerprint or {}
        self.done = done or RangeSet()
        self.total = total
        self.limit = limit
        """In input order, the index after the first hit so far: what comes behind it is not wanted."""
        self.hit = hit
        self.failed = failed
        self.duplicates = 0
        self.strays = 0
        """Results of other jobs, and of items that were not sent, or not together."""
        self.issued: Callable[[], int] | None = None
        """Tells how many items have been sent so far, where that is known."""
        self.together: Callable[[int, int], bool] | None = None
        """Tells whether items that are not done were sent together, where that is known."""
        self.horizon: Horizon | None = None
        """What is known of it where that has to be told."""
        self._over = hit is not None and not ordered
        self._next = next
        self._waiting: dict[int, tuple[Result, Payload, int]] = {}
        self._waiting_bytes = 0
        self._receipts: list[Receipt] = []
        self._asked: dict[int, list[Receipt]] = {}
        self._sweep = SWEEP
        self._copied: dict[int, int] = {}
        self._failed: dict[int, dict[tuple[int, int], set[int]]] = {}

    def on_job(self, job: str, fingerprint: dict[str, str]) -> None:
        """A ventilator says which job it is. One that nothing has come of yet is forgotten for another."""
        if job != self.job and not self.done.count:
            self.job, self.total = job, None
            self._asked.clear()
            self._copied.clear()
            self._failed.clear()
            if self.horizon is not None:
                self.horizon.clear()
        if job == self.job:
            self.fingerprint = fingerprint
        if not self.finished:
            self.total = None  # this ventilator's source may have more: it says so anew

    @property
    def held(self) -> Held:
        """What a ventilator is to know of the job so far."""
        if not self.done.count:
            return Held()
        return Held(self.job, self.fingerprint, self.done.runs, self.failed, self.limit)

    def on_kept(self, result: Result, payload: Payload, size: int) -> None:
        """Have a result that is done already wait for its turn to be written."""
        self._waiting[result.start] = (result, payload, size)
        self._waiting_bytes += size

    def waits(self, start: int) -> bool:
        """Whether the result that begins with this item waits for its turn to be written."""
        return start in self._waiting

    @property
    def next(self) -> int:
        """The item up to which results have been returned for writing, in order."""
        return self._next

    def on_result(self, result: Result, payload: Payload, size: int) -> Sequence[tuple[Result, Payload]]:
        """Take a result of `size` bytes; return what is to be written now, in this order."""
        if result.job != self.job:
            self.strays += 1
            return ()
        start, stop = result.start, result.stop
        if self._is_beyond(stop):
            self.strays += 1
            return ()
        if self._over or (self.limit is not None and start >= self.limit) or self._hold(result, payload, size):
            return ()
        if result.again is not None:
            self._ask(result, result.again)
            return ()
        if self._is_settled(result, size):
            return ()
        if self._copied and result.failures and self._may_yet_succeed(result):
            self._ask(result, 0.0, void=True)
            return ()
        self.done.add(start, stop)
        if self._copied:
            self._forget_copied()
        self.failed += len(result.failures)
        result = self._receipt(result, size, result.kept)
        if not self.ordered:
            if result.hit is not None:
                self.hit = result.hit
                self._over = True
            return ((result, payload),)
        if result.hit is not None and (self.limit is None or result.hit < self.limit):
            self.hit = result.hit
            self._cut(result.hit + 1)
        self._waiting[start] = (result, payload, size)
        self._waiting_bytes += size
        return self._in_order()

    def _is_settled(self, result: Result, size: int) -> bool:
        """Whether a result has items that are done, or none that were sent together: it is answered, or dropped."""
        start, stop = result.start, result.stop
        if self.done.overlaps(start, stop):
            self.duplicates += 1
            if self.done.covers(start, stop):
                self._receipt(result, size)
            else:
                self._ask(result, 0.0, void=True)
            return True
        stray = self.together is not None and not self.together(start, stop)
        self.strays += stray
        return stray

    def _is_beyond(self, stop: int) -> bool:
        """Whether there are no such items, or they were not sent."""
        return (self.issued is not None and stop > self.issued()) or (self.total is not None and stop > self.total)

    def _hold(self, result: Result, payload: Payload, size: int) -> bool:
        """Hold a result that is ahead of the word that it could be one; return whether this is such a result."""
        early = self.horizon is not None and result.stop > self.horizon.known
        if early and self.horizon is not None:
            self.horizon.hold(result, payload, size)
        return early

    def _ask(self, result: Result, after: float, *, void: bool = False) -> None:
        """Have those of a result's items run again that are not done."""
        for start, stop in self.done.gaps(result.start, result.stop):
            asked = Receipt(start, stop, result.lane, 0.0, 0, 0, after, result.attempt, void)
            others = [other for other in self._asked.get(start, ()) if other.lane != result.lane]
            self._asked[start] = [*others[1 - RUNS :], asked]
            self._receipts.append(asked)
        if len(self._asked) > self._sweep:
            self._forget_asked()

    def on_copied(self, start: int, stop: int) -> None:
        """Items `[start, stop)` are run by two workers: the failure of one is not the last word."""
        if not self.done.covers(start, stop):
            self._copied[start] = max(stop, self._copied.get(start, 0))

    def on_void(self, start: int, stop: int) -> None:
        """Items `[start, stop)` are not run, and count as done: nobody waits for them, not even an ordered output."""
        self.done.add(start, stop)

    def _may_yet_succeed(self, result: Result) -> bool:
        """Whether this run has failed on items on which no other has: another may do them, or has done."""
        copied = next((a for a, b in self._copied.items() if a < result.stop and result.start < b), None)
        if copied is None:
            return False
        runs, this = self._failed.setdefault(copied, {}), (result.lane, result.attempt)
        runs[this] = {failure.index for failure in result.failures}
        others: set[int] = set().union(*(failed for run, failed in runs.items() if run != this))
        return not runs[this] <= others

    def _forget_asked(self) -> None:
        covers = self.done.covers
        left = {start: [r for r in several if not covers(r.start, r.stop)] for start, several in self._asked.items()}
        self._asked = {start: several for start, several in left.items() if several}
        self._sweep = max(SWEEP, 2 * len(self._asked))

    def _forget_copied(self) -> None:
        covers = self.done.covers
        self._copied = {start: stop for start, stop in self._copied.items() if not covers(start, stop)}
        self._failed = {start: run for start, run in self._failed.items() if start in self._copied}

    def _receipt(self, result: Result, size: int, kept: list[bytes] | None = None) -> Result:
        """Have a receipt sent; return the result without what is `kept`, which is the ventilator's to have."""
        failed = len(result.failures)
        made = Receipt(result.start, result.stop, result.lane, result.seconds, failed, size, kept=kept or [])
        self._receipts.append(made)
        return msgspec.structs.replace(result, kept=[]) if kept else result

    def _in_order(self) -> list[tuple[Result, Payload]]:
        ready = []
        while self._next in self._waiting:
            result, payload, size = self._waiting.pop(self._next)
            self._waiting_bytes -= size
            self._next = result.stop
            ready.append((result, payload))
        return ready

    def _cut(self, limit: int) -> None:
        self.limit = limit
        for start in [start for start in self._waiting if start >= limit]:
            result, _, size = self._waiting.pop(start)
            self._waiting_bytes -= size
            self.failed -= len(result.failures)

    def on_issued(self, items: int, doubt: int = 0) -> list[Early]:
        """So many items were issued, as an answer to a `doubt` or not; return the results to be taken anew."""
        if self.horizon is None:
            return []
        ready, strays = self.horizon.on_issued(items, doubt)
        self.strays += strays
        return ready

    def on_total(self, total: int) -> None:
        """The job has `total` items."""
        self.total = total

    @property
    def due(self) -> bool:
        """Whether there are receipts that have not been taken."""
        return bool(self._receipts)

    def take_receipts(self, *, again: bool = False) -> list[Receipt]:
        """Return the receipts due since the last call; `again`: and those that nothing but a receipt can tell of."""
        receipts, self._receipts = self._receipts, []
        if not again:
            return receipts
        self._forget_asked()
        return [*receipts, *(asked for several in self._asked.values() for asked in several)]

    @property
    def full(self) -> bool:
        """Whether the reorder buffer is at its bound, so that only what fills the gap should be issued."""
        return self._waiting_bytes > self.reorder

    @property
    def counted(self) -> int:
        """Items whose outcome counts."""
        return (
            self.done.count
            if self.limit is None
            else sum(min(b, self.limit) - a for a, b in self.done if a < self.limit)
        )

    @property
    def finished(self) -> bool:
        """Whether every wanted item's outcome is here (and, in order, has been returned for writing)."""
        if self._over:
            return True
        end = self.total if self.limit is None else self.limit
        return end is not None and (end == 0 or self.done.covers(0, end))

    def check(self) -> None:
        """Assert that what is done is counted once, and what waits is done and not yet in order."""
        self.done.check()
        if self.horizon is not None:
            self.horizon.check()
        assert self._waiting_bytes == sum(size for _, _, size in self._waiting.values())
        for start, (result, _, _) in self._waiting.items():
            assert start > self._next
            assert self.done.covers(start, result.stop)
        if self.finished:
            assert not self._waiting, "finished with results not returned for writing"
