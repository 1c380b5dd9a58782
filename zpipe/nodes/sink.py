"""The sink's shell: takes results, writes what the collector lets through, sends receipts. Decides nothing itself.

It is the results socket with collector and output, and may share the ventilator's loop: then its receipts are function
calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import zmq

from zpipe.core import coding, wire
from zpipe.core.grains import Grains, results_of
from zpipe.errors import OutputError, WireError
from zpipe.net import endpoints, link
from zpipe.net.callers import Callers
from zpipe.net.loop import Loop
from zpipe.net.security import Guard
from zpipe.output.landing import Landing
from zpipe.output.outlet import Outlet

__all__ = ["Sink"]

SLICE = 0.002
"""Seconds of results taken before their receipts go out and others get their turn."""

SHOWN = 5
"""Failed items a person is told of one by one; all are in the output and the count."""


class Sink:
    """Results in, output and receipts out. `deliver` gets Receipts, and Finished at the end.

    `write` gets what counts, in the order wanted, instead of the output, and failed items are then not told of. An
    `outlet` given is written to in place of the `landing`, and has its order and its journal to see to.
    """

    def __init__(
        self,
        loop: Loop,
        context: Any,
        landing: Landing,
        *,
        deliver: Callable[[wire.Receipts | wire.Finished], None],
        say: Callable[[str, bool], None],
        heartbeat: float = 10.0,
        write: Callable[[wire.Result, Sequence[wire.Buffer]], None] | None = None,
        guard: Guard | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self._loop, self._deliver, self._say, self._door = loop, deliver, say, guard
        if outlet is not None:
            landing = msgspec.structs.replace(landing, ordered=False, recorder=None)
        self._outlet = outlet or landing.outlet()
        self._recorder = recorder = landing.recorder
        self.letters, self.joblog = landing.wants_letters, landing.wants_joblog
        self._write = write
        self.collector = landing.collector()
        if recorder is not None:
            recorder.start(loop, self.settle)
        self.ask: Callable[[int], None] = lambda _: None
        """Asks the ventilator how far it has issued, if the collector has a horizon."""
        self.finished: wire.Finished | None = None
        self.error: OutputError | None = None
        self.endpoint = self.bound = ""
        """Where workers are told to find it, and where it is bound."""
        self.key = ""
        """The public key that workers are to find there, if there is one."""
        self.encoding = landing.output.encoding
        self._results = self._open(context, heartbeat)
        self._watch: link.Watch | None = None
        self._callers = Callers(self._results, "")
        self._malformed = False
        self._told = 0
        self._dirty = False
        self._full = False
        self._unwritten: list[tuple[wire.Result, Sequence[wire.Buffer]]] = []

    def _open(self, context: Any, heartbeat: float) -> Any:
        return link.make_socket(context, zmq.PULL, heartbeat=heartbeat, most=wire.MAX_BYTES, bounded=True)

    def bind(self, endpoint: str) -> str:
        """Bind the results socket; return the endpoint, announced. Raises UsageError."""
        if self._door is not None:
            self.key = self._door.serve(self._results, endpoint)
        self.bound = link.bind(self._results, endpoint)
        self._callers = Callers(self._results, self.bound)
        self.endpoint = endpoints.announce(self.bound)
        if self._door is not None and endpoint.startswith("tcp://"):
            self._watch = link.Watch(self._loop, self._results, lambda _: None, self._door.fault("results"))
        self._loop.add(self._results, self.read)
        return self.endpoint

    @property
    def socket(self) -> Any:
        """Where results come in."""
        return self._results

    def read(self, *, expected: bool = True) -> bool:
        """Take what results there are, for some time at most; return whether there may be more.

        `expected`: its descriptor tells of some.
        """
        if self.finished is not None:  # nothing counts any more, but what is not taken wakes the loop again and again
            return self._callers.receive() is not None
        horizon = self.collector.horizon
        until = time.monotonic() + SLICE
        more = True
        while more and time.monotonic() < until and self.finished is None:
            frames = self._callers.receive(expected=expected) if horizon is None or not horizon.full else None
            more, expected = frames is not None, False  # or what is held comes first: `on_issued` goes on from there
            if frames is not None:
                self._take(frames)
                if self._write is not None and len(self._unwritten) == 1:
                    self._write_out()  # before all else: somebody may be waiting for just this
        self.settle_all(more=more)
        return more and self.finished is None

    def settle_all(self, *, more: bool = False) -> None:
        """Write what has come and counts, and send the receipts; flush the output, unless there is `more`."""
        if not self.collector.finished:
            self.settle()  # first: while this writes, the workers are at work again
        self._write_out()
        self.settle()
        if not more and self._dirty and self.finished is None:
            self.attempt(self._outlet.flush)
            self._dirty = False

    def tell(self, results: Sequence[tuple[wire.Result, Sequence[wire.Buffer]]]) -> None:
        """Take results that come from this very process."""
        for result, payload in results if self.finished is None else ():
            self._count(result, payload)
        self._write_out()
        if self.finished is None:
            self.attempt(self._outlet.flush)
            self.settle()

    def read_first(self, *, expected: bool) -> bool:
        """Take the first result there is, and write it; its receipt is for the next `read`. Return whether there was.

        If there was, there may be more. `expected`: as for `read`.
        """
        frames = self._callers.receive(expected=expected)
        if frames is None:
            return False
        if self.finished is None:
            self._take(frames)
            self._write_out()
        return True

    def _take(self, frames: list[wire.Buffer]) -> None:
        try:
            message, payload = coding.decode(frames)
        except WireError as error:
            message, payload = error, ()
        if isinstance(message, wire.Result):
            self._count(message, payload)
        elif isinstance(message, wire.Results):
            for result in message.results:
                self._count(result, (result.body,) if result.body is not None else result.grains)
        else:
            self._cut_off(message)

    def _cut_off(self, message: object) -> None:
        """Somebody has sent what no worker sends."""
        host = self._callers.cut_off()
        if host and self._door is not None:
            self._door.complain(host, "results", f"it sent what no worker sends: {message}", "results")
        elif not self._malformed:
            self._malformed = True
            self._say(f"dropped a malformed message on the results port: {message}", True)

    def on_issued(self, items: int, doubt: int) -> None:
        """So many items were issued, as an answer to a doubt or not."""
        for early in self.collector.on_issued(items, doubt):
            self._take_in(early.result, early.payload, early.size)
        self.settle_all()
        self._loop.again(self._results)

    def _count(self, result: wire.Result, payload: Sequence[wire.Buffer]) -> None:
        if result.body is not None:
            size = len(result.body)
        elif result.grains:
            self._count_row(result)
            return
        else:
            size = sum(frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in payload)
            if self.collector.ordered:
                # What waits for its turn must not keep ZeroMQ's buffers, which may be far larger than the frames.
                payload = [frame if len(frame) >= coding.INLINE_BYTES else bytes(frame) for frame in payload]
        self._take_in(result, payload, size)

    def _count_row(self, result: wire.Result) -> None:
        """Take the results of a row: together, if all of them count and nobody wants them one by one."""
        if self._recorder is None and not self.collector.done.overlaps(result.start, result.stop):
            self._take_in(result, Grains(result.grains), sum(map(len, result.grains)))
            return
        for one, payload, size in results_of(result, result.grains):
            self._take_in(one, payload, size)

    def _take_in(self, result: wire.Result, payload: Sequence[wire.Buffer], size: int) -> None:
        self._unwritten += self.collector.on_result(result, payload, size)
        if self._recorder is not None and self.collector.waits(result.start):
            self._recorder.waits(result, payload)

    def _write_out(self) -> None:
        """Write what counts and has not been written."""
        ready, self._unwritten = self._unwritten, []
        for result, records in ready:
            if self._write is not None:
                self._write(result, records)
                continue
            if result.failures:
                self._tell(result.failures)
            self._dirty = True
            if result.grains:
                for one, payload, _ in results_of(result, records):
                    self.attempt(partial(self._outlet.write, one, payload))
                continue
            self.attempt(partial(self._outlet.write, result, records))
            if self._recorder is not None:
                self._recorder.wrote(result, records)

    def attempt(self, write: Callable[[], object]) -> None:
        """Write; the first failure ends the job, and nothing is written after it."""
        if self.error is not None:
            return
        try:
            write()
        except OutputError as error:
            self.error = error
            self._finish(str(error))

    def _tell(self, failures: list[wire.Failure]) -> None:
        shown, self._told = self._told, self._told + len(failures)
        for n, failure in enumerate(failures[: max(0, SHOWN - shown)], shown):
            more = "; further failures are not shown one by one" if n == SHOWN - 1 else ""
            trace = f"\n{failure.traceback.rstrip()}" if failure.traceback else ""
            self._say(
                f"{self._outlet.name(failure.index)} failed: {failure.type}: {failure.message}{more}{trace}", True
            )

    def settle(self, *, again: bool = False) -> None:
        """Send the receipts that are due, and the end if this is it; `again`: whatever was said last may be lost."""
        collector = self.collector
        if again and self.finished is not None:
            if self.finished.error:  # whatever job a ventilator has that is started anew
                self.finished = msgspec.structs.replace(self.finished, job=collector.job)
            self._deliver(self.finished)
        if collector.finished and collector.hit is not None and not (self._recorder is not None and collector.due):
            # First: a job that is being drained must not end for want of receipts, having found it. With a journal
            # there are none before it is in there.
            self._conclude()
        receipts = self._recorded(collector.take_receipts(again=again))
        if receipts or again or collector.full != self._full:
            self._full = collector.full
            limit, lag = collector.limit, 0.0
            if self._recorder is not None:
                limit, lag = self._recorder.limit, self._recorder.lag
            self._deliver(wire.Receipts(collector.job, receipts, collector.full, limit, lag))
        if collector.horizon is not None and (doubt := collector.horizon.take_doubt(again=again)):
            self.ask(doubt)
        if collector.finished:
            self._conclude()

    def _recorded(self, receipts: list[wire.Receipt]) -> list[wire.Receipt]:
        """Give receipts to the journal, if there is one; return those that may be sent."""
        if self._recorder is None:
            return receipts
        if self.finished is not None:
            return [] if self.error is not None else receipts
        self._write_out()
        found: list[wire.Receipt] = []
        self.attempt(partial(self._recorder.exchange, receipts, found))
        return found

    def _conclude(self) -> None:
        if self.finished is None:
            self._write_out()
            if self._recorder is None:
                self.attempt(self._outlet.finish)
            elif self._recorder.idle:
                self.attempt(partial(self._recorder.finish, self._outlet.finish))
            elif self.error is None:
                return  # it is done when all of it is in the journal
            if self.error is None:
                self._finish("")

    def _finish(self, error: str) -> None:
        if self.finished is None:
            c = self.collector
            self.finished = wire.Finished(c.job, c.counted, c.failed, c.duplicates, c.hit, error, c.strays)
            self._deliver(self.finished)

    def held(self) -> wire.Held:
        """Return what there is of the job already."""
        return self.collector.held if self._recorder is None else self._recorder.held

    def on_job(self, job: str, fingerprint: dict[str, str]) -> None:
        """This is the job."""
        self.collector.on_job(job, fingerprint)
        if self._recorder is not None:
            self.attempt(self._recorder.on_job)

    def on_total(self, total: int) -> None:
        """The job has `total` items."""
        self.collector.on_total(total)
        self.settle()

    def on_copied(self, start: int, stop: int) -> None:
        """Two workers run these items: the failure of one is not the last word."""
        self.collector.on_copied(start, stop)

    def on_void(self, start: int, stop: int) -> None:
        """Nobody wants the outcomes of these items any more."""
        self.collector.on_void(start, stop)

    def abandon(self) -> str:
        """The job is not whole: keep what there is; return where it is, or nothing."""
        if self.finished is not None and not self.finished.error:
            return ""
        kept = self._outlet.abandon()
        return kept if self._recorder is None else "; ".join(filter(None, [kept, self._recorder.hint]))

    def close(self) -> None:
        """Close the socket."""
        if self._watch is not None:
            self._watch.close()
        else:
            self._loop.remove(self._results)
            self._results.close()
        link.unlink(self.bound)
