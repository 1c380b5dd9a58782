"""All that the sink of a job in stages writes: a stage's outputs go to the next one, the last one's to the output.

What comes here counts, once. The last stage's results are put in order and recorded as those of any job are, by their
numbers in the stage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import msgspec

from zpipe.core.director import Director
from zpipe.core.wire import Buffer, Result
from zpipe.errors import OutputError, WireError
from zpipe.net.loop import Loop
from zpipe.nodes.sink import Sink
from zpipe.output.landing import Landing
from zpipe.output.outlet import Outlet
from zpipe.report.progress import Snapshot
from zpipe.report.summary import StageCount, Summary
from zpipe.running.packing import split
from zpipe.stages.flow import Flow, Ticket
from zpipe.stages.journal import StageTables

__all__ = ["StageOutlet"]

UNRECORDED = 64 << 20
"""Bytes that wait for the journal, from which on nothing more is sent."""


class StageOutlet(Outlet):
    """Writes for the stages of a `flow`. With a recorder and its `tables` all that is done is in the journal."""

    def __init__(self, flow: Flow, landing: Landing, tables: StageTables | None = None) -> None:
        super().__init__(landing.output, landing.letters, landing.joblog)
        self.flow = flow
        self._recorder, self._tables = landing.recorder, tables
        self.collector = landing.collector()
        stages = flow.stages.stages
        self._last = stages[-1]
        if tables is not None and landing.recorder is not None:
            landing.recorder.rider = tables
            tables.resume(flow.stages, self.collector.done)
            self._last.failed = self.collector.failed
            flow.pass_over()
        flow.stalled = self._is_stalled
        self._failed = False
        self.before = [stage.done for stage in stages]
        """How many items of each stage were done when the job was gone on with."""

    def start(self, loop: Loop, sink: Sink, director: Director) -> None:
        """The job is the director's, unless it is an earlier one that is gone on with, and `sink` writes here."""
        self.flow.stages.slots = lambda: director.workers
        if not self.collector.job:
            self.collector.on_job(director.job, director.fingerprint)
        if self._recorder is not None:
            self._recorder.start(loop, partial(sink.attempt, self.settle))
            sink.attempt(self._recorder.on_job)

    def _is_stalled(self) -> bool:
        """Whether too much waits for its turn, or the journal is far behind or, at the end, behind at all."""
        if self.collector.full and not self._last.ahead.count:  # while something behind is done, a gap is to be filled
            return True
        if self._recorder is None or self._tables is None:
            return False
        return self._tables.size > UNRECORDED or (self.flow.stages.finished and not self._recorder.idle)

    def settle(self) -> None:
        """A commit was made: begin the next, and go on with what waited for it."""
        assert self._recorder is not None
        self._recorder.exchange([], [])
        self.flow.stir()

    def name(self, index: int) -> str:
        """Return what to call an item of this number in the job."""
        ticket = self.flow.find(index)
        plan = self.flow.plans[ticket.stage.number - 1]
        return f"item {index - ticket.start + ticket.first} of {plan.name}"

    def write(self, result: Result, records: Sequence[Buffer]) -> None:
        """Have outputs go on, or be written. Raises OutputError."""
        try:
            self._write(result, records)
        except OutputError:
            self._failed = True
            raise

    def _write(self, result: Result, records: Sequence[Buffer]) -> None:
        ticket = self.flow.find(result.start)
        shift = ticket.first - ticket.start
        start, stop = result.start + shift, result.stop + shift
        failures = [msgspec.structs.replace(failure, index=failure.index + shift) for failure in result.failures]
        moved = msgspec.structs.replace(
            result, job=self.collector.job, start=start, stop=stop, failures=failures, body=None
        )
        if ticket.stage is self._last:
            self._write_last(moved, records)
        else:
            self._pass_on(ticket, moved, records)
        self.flow.outcome(ticket, stop - start, len(failures))
        if self._recorder is not None:
            self._recorder.exchange(self.collector.take_receipts(), [])
        self.flow.stir()

    def _pass_on(self, ticket: Ticket, result: Result, records: Sequence[Buffer]) -> None:
        self.write_sides(result)
        frame = bytes(records[0]) if records else b""
        try:
            outputs = split(frame)
        except WireError as error:
            raise OutputError(f"a worker sent what no stage hands on: {error}") from None
        ready = self.flow.pass_on(ticket, result.start, result.stop, outputs)
        if self._tables is not None:
            self._tables.done(ticket.stage.number, result, frame, ready)

    def _write_last(self, result: Result, records: Sequence[Buffer]) -> None:
        size = sum(memoryview(frame).nbytes for frame in records)
        if self.collector.ordered:
            records = [bytes(frame) for frame in records]
        ready = self.collector.on_result(result, records, size)
        recorder = self._recorder
        if recorder is not None and self.collector.waits(result.start):
            recorder.waits(result, records)
        for written, payload in ready:
            super().write(written, payload)
            if recorder is not None:
                recorder.wrote(written, payload)
        if self._tables is not None:
            self._tables.consumed(self._last.number, result)

    def finish(self) -> None:
        """Make all of it stand. Raises OutputError."""
        self.collector.on_total(self._last.taken)
        if self._recorder is not None:
            self._recorder.finish(super().finish)
        else:
            super().finish()

    def counts(self) -> list[StageCount]:
        """Return what is done of each stage."""
        pairs = zip(self.flow.plans, self.flow.stages.stages, strict=True)
        return [StageCount(plan.name, stage.done, stage.failed) for plan, stage in pairs]

    def snapshot(self, now: Snapshot) -> Snapshot:
        """Return where the job is, as a person is shown it: by the first stage's items."""
        counts = self.counts()
        total, exact = self.flow.total()
        return msgspec.structs.replace(
            now,
            done=counts[0].done,
            failed=sum(stage.failed for stage in counts),
            total=total,
            exact=exact,
            stages=", ".join(stage.text for stage in counts),
        )

    def summary(self, summary: Summary) -> Summary:
        """Return how the job ended, by the first stage's items."""
        counts, before = self.counts(), self.before[0]
        rate = (counts[0].done - before) / summary.seconds if summary.seconds > 0 else 0.0
        return msgspec.structs.replace(
            summary,
            done=counts[0].done,
            before=before,
            failed=sum(stage.failed for stage in counts),
            total=self.flow.stages.stages[0].taken if self.flow.stages.over else None,
            items_per_second=rate,
            stages=counts,
        )

    def abandon(self) -> str:
        """Keep what there is of a job that is not whole, and have it in the journal; say in a sentence where."""
        if self._recorder is None:
            return super().abandon()
        if not self._failed:  # else files may have more than what is told to be done
            with contextlib.suppress(OutputError):
                self._recorder.drain()
        return "; ".join(filter(None, [super().abandon(), self._recorder.hint]))
