"""Between the sink and its journal: what a commit holds, and a thread that commits.

One rule: a receipt is given out when a commit that holds what it tells of has been made, never before. One commit is
under way at a time; what comes meanwhile is in the next one, which begins as soon as the last has ended. So the disk
sets the pace, without a timer, and a slow one makes for larger commits.

What is kept of a result depends on where results go. In a file: nothing, once it is written; the journal holds how far
the file was, and in input order those that wait for their turn. To standard output, or anything else that can't be cut
back: all of it. In a fold: those folded since the fold's value was last written, which is when that costs no more.
"""

from __future__ import annotations

import os
import queue
import select
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from zpipe.core.collector import Collector
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Buffer, Held, Receipt, Result
from zpipe.output.folds import FoldOutput
from zpipe.output.journal import Batch, Journal, Stage, State
from zpipe.output.outputs import FileOutput, Output

if TYPE_CHECKING:
    from zpipe.net.loop import Loop

__all__ = ["Recorder", "Rider"]

LONGEST = 0.1
"""Seconds of lag that are made up for at most, by letting more wait at the workers."""

SMALL = 4096
"""Bytes of a fold's value that are written with every commit."""


class Rider(Protocol):
    """What is in the same commits."""

    dirty: bool
    """Whether there is something to commit."""

    def snapshot(self) -> Callable[[Callable[..., Any], Callable[..., Any]], None]:
        """Return what commits it, as a batch's `more`."""


class Recorder:
    """Has what becomes of a job in its journal. One thread calls it; another of its own commits.

    `output`, `letters` and `joblog` are where the sink writes; the files among them are marked with each commit.
    """

    def __init__(
        self, journal: Journal, output: Output, letters: Output | None = None, joblog: Output | None = None
    ) -> None:
        self.journal = journal
        self._files = {
            name: made
            for name, made in (("output", output), ("letters", letters), ("joblog", joblog))
            if isinstance(made, FileOutput) and not made.direct
        }
        self._shown = letters if "letters" not in self._files else None
        """Where dead letters go, if that can't be cut back."""
        self._fold = output if isinstance(output, FoldOutput) else None
        self._keep_all = self._fold is None and "output" not in self._files
        self._done = RangeSet(journal.done)
        self._committed = journal.state
        self._keep: dict[int, tuple[Result, Sequence[Buffer]]] = {}
        self._held: set[int] = set()
        """First items of the results in the journal that are to be dropped some time."""
        self._drop: list[int] = []
        self._folded: list[int] = []
        self._folded_bytes = 0
        self._fold_size = 0
        self._letters: list[tuple[int, bytes]] = []
        self._receipts: list[Receipt] = []
        self._since = [0.0, 0.0]
        self.lag = 0.0
        """Seconds from a result's arrival to its receipt, smoothed."""
        self._under_way: tuple[list[Receipt], Batch] | None = None
        self._ready: list[Receipt] = []
        self._error: BaseException | None = None
        self._collector: Collector | None = None
        self._settled: Callable[[], None] = lambda: None
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit, name="zpipe-journal", daemon=True)
        self._hears, self._bell = os.pipe()
        self.rider: Rider | None = None
        """What else is committed, together with this."""
        self._loop: Loop | None = None

    # a job's beginning

    def resume(self, output: Output, *, ordered: bool) -> Collector:
        """Return a collector that goes on where the last commit left off, with the output brought to there.

        Raises OutputError.
        """
        origin, state = self.journal.origin, self.journal.state
        collector = Collector(
            ordered=ordered,
            job=origin.job,
            fingerprint=origin.fingerprint,
            done=RangeSet(self.journal.done),
            failed=state.failed,
            next=state.next,
            hit=state.hit,
            limit=state.limit,
            total=state.total,
        )
        fold = self.journal.fold if self._fold is not None else None
        if fold is not None and self._fold is not None:
            self._fold.restore(fold)
            self._fold_size = len(fold)
        if self._shown is not None:
            for _, letter in self.journal.letters:
                self._shown.write([letter])
        for result, payload in self.journal.kept():
            if ordered and result.start >= state.next:
                if state.limit is None or result.start < state.limit:
                    collector.on_kept(result, payload, _size(payload))
                self._held.add(result.start)
                continue
            output.write(payload)
            if self._fold is not None:
                self._held.add(result.start)
                self._folded.append(result.start)
                self._folded_bytes += _size(payload)
        self._collector = collector
        return collector

    def start(self, loop: Loop, settled: Callable[[], None]) -> None:
        """Begin to commit. `settled` is called in the loop after each commit."""
        self._loop, self._settled = loop, settled
        os.set_blocking(self._hears, False)
        loop.add_fd(self._hears, self._on_committed)
        self._thread.start()

    def on_job(self) -> None:
        """The collector has heard which job it is. Raises OutputError."""
        c, origin = self._collector, self.journal.origin
        assert c is not None
        if (c.job, c.fingerprint) != (origin.job, origin.fingerprint):
            self.journal.begin(msgspec.structs.replace(origin, job=c.job, fingerprint=c.fingerprint))

    @property
    def held(self) -> Held:
        """What a ventilator may be told that there is of the job: what has been committed."""
        c, state = self._collector, self._committed
        assert c is not None
        if not c.done.count:
            return Held()
        return Held(c.job, c.fingerprint, self._done.runs, state.failed, state.limit)

    @property
    def limit(self) -> int | None:
        """A search's end in input order, once it has been committed."""
        return self._committed.limit

    # what the sink tells

    def waits(self, result: Result, payload: Sequence[Buffer]) -> None:
        """A result counts, and is not written yet."""
        self._keep[result.start] = (result, payload)

    def wrote(self, result: Result, payload: Sequence[Buffer]) -> None:
        """A result that counts was written."""
        start = result.start
        if result.failures:
            self._letters += [(failure.index, failure.letter) for failure in result.failures]
        if self._fold is not None:
            self._folded.append(start)
            self._folded_bytes += _size(payload)
        if not self._keep_all and self._fold is None:
            self._keep.pop(start, None)
            if start in self._held:
                self._held.discard(start)
                self._drop.append(start)
        elif start not in self._held:
            self._keep[start] = (result, payload)
        elif self._keep_all:
            self._held.discard(start)

    def exchange(self, receipts: list[Receipt], ready: list[Receipt]) -> None:
        """Take receipts that are due; put those that may be sent now into `ready`.

        Raises OutputError when a commit could not be made: none is made after that.
        """
        if self._error is not None:
            raise self._error
        asked = [receipt for receipt in receipts if receipt.again is not None]
        fresh = [receipt for receipt in receipts if receipt.again is None]
        if fresh and not self._receipts:
            self._since[1] = time.monotonic()
        self._receipts += fresh
        self._advance()
        ready += self._ready
        ready += asked  # those tell of nothing that could be lost: what is to be tried again is not done
        self._ready = []

    @property
    def idle(self) -> bool:
        """Whether everything that the sink told has been committed."""
        more = self.rider is not None and self.rider.dirty
        return not self._receipts and self._under_way is None and not more

    def drain(self) -> None:
        """Wait until everything that was told has been committed, or can't be."""
        while self._loop is not None and not self.idle and self._error is None:
            self._advance()
            select.select([self._hears], [], [])
            self._on_committed()

    def finish(self, stand: Callable[[], None]) -> None:
        """All is written and committed: `stand` has the files stand under their names. Raises OutputError."""
        assert self.idle
        if self.journal.finished:
            stand()  # it may be shown once more
            return
        self.journal.enter(self._state("closing"))
        stand()
        self.journal.enter(msgspec.structs.replace(self.journal.state, stage="finished"))

    @property
    def hint(self) -> str:
        """How a job that is not whole is gone on with."""
        return f"to go on: zpipe resume {shlex.quote(self.journal.path)}"

    def close(self) -> None:
        """Wait for the commit under way and let go of the journal."""
        if self._thread.is_alive():
            self._batches.put(None)
            self._thread.join()
        if self._loop is not None:
            self._loop.remove(self._hears)
            self._loop = None
        if self._hears >= 0:
            os.close(self._hears)
            os.close(self._bell)
            self._hears = -1
        self.journal.close()

    # commits

    def _advance(self) -> None:
        """Begin the next commit, if there is something to commit and none is under way."""
        rider = self.rider if self.rider is not None and self.rider.dirty else None
        if self._under_way is not None or not (self._receipts or rider):
            return
        batch = Batch(self._state("open"), RangeSet(), more=None if rider is None else rider.snapshot())
        for receipt in self._receipts:
            batch.ranges.add(receipt.start, receipt.stop)
        batch.letters, self._letters = self._letters, []
        self._snapshot(batch)
        batch.keep = list(self._keep.values())
        c = self._collector
        assert c is not None
        self._held.update(start for start in self._keep if not self._keep_all or c.waits(start))
        batch.drop += self._drop
        self._keep, self._drop = {}, []
        self._under_way, self._receipts = (self._receipts, batch), []
        self._since[0] = self._since[1]
        self._batches.put(batch)

    def _snapshot(self, batch: Batch) -> None:
        """Put a fold's value into the batch, in place of what was folded since, where that is as much."""
        if self._fold is None or not self._folded or self._folded_bytes < self._fold_size:
            return
        batch.fold = self._fold.snapshot()
        if batch.fold is None:
            self._folded_bytes = 0  # what can't be pickled is folded again from what is kept
            return
        batch.drop = [start for start in self._folded if start in self._held]
        for start in self._folded:
            self._keep.pop(start, None)
            self._held.discard(start)
        self._folded, self._folded_bytes = [], 0
        self._fold_size = len(batch.fold) if len(batch.fold) > SMALL else 0

    def _state(self, stage: Stage) -> State:
        c = self._collector
        assert c is not None
        marks = {**self.journal.state.marks, **{name: made.mark() for name, made in self._files.items()}}
        return State(next=c.next, failed=c.failed, limit=c.limit, hit=c.hit, total=c.total, marks=marks, stage=stage)

    def _commit(self) -> None:
        """Commit what comes, in the order it comes: what the thread does."""
        while (batch := self._batches.get()) is not None:
            try:
                for made in self._files.values():
                    made.sync()
                self.journal.commit(batch)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._error = error
            os.write(self._bell, b"\0")
            if self._error is not None:
                return

    def _on_committed(self) -> bool:
        os.read(self._hears, 64)
        if self._under_way is not None and self._error is None:
            receipts, batch = self._under_way
            for start, stop in batch.ranges:
                self._done.add(start, stop)
            self._committed = batch.state
            took = time.monotonic() - self._since[0]
            self.lag = min(LONGEST, 0.9 * self.lag + 0.1 * took if self.lag else took)
            self._ready += receipts
            self._under_way = None
        self._settled()
        return False


def _size(payload: Sequence[Buffer]) -> int:
    return sum(frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in payload)
