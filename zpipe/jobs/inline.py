"""Runs a job to its end in this very process: no workers, no sockets. What a node decides is not known here."""

from __future__ import annotations

import contextlib
import sys
from functools import partial

from zpipe.core.policy import Policy
from zpipe.core.spec import JobSpec
from zpipe.input.sources import Source
from zpipe.jobs.drive import conclude, prepare, spin
from zpipe.jobs.foreground import Foreground
from zpipe.net.access import Access
from zpipe.nodes.inline import InlineSink, InlineVentilator
from zpipe.nodes.sifting import Plan
from zpipe.output.landing import Landing
from zpipe.report.progress import Progress
from zpipe.report.summary import Summary
from zpipe.stages.reading import StageReader
from zpipe.stages.staging import Staging

__all__ = ["run_inline"]


def run_inline(
    source: Source,
    spec: JobSpec,
    landing: Landing,
    policy: Policy,
    progress: Progress,
    *,
    chunk: int | None = None,
    fingerprint: dict[str, str] | None = None,
    plan: Plan | None = None,
    staging: Staging | None = None,
) -> Summary:
    """Run a whole pipeline here, each item of an ordinary function in this thread.

    With `staging` in its stages, of which `spec` is the first one's.

    What tasks print goes to stderr. Whatever goes wrong is told in the summary.
    """
    with contextlib.ExitStack() as stack:
        landing.give_up_on_error(stack)
        front = Foreground(stack, progress, Access())

        def broken(error: BaseException) -> None:
            why = "stopped by a second interrupt" if isinstance(error, KeyboardInterrupt) else "left from the debugger"
            ventilator.abort(why, 130)

        outlet = None
        if staging is not None:
            outlet = staging.outlet(front.loop, source, landing, plan=plan)
            source = outlet.flow
        ventilator = InlineVentilator(
            front.loop,
            source,
            spec,
            policy,
            say=front.say,
            broken=broken,
            chunk=chunk,
            fingerprint=fingerprint,
            plan=plan,
            tasks=outlet.flow if outlet is not None else None,
            reader=partial(StageReader, outlet.flow) if outlet is not None else None,
        )
        if staging is not None:
            prepare(ventilator, staging.specs)
            ventilator.known = range(1, len(staging.specs) + 1)
        stack.callback(ventilator.close)
        stack.callback(landing.close)
        sink = InlineSink(
            front.loop,
            None,
            landing,
            deliver=ventilator.deliver,
            say=front.say,
            outlet=outlet,
        )
        stack.callback(sink.close)
        before = sink.collector.counted
        front.begin()
        if outlet is not None:
            outlet.start(front.loop, sink, ventilator.director)
            sink.collector.issued = ventilator.issued
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        ventilator.start(sink)
        sink.settle()  # it may have been done but for its end
        spin(front, ventilator, None, outlet)
        summary = conclude(front, ventilator, sink, before)
        return summary if outlet is None else outlet.summary(summary)
