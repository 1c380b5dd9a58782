"""Runs a job to its end, and sums it up. What a node decides is not known here.

`run_job` is a whole pipeline in one call: ventilator and sink in this thread, workers as local slots; `run_ventilator`
is for one whose workers and sink are elsewhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from zpipe.core import wire
from zpipe.core.policy import Policy
from zpipe.core.spec import JobSpec
from zpipe.input.sources import Source
from zpipe.jobs.foreground import Foreground
from zpipe.net import endpoints
from zpipe.net.access import Access
from zpipe.nodes.config import Config
from zpipe.nodes.local import LocalSlots, announce, private_folder
from zpipe.nodes.sink import Sink
from zpipe.nodes.ventilator import Ventilator
from zpipe.output.landing import Landing
from zpipe.output.outputs import OutputClosed
from zpipe.report.progress import Progress, Snapshot
from zpipe.report.summary import Summary
from zpipe.running.allowed import Allowed, implied

if TYPE_CHECKING:
    from zpipe.nodes.sifting import Plan
    from zpipe.nodes.started import Started
    from zpipe.stages.flow import Flow
    from zpipe.stages.outlet import StageOutlet
    from zpipe.stages.reading import StageReader
    from zpipe.stages.staging import Staging

__all__ = ["conclude", "finish_job", "prepare", "run_job", "run_ventilator", "spin"]

GRACE = 1.0
"""Seconds local workers have to leave after the job's end before they are killed."""

STARTING = 3.0
"""Seconds in which nobody need be told that this process's own workers are still starting."""


def run_job(
    source: Source,
    spec: JobSpec,
    landing: Landing,
    policy: Policy,
    progress: Progress,
    *,
    workers: int,
    bind: str | None = None,
    chunk: int | None = None,
    heartbeat: float = 10.0,
    lane_ports: Sequence[int] = (),
    results_port: int = 0,
    fingerprint: dict[str, str] | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
    plan: Plan | None = None,
    staging: Staging | None = None,
    started: Started | None = None,
) -> Summary:
    """Run a whole pipeline here with `workers` local slots, and others that join at `bind`, if given.

    With `staging` in its stages, of which `spec` is the first one's. `started`: the slots' process, if it is there
    already. Raises UsageError for an address that can't be bound. Whatever goes wrong later is told in the summary.
    """
    with contextlib.ExitStack() as stack:
        landing.give_up_on_error(stack)
        folder = stack.enter_context(private_folder())
        url = bind or f"ipc://{folder}/control"
        front = Foreground(stack, progress, access)
        outlet = reader = None
        if staging is not None:
            from zpipe.stages.reading import StageReader

            outlet = staging.outlet(front.loop, source, landing, plan=plan)
            source, reader = outlet.flow, partial(StageReader, outlet.flow)
        ventilator = _ventilator(
            stack,
            front,
            source,
            spec,
            policy,
            chunk=chunk,
            heartbeat=heartbeat,
            lane_ports=lane_ports,
            fingerprint=fingerprint,
            plan=plan,
            tasks=outlet.flow if outlet is not None else None,
            reader=reader,
        )
        stack.callback(landing.close)
        sink = Sink(
            front.loop,
            front.context,
            landing,
            deliver=partial(_deliver, ventilator),
            say=front.say,
            heartbeat=heartbeat,
            guard=front.guard,
            outlet=outlet,
        )
        stack.callback(sink.close)
        slots: LocalSlots | None = None
        allowed = implied(spec) if staging is None else prepare(ventilator, staging.specs)
        try:
            ventilator.bind(url)
            announce(folder, ventilator.bound)
            if bind is not None:
                front.caution(ventilator.bound)
            if workers:
                near = url if bind is None else endpoints.reachable(ventilator.bound, "127.0.0.1")
                config = Config(near, workers, heartbeat, terse=True, keys=access.keys, allowed=allowed)
                slots = LocalSlots(front.loop, config, front.say, started)
            sink.bind(endpoints.sibling(ventilator.bound, "results", results_port))
            if bind is not None:  # only now: who hears it may be quick to take all files there are
                progress.say(f"listening; start workers with: {ventilator.worker_line}{front.key_note}")
            before = sink.collector.counted
            front.begin()
            if outlet is not None:
                outlet.start(front.loop, sink, ventilator.director)
            # With a journal results may come of what an earlier process has sent, unless there are stages.
            if landing.recorder is None or outlet is not None:
                sink.collector.issued = ventilator.issued
            ventilator.start(sink)
            sink.settle()  # it may have been done but for its end
            spin(front, ventilator, slots if bind is None else None, outlet)
            summary = conclude(front, ventilator, sink, before)
            return summary if outlet is None else outlet.summary(summary)
        finally:
            ventilator.close()
            if slots is not None:
                slots.stop(GRACE)


def prepare(ventilator: Ventilator, specs: Sequence[JobSpec]) -> Allowed | None:
    """Have a ventilator know of all its job's stages; return what its own workers are to allow."""
    allowed = implied(*specs)
    ventilator.allow = allowed.options() if allowed is not None else ""
    ventilator.ledger.returns.limited = any(spec.limited for spec in specs)
    return allowed


def _deliver(ventilator: Ventilator, message: wire.Receipts | wire.Finished) -> None:
    if isinstance(message, wire.Receipts):
        ventilator.on_receipts(message)
    else:
        ventilator.on_finished(message)


def _ventilator(
    stack: contextlib.ExitStack,
    front: Foreground,
    source: Source,
    spec: JobSpec,
    policy: Policy,
    *,
    chunk: int | None,
    heartbeat: float,
    lane_ports: Sequence[int],
    fingerprint: dict[str, str] | None,
    plan: Plan | None,
    tasks: Flow | None = None,
    reader: Callable[..., StageReader] | None = None,
) -> Ventilator:
    """Return a ventilator that is closed when the stack is unwound."""
    made = Ventilator(
        front.loop,
        front.context,
        source,
        spec,
        policy,
        say=front.say,
        chunk=chunk,
        heartbeat=heartbeat,
        lane_ports=lane_ports,
        fingerprint=fingerprint,
        tasks=tasks,
        guard=front.guard,
        hint=front.access.hint,
        plan=plan,
        reader=reader,
    )
    stack.callback(made.close)
    return made


def spin(
    front: Foreground, ventilator: Ventilator, slots: LocalSlots | None, outlet: StageOutlet | None = None
) -> None:
    """Turn the loop until the ventilator's job has ended. `slots`: the only workers there can be."""
    hush = front.began + STARTING if slots is not None else 0.0

    def snapshot() -> Snapshot:
        total, exact = ventilator.total()
        ledger = ventilator.ledger
        now = Snapshot(
            done=ledger.account.done,
            failed=ledger.account.failed,
            total=total,
            exact=exact,
            workers=ventilator.director.workers,
            elapsed=front.elapsed,
            started=ventilator.director.lifecycle.begun,
            note=ventilator.waiting() if time.monotonic() >= hush else "",
            cached=sum(ventilator.spared),
        )
        return now if outlet is None else outlet.snapshot(now)

    def drain() -> None:
        ventilator.drain("interrupted", 130)

    def abort() -> None:
        ventilator.abort("stopped by a second interrupt", 130)

    with front.shown(snapshot):
        while ventilator.ended is None:
            now = front.turn(ventilator.deadline(), snapshot)
            front.interrupted(drain, abort)
            ventilator.on_tick(now)
            ventilator.on_wake()
            if slots is not None and slots.ended and ventilator.ended is None:
                ventilator.desert()


def conclude(front: Foreground, ventilator: Ventilator, sink: Sink | None, before: int = 0) -> Summary:
    """Make the summary of a job that has ended, abandoning the output if the job is not whole.

    `before` of its items were done when it was resumed.
    """
    ended, ledger, director = ventilator.ended, ventilator.ledger, ventilator.director
    assert ended is not None
    finished = director.lifecycle.finished
    collector = sink.collector if sink is not None else None
    done = collector.counted if collector is not None else finished.done if finished else ledger.account.done
    failed = collector.failed if collector is not None else finished.failed if finished else ledger.account.failed
    seconds = front.elapsed
    total = ventilator.total()[0] if not ledger.exhausted else ledger.next
    hit = finished.hit if finished is not None else None
    quiet = sink is not None and isinstance(sink.error, OutputClosed)
    return Summary(
        done=done,
        before=before,
        failed=failed,
        total=total if ledger.exhausted else None,
        seconds=seconds,
        items_per_second=(done - before) / seconds if seconds > 0 else 0.0,
        workers=director.counts.joined,
        lost=director.counts.lost,
        requeued=ledger.returns.requeued,
        retried=ledger.retries.count,
        duplicates=collector.duplicates if collector is not None else finished.duplicates if finished else 0,
        strays=collector.strays if collector is not None else finished.strays if finished else 0,
        unowned=ledger.account.unowned,
        cached=ventilator.spared[0],
        repeated=ventilator.spared[1],
        copies=ledger.speculation.copies,
        copies_won=ledger.speculation.won,
        hit=hit,
        interrupted=ended.status == 130 and bool(ended.error),
        error=ended.error,
        status=ended.status or 1,
        closed=quiet,
        note=sink.abandon() if sink is not None and ended.error else "",
    )


def finish_job(landing: Landing, staging: Staging | None = None) -> Summary:
    """Bring a job to its end whose results are all in the journal: what is not in place yet is put there."""
    with contextlib.ExitStack() as stack:
        landing.give_up_on_error(stack)
        stack.callback(landing.close)
        assert landing.recorder is not None
        collector = landing.collector()
        landing.recorder.finish(landing.outlet().finish)
        done = collector.counted
        made = Summary(done=done, before=done, failed=collector.failed, total=collector.total, hit=collector.hit)
        return made if staging is None else staging.finished(made, landing.recorder.journal)


def run_ventilator(
    source: Source,
    spec: JobSpec,
    policy: Policy,
    progress: Progress,
    *,
    bind: str,
    chunk: int | None = None,
    heartbeat: float = 10.0,
    lane_ports: Sequence[int] = (),
    fingerprint: dict[str, str] | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
    plan: Plan | None = None,
) -> Summary:
    """Run the ventilator of a job whose workers and sink are elsewhere. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        front = Foreground(stack, progress, access)
        ventilator = _ventilator(
            stack,
            front,
            source,
            spec,
            policy,
            chunk=chunk,
            heartbeat=heartbeat,
            lane_ports=lane_ports,
            fingerprint=fingerprint,
            plan=plan,
        )
        ventilator.bind(bind)
        announce(stack.enter_context(private_folder()), ventilator.bound)
        front.caution(ventilator.bound)
        lines = ventilator.director.sink.line, ventilator.worker_line
        progress.say(f"listening; start a sink with: {lines[0]}, and workers with: {lines[1]}{front.key_note}")
        front.begin()
        ventilator.start()
        spin(front, ventilator, None)
        return conclude(front, ventilator, None)
