"""Measures jobs whose items and values are data, as `zpipe.measuring.benchmark` does pipelines whose are pickles.

Such jobs are the command line's, so each measurement is one of those, from its source to its output in the items'
order, with workers of its own on this machine.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zpipe import data
from zpipe.core.policy import Policy
from zpipe.core.spec import Codec, JobSpec, TaskSpec
from zpipe.errors import UsageError, ZpipeError
from zpipe.input.sources import Batch, IterSource, Source, pack
from zpipe.jobs.drive import run_job
from zpipe.measuring.benchmark import END, TRIPS, WARM, Mark, Payloads, Plan, Tell, environment, too_slow
from zpipe.measuring.figures import Figures, RoundTrips, Throughput, round_trips, size_text
from zpipe.net import keys
from zpipe.net.access import Access, admit
from zpipe.net.versions import our_versions
from zpipe.nodes.started import cores
from zpipe.output.folds import CallOutput
from zpipe.output.landing import Landing
from zpipe.report.progress import QuietProgress
from zpipe.report.summary import Summary

__all__ = ["run_coded"]

LOCAL = "tcp://127.0.0.1:0"


def run_coded(
    plan: Plan,
    tell: Tell,
    codec: Codec,
    *,
    workers: int | None = None,
    key_file: str | None = None,
    insecure: bool = False,
    tcp: bool = False,
    curve: bool = False,
    heartbeat: float = 10.0,
) -> Figures:
    """Measure jobs of this codec; all else as `benchmark.run` has it. Raises UsageError and ZpipeError."""
    workers = cores() if workers is None else workers
    if not workers:
        raise UsageError("--workers 0 leaves nobody to work")
    with contextlib.ExitStack() as stack:
        if curve:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zpipe-bench-"))) / "key"
            keys.create(made)
            key_file = str(made)
        bind = LOCAL if tcp or curve else None
        access = admit(bind, key_file=key_file, insecure=insecure) if bind is not None else Access()
        return _Bench(plan, tell, codec, workers, bind, access, heartbeat).measure(with_key=curve)


class _Bench:
    """Runs one job after another, each of which is a measurement."""

    def __init__(
        self, plan: Plan, tell: Tell, codec: Codec, workers: int, bind: str | None, access: Access, heartbeat: float
    ) -> None:
        self._plan, self._tell, self._codec = plan, tell, codec
        self._workers, self._bind, self._access, self._heartbeat = workers, bind, access, heartbeat
        self._lost = 0

    def measure(self, *, with_key: bool) -> Figures:
        """Measure all there is to measure."""
        began, where = time.monotonic(), environment()
        loads: list[Throughput] = []
        trips: list[RoundTrips] = []
        for payload in self._plan.payloads:
            payloads = Payloads(payload, text=self._codec == "json")
            name = size_text(payload) if payload else "numbers"
            self._tell(f"{name}: one there and back at a time", False)
            trips.append(self._there_and_back(payloads))
            for chunk in self._plan.chunks:
                self._tell(f"{name}: full load in chunks of {chunk or 'automatic size'}", False)
                loads.append(self._full_load(payloads, chunk))
        self._tell("", False)
        reached = "ipc" if self._bind is None else f"tcp{' with a key' if with_key else ''}"
        return Figures(
            where=where,
            endpoint=f"{reached}, items and values as {data.TITLES[self._codec]}",
            workers=self._workers,
            workers_left=self._workers,
            lost=self._lost,
            seconds=time.monotonic() - began,
            throughput=loads,
            round_trips=trips,
        )

    def _there_and_back(self, payloads: Payloads) -> RoundTrips:
        trips = _Trips(payloads, self._codec, self._plan.share)
        self._run(trips, trips, 1)
        if not trips.took:
            raise too_slow(payloads.size, self._plan.share)
        return round_trips(payloads.size, trips.took)

    def _full_load(self, payloads: Payloads, chunk: int | None) -> Throughput:
        load = _Load(payloads, self._codec, self._plan.share)
        self._run(IterSource(load.items(), "what is measured with", self._codec), load, chunk)
        first, last = load.first or load.zero, load.last
        if last is None or last.at <= first.at:
            raise too_slow(payloads.size, self._plan.share)
        return Throughput(
            payload=payloads.size,
            chunk=chunk,
            items=last.results - first.results,
            chunks=last.came[0] - first.came[0],
            seconds=last.at - first.at,
            checked=load.mark.results,
        )

    def _run(self, source: Source, output: _Load | _Trips, chunk: int | None) -> Summary:
        spec = JobSpec(TaskSpec("import", "zpipe.measuring.echo:echo"), encoding=output.encoding, codec=self._codec)
        summary = run_job(
            source,
            spec,
            Landing(output, ordered=True),
            Policy(our_versions(), codec=self._codec),
            QuietProgress(sys.stderr),
            workers=self._workers,
            bind=self._bind,
            chunk=chunk,
            heartbeat=self._heartbeat,
            access=self._access,
        )
        if summary.interrupted:
            raise KeyboardInterrupt
        if summary.error:
            raise ZpipeError(summary.error)
        self._lost += summary.lost
        return summary


class _Load(CallOutput):
    """As many items as go through, until the share is over; its time begins with the first that is asked for."""

    def __init__(self, payloads: Payloads, codec: Codec, share: float) -> None:
        super().__init__(self._check, codec)
        self._payloads, self._share = payloads, share
        self.zero = self.mark = Mark(time.monotonic())
        self.first: Mark | None = None
        self.last: Mark | None = None

    def items(self) -> Iterator[Any]:
        """Yield them."""
        self.zero = self.mark = Mark(time.monotonic())
        yield from self._payloads.until(self.zero.at + self._share * END)

    def _check(self, values: list[Any]) -> None:
        before = self.mark
        self._payloads.check(before.results, values)
        chunks, items = before.came
        mark = self.mark = Mark(time.monotonic(), before.results + len(values), (chunks + 1, items + len(values)))
        began = self.zero.at
        if mark.at < began + self._share * WARM:
            self.first = mark
        elif mark.at <= began + self._share * END or self.last is None:
            self.last = mark


class _Trips(CallOutput):
    """A source and an output: each item is there to be taken when the one before it has come back."""

    def __init__(self, payloads: Payloads, codec: Codec, share: float) -> None:
        super().__init__(self._check, codec)
        self._payloads, self._share = payloads, share
        self.took: list[float] = []
        self.exhausted = False
        self.exact = False
        self._wake: Callable[[], None] = lambda: None
        self._end = 0.0
        self._trip = 0
        self._sent: float | None = None

    # as a source

    def start(self, wake: Callable[[], None]) -> None:
        """Remember whom to tell that there is another item."""
        self._wake = wake

    def fileno(self) -> None:
        """Return None: there is nothing to wait on."""

    def take(self, most: int) -> Batch | None:  # noqa: ARG002 - there is one
        """Return the next item, if nothing is under way, and none once the share is over."""
        if self._sent is not None or self.exhausted:
            return None
        now = time.monotonic()
        self._end = self._end or now + self._share * END
        if now >= self._end and self.took:
            self.exhausted = self.exact = True
            return None
        batch, _ = pack([self._payloads[self._trip]], self._trip, "what is measured with", self._codec)
        self._sent = time.perf_counter()
        return batch

    def skip(self, most: int) -> int:  # noqa: ARG002
        """Return 0: nothing is done before."""
        return 0

    def remaining(self) -> int | None:
        """Return how many items are left, which nobody knows before the end."""
        return 0 if self.exhausted else None

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    # as an output

    def _check(self, values: list[Any]) -> None:
        assert self._sent is not None
        seconds, self._sent = time.perf_counter() - self._sent, None
        self._payloads.check(self._trip, values)
        self._trip += 1
        if self._trip > TRIPS or time.monotonic() > self._end:
            self.took.append(seconds)
        self._wake()
