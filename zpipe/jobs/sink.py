"""Runs a sink in a process of its own to its job's end."""

from __future__ import annotations

import contextlib

from zpipe.jobs.foreground import Foreground
from zpipe.net.access import Access
from zpipe.nodes.sink_node import SinkNode
from zpipe.output.landing import Landing
from zpipe.output.outputs import OutputClosed
from zpipe.report.progress import Progress, Snapshot
from zpipe.report.summary import Summary

__all__ = ["run_sink"]


def run_sink(
    landing: Landing,
    progress: Progress,
    *,
    url: str,
    bind: str,
    advertise: str = "",
    heartbeat: float = 10.0,
    patience: float | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
) -> Summary:
    """Run a sink for the ventilator at `url`, to its job's end. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        landing.give_up_on_error(stack)
        front = Foreground(stack, progress, access)
        stack.callback(landing.close)
        node = SinkNode(
            front.loop,
            front.context,
            landing,
            url,
            say=front.say,
            heartbeat=heartbeat,
            patience=patience,
            guard=front.guard,
            keys=access.keys,
        )
        stack.callback(node.close)
        node.start(bind, advertise)
        front.caution(node.sink.bound)
        sink, collector = node.sink, node.sink.collector
        before = collector.counted
        sink.settle()  # it may have been done but for its end
        front.begin()

        def snapshot() -> Snapshot:
            return Snapshot(
                done=collector.counted,
                failed=collector.failed,
                total=collector.total,
                exact=True,
                elapsed=front.elapsed,
                started=bool(collector.counted),
                note=node.waiting(),
            )

        stopped = draining = False

        def drain() -> None:
            nonlocal draining
            draining = True
            node.drain()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            node.interrupt()

        with front.shown(snapshot):
            while node.gone is None and not stopped:
                now = front.turn(node.deadline(), snapshot)
                if node.may_drain:
                    front.interrupted(drain, stop)
                else:
                    front.interrupted(stop, stop, "stopping; what has come so far is kept")
                node.on_tick(now)
                if draining and node.gone is None and not node.may_drain and node.sink.finished is None:
                    stop()  # there is nobody any more to drain the job
        whole = sink.finished is not None and not sink.finished.error
        stopped = stopped or draining
        error = "" if whole else _why_not(node, stopped)
        seconds = front.elapsed
        return Summary(
            done=collector.counted,
            before=before,
            failed=collector.failed,
            total=collector.total,
            seconds=seconds,
            items_per_second=(collector.counted - before) / seconds if seconds > 0 else 0.0,
            duplicates=collector.duplicates,
            strays=collector.strays,
            hit=collector.hit,
            interrupted=stopped and not whole,
            error=error,
            closed=isinstance(sink.error, OutputClosed),
            note="" if whole else sink.abandon(),
        )


def _why_not(node: SinkNode, stopped: bool) -> str:
    if node.sink.error is not None:
        return str(node.sink.error)
    if stopped:
        return "interrupted before the job's end"
    if node.stopped:
        return f"the job ended before it was whole: {node.stopped}"
    return (node.gone.error if node.gone is not None else "") or "the ventilator ended the job before it was whole"
