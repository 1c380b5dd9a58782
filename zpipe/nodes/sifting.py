"""A supply of items some of which need not be run: their outcomes are known, or will be, and are told from here.

Items are read some way ahead and looked up together. What is to be done with each is the sieve's to say; this makes
digests, asks caches, and makes results of what is known, which go to the sink as if from a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from zpipe import serialize
from zpipe.caching import digests
from zpipe.caching.answers import Teller, Untellable, told_whole
from zpipe.caching.cache import MARK
from zpipe.core import coding, wire
from zpipe.core.chunking import Chunker
from zpipe.core.sieve import Answer, Loaded, Sieve
from zpipe.core.spec import ItemKind, JobSpec
from zpipe.errors import TaskError, WireError
from zpipe.input.sources import Batch
from zpipe.nodes.parties import Tasks
from zpipe.nodes.supply import Supply
from zpipe.running import keepsakes, reading
from zpipe.schedule.parked import Parked

if TYPE_CHECKING:
    from zpipe.caching.cache import Cache

__all__ = ["AHEAD", "SLICE", "Cut", "Outgoing", "Plan", "SiftedSupply"]

AHEAD, MANY, LIGHT = 256, 900, 1024
"""Items that are read and looked up together, or so many, which takes less for each, of so many bytes at most."""

SLICE = 0.005
"""Seconds for which items are set aside and told of before others get their turn."""

REMOTE_KEEP = 4 << 20
"""Bytes of outcomes that come home with a chunk's receipt where the sink is a process of its own."""


class Plan:
    """What items are known by, and where outcomes are found and kept.

    `past` keeps what became of this job's items, by the `key` of the task of a number and an item (None: the item is
    its own). `cache` has outcomes of other jobs too, by task and item. `identity` tells one task from others.
    """

    def __init__(
        self,
        identity: Callable[[int], bytes],
        past: Cache | None = None,
        key: Callable[[int, Any], Any] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.identity, self.past, self.key, self.cache = identity, past, key, cache

    def of(self, task: int) -> Plan:  # noqa: ARG002 - all are alike
        """Return what holds for the items of this task."""
        return self

    def spares(self, task: int) -> bool:  # noqa: ARG002
        """Whether any of them may be spared."""
        return True

    @property
    def kind(self) -> type[SiftedSupply]:
        """What items are supplied by."""
        return SiftedSupply

    def close(self) -> None:
        """Let go of what outcomes are kept in."""
        for made in (self.past, self.cache):
            if made is not None:
                made.close()


class Outgoing(Protocol):
    """Where results go that nobody ran for."""

    def __call__(self, results: list[tuple[wire.Result, Sequence[wire.Buffer]]]) -> bool:
        """Send them; False if they can't be sent now."""


class SiftedSupply(Supply):
    """A supply with a `sieve`. Whoever drives it calls `plan_with` first, `sift` now and then, and `close`."""

    _plan: Plan

    def plan_with(
        self,
        plan: Plan,
        *,
        tasks: Tasks | None,
        spec: Callable[[int], JobSpec],
        job: Callable[[], str],
        say: Callable[[str, bool], None],
    ) -> None:
        """Begin with this plan. `spec(number)` is the task's, `job()` the job's id; `tasks`: of a job of many."""
        self._plan, self._tasks, self._spec, self._job, self._say = plan, tasks, spec, job, say
        self.sieve = Sieve(self._ledger)
        self.any = Chunker(MANY)
        """Sizes what is set aside."""
        self._teller: Teller | None = None
        self._wants: tuple[str, bool, bool] = ("", False, False)
        self._ahead = AHEAD
        self._told = self._more_to_do = self._stuck = False
        self._named: set[int] = set()
        self.weight = 0
        """Bytes that an item of those read last takes, where there is a schedule."""
        self.taken: tuple[int, Chunker] = (0, self._ledger.chunker)

    @staticmethod
    def keep(spec: JobSpec, *, local: bool) -> int:
        """How many bytes of outcomes may come home with a chunk's receipt; `local`: from a sink of this process."""
        return spec.max_result if local else REMOTE_KEEP

    # as a supply

    def remaining(self) -> int | None:
        """Return how many items are to come, as far as known."""
        remaining = self.source.remaining()
        return None if remaining is None else remaining + self.sieve.waiting

    @property
    def eager(self) -> bool:
        """Whether there is something to do at once."""
        return self._more_to_do or (bool(self.sieve.answers) and not self._stuck)

    @property
    def held_up(self) -> bool:
        """Whether asking once more gives no more now: what is known is to be told first, or to have its receipt."""
        return self.eager or self.sieve.full

    @property
    def waiting_for(self) -> tuple[int, Chunker] | None:
        """The task of the items that have been read and are to come next, and what sizes their chunks."""
        loaded = self.sieve.loaded
        if not self.sieve.waiting or loaded is None:
            return None
        return loaded.task, loaded.chunker or self._ledger.chunker

    def take(self, wanted: int) -> Batch | None:
        """Return 1 to `wanted` items that are to be run, of the task `taken`; those ahead of them are set aside."""
        while wanted > 0:
            if not self.sieve.waiting and not self._load(wanted):
                return None
            loaded = self.sieve.loaded
            assert loaded is not None
            self.taken = loaded.task, loaded.chunker or self._ledger.chunker
            found = self.sieve.take(wanted)
            if found is not None:
                count, kind, frames = found
                claim, skip = loaded.claim and loaded.claim[0], loaded.cut.skip(loaded.at - count)
                return Batch(count, kind, frames, skip, claim, self.weight * count)
            if not self.sieve.set_aside(self._ledger.wanted(self.remaining(), self.any)):
                return None
            if not self.sieve.waiting:
                self._more_to_do = True  # what comes next may be as this was, and others are to have their turn
                return None
            if self._ledger.account.ahead.count and not self.skip():
                return None
            wanted = self._ledger.wanted(self.remaining(), self.taken[1])
        return None

    def skip(self) -> bool:
        """Pass over the next items as far as they are done; return whether that is all of them."""
        count = self.sieve.skip(self._ledger.skippable)
        if count:
            self._ledger.on_skipped(count)
        return super().skip() if not self.sieve.waiting else not self._ledger.skippable

    def end(self) -> None:
        """The source is exhausted: that is all once what was read has been dealt with."""
        if not self.sieve.waiting:
            super().end()

    def total(self) -> tuple[int | None, bool]:
        """The number of items, or an estimate of it, and whether it is exact."""
        total, exact = super().total()
        return (None if total is None else total + self.sieve.waiting), exact

    def close(self) -> None:
        """Wait no more, and let go of the source; what is news is kept."""
        super().close()
        self._store()

    # reading ahead

    def _load(self, least: int) -> bool:
        """Read items, `least` of them unless there are fewer, and look them up; return whether there are any."""
        task, chunker = 0, None
        if self._tasks is not None:
            current = self._tasks.current()
            if current is None:
                self.wait()
                return False
            task, chunker = current
        batch = super().take(max(least, self._ahead))
        if batch is None:
            return False
        size = batch.size or sum(map(len, batch.frames))
        self._ahead = MANY if size <= LIGHT * batch.count else AHEAD
        self._store()
        self.sieve.load(self._looked_up(batch, task, chunker))
        return True

    def _looked_up(self, batch: Batch, task: int, chunker: Chunker | None, first: int | None = None) -> Loaded:
        """Return what is known of a batch's items, the first of which is shown as the one of number `first`."""
        spec, plan = self._spec(task), self._plan.of(task)
        items, unread = self._read(spec, batch, self._ledger.next if first is None else first)
        own: list[bytes | None] = []
        if plan.cache is not None or plan.key is None:
            identity = plan.identity(task)
            own = [digests.digest(identity, item) for item in items]
        marks: list[bytes | None] = own if plan.cache is not None else [None] * batch.count
        if plan.key is not None:
            identity = plan.identity(task)
            own = [self._by_key(identity, task, item) for item in items]
        for position in unread:  # its worker is to say what is wrong with it
            own[position] = marks[position] = None
        if plan.cache is not None and task not in self._named:
            self._named.add(task)
            plan.cache.entitle(plan.identity(task)[:MARK], spec.task.name)
        known = plan.past.get([d for d in own if d is not None]) if plan.past is not None else {}
        stored = plan.cache.get([m for m in marks if m is not None]) if plan.cache is not None else {}
        cut = Cut(spec, batch, items, readable=len(unread) < batch.count or batch.kind != "pickle")
        self.weight = batch.size // batch.count
        claim = None if batch.claim is None else (batch.claim, time.monotonic())
        return Loaded(items, own, cut, known=known, stored=stored, marks=marks, task=task, chunker=chunker, claim=claim)

    def look_up(self, items: Sequence[Any], task: int, first: int) -> Loaded | None:
        """Return what is known of items that are about to go, the first of that number; None if that can't be told."""
        self._store()
        batch = Batch(len(items), "pickle", Parked(items, serialize.dumps))
        try:
            return self._looked_up(batch, task, None, first)
        except BaseException as error:  # the items' own code: whoever sends them finds what is wrong
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # somebody's, not an item's
            return None

    def _by_key(self, identity: bytes, task: int, item: Any) -> bytes | None:
        assert self._plan.key is not None
        try:
            return digests.digest(identity, self._plan.key(task, item))
        except Exception as error:  # noqa: BLE001 - whatever the user's own function raises
            if not self._told:
                self._told = True
                said = f"an item without a key is run whatever it is: {type(error).__name__}: {error}"
                self._say(said, True)
            return None

    def _read(self, spec: JobSpec, batch: Batch, at: int) -> tuple[Any, list[int]]:
        """Return a batch's items, from number `at` on, and the positions of those that can't be read."""
        chunk = wire.Chunk(at, at + batch.count, 1, batch.kind)
        try:
            items, unread = reading.read(spec, chunk, _frames(batch))
        except WireError:
            return [None] * batch.count, list(range(batch.count))
        return items, [position for position, _ in unread]

    # what is known

    def _store(self) -> None:
        """Keep what became of those that were run."""
        found = self.sieve.found
        if not found:
            return
        if self._plan.past is not None:
            self._plan.past.put([(one.digest, one.outcome) for one in found])
        if self._plan.cache is not None:
            self._plan.cache.put(
                [(one.mark, one.outcome) for one in found if one.mark is not None and not keepsakes.failed(one.outcome)]
            )
        found.clear()

    def sift(self, room: int, send: Outgoing | None) -> bool:
        """Set aside what comes next, up to `room` items at a time, and tell what is known; return if there is news.

        That is whether any was set aside, or read: it may be to be run. `send`: where to, if that is known. For some
        time only: `eager` says whether there is more to do.
        """
        self._store()
        until = time.monotonic() + SLICE
        news = False
        self._more_to_do = self._stuck = False
        while room > 0:
            if not self.sieve.waiting:
                if not self._load(1):
                    break
                news = True
            count = self.sieve.set_aside(room)
            news = news or count > 0
            if send is not None and not self._tell_all(send):
                break
            if not count:
                break
            if self._ledger.account.ahead.count and not self.skip():
                break
            room = self._ledger.wanted(self.remaining(), self.any)
            if time.monotonic() >= until:
                self._more_to_do = True
                break
        if send is not None:
            self._tell_all(send)
        self.flush()
        return news

    def flush(self) -> list[float]:
        """Have written what has waited long enough; return when that is to be done again."""
        caches = [cache for cache in (self._plan.past, self._plan.cache) if cache is not None]
        return [due for cache in caches if (due := cache.flush()) is not None]

    def due(self, other: float | None) -> float | None:
        """Return when there is something to do, if not before for the `other` reason; what is overdue is written."""
        dates = self.flush() if other is None else [*self.flush(), other]
        return 0.0 if self.eager else min(dates, default=None)

    def _tell_all(self, send: Outgoing) -> bool:
        """Tell what can be; False: no more can be sent now."""
        answers = self.sieve.answers
        while answers:
            answer = answers[0]
            try:
                told = self._told_of(answer)
            except Untellable as error:
                answers.popleft()
                self._refuse(answer, str(error))
                continue
            if not send([(self._result(outcome), outcome.frames) for outcome in told]):
                self._stuck = True
                return False
            if answers and answers[0] is answer:
                answers.popleft()
                self.sieve.on_told(answer)
        return True

    def _told_of(self, answer: Answer) -> list[Any]:
        spec = self._spec(answer.chunk.task)
        if spec.encoding == "outcomes":
            return told_whole(answer)
        wants = spec.encoding, spec.letters, spec.joblog
        if self._teller is None or wants != self._wants:
            self._wants = wants
            try:
                self._teller = Teller(spec, self._job())
            except TaskError as error:
                raise Untellable(str(error)) from None
        return self._teller.tell(answer)

    def _refuse(self, answer: Answer, why: str) -> None:
        if not self._told:
            self._told = True
            self._say(f"what is known of item {answer.chunk.start} can't be used here, so it is run: {why}", True)
        self.sieve.on_refused(answer)

    def _result(self, outcome: Any) -> wire.Result:
        body = coding.inline(outcome.frames)
        return wire.Result(
            self._job(),
            0,
            outcome.start,
            outcome.stop,
            1,
            0.0,
            outcome.failures,
            outcome.hit,
            body=body,
            log=outcome.log,
        )


def _frames(batch: Batch) -> Sequence[wire.Buffer]:
    """Return a batch's payload, made for this if its items wait for their turn."""
    if not isinstance(batch.frames, Parked):
        return batch.frames
    _, frames = batch.frames.frames(0, batch.count)
    return frames or ()


class Cut:
    """Makes payloads of parts of a batch; of one that is not `readable` here the payload is always the whole."""

    __slots__ = ("_batch", "_items", "_lines", "_readable", "_spec")

    def __init__(self, spec: JobSpec, batch: Batch, items: Sequence[Any], *, readable: bool) -> None:
        self._spec, self._batch, self._items, self._readable = spec, batch, items, readable
        self._lines: list[bytes] | None = None

    def skip(self, start: int) -> int:
        """How many items the payload of a part has ahead of the one at `start`."""
        return 0 if self._readable else start

    def __call__(self, start: int, stop: int) -> tuple[ItemKind, Sequence[wire.Buffer]]:
        batch = self._batch
        if stop - start == batch.count or not self._readable:
            return batch.kind, batch.frames
        if isinstance(batch.frames, Parked):
            return batch.kind, Parked(batch.frames.items[start:stop], batch.frames.pack)
        if batch.kind == "pickle":
            return "pickle", serialize.dumps(self._items[start:stop], owned=True)
        if batch.kind == "msgpack":
            return "msgpack", [msgspec.msgpack.encode(self._items[start:stop])]
        if self._lines is None:
            self._lines = bytes(batch.frames[0]).split(self._spec.separator)
        return batch.kind, [self._spec.separator.join(self._lines[start:stop])]
