"""Runs nodes to their end: one loop, its deadlines, the person's interrupts and progress, and the summary.

`run_job` is a whole pipeline in one call: ventilator and sink in this thread, workers as local slots; the other two
run one role of it. What a node decides is not known here.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zpipe import endpoints, link
from zpipe.access import Access
from zpipe.allowed import implied
from zpipe.core import wire
from zpipe.core.policy import Policy
from zpipe.local import LocalSlots, announce, private_folder
from zpipe.outlet import Outlet
from zpipe.outputs import Output, OutputClosed
from zpipe.progress import Progress, Snapshot
from zpipe.recorder import Recorder
from zpipe.security import Guard
from zpipe.sink import Sink, SinkNode
from zpipe.slots import Config
from zpipe.sources import Source
from zpipe.summary import Summary
from zpipe.ventilator import Ventilator

__all__ = ["finish_job", "run_job", "run_sink", "run_ventilator"]

GRACE = 1.0
"""Seconds local workers have to leave after the job's end before they are killed."""

STARTING = 3.0
"""Seconds in which nobody need be told that this process's own workers are still starting."""

DRAINING = "finishing what is in flight; once more to stop now"

Say = Callable[[str, bool], None]


class _Interrupts:
    """Counts SIGINT, SIGTERM and SIGHUP while it is entered in the main thread; elsewhere signals are the caller's."""

    def __init__(self, loop: link.Loop) -> None:
        self._loop = loop
        self.count = 0
        self.handled = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:  # noqa: PYI034 - typing.Self came with Python 3.11
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            wanted = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]  # as nohup has it
            self._before = {n: signal.signal(n, self._on_signal) for n in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        self._loop.wake()
        if self.count - self.handled > 1:
            # The loop did not come round since the last one: it is held up in a write that nobody reads.
            raise KeyboardInterrupt


@contextlib.contextmanager
def _shown(progress: Progress, snapshot: Callable[[], Snapshot]) -> Iterator[None]:
    """Leave the terminal as it was, whatever happens in between."""
    try:
        yield
    finally:
        progress.close(snapshot())


def _abandon(output: Output) -> Callable[..., bool]:
    """Return what gives an output up if the block it is pushed on ends by an exception."""

    def leave(kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not None:
            output.abandon()
        return False

    return leave


class _Drive:
    """The loop around one node or two, with interrupts and progress."""

    def __init__(self, loop: link.Loop, progress: Progress, interrupts: _Interrupts) -> None:
        self.loop, self.progress, self.interrupts = loop, progress, interrupts
        self.began = time.monotonic()

    def turn(self, deadline: float | None, snapshot: Callable[[], Snapshot]) -> float:
        """Wait for the next event or deadline, show progress if due; return the time."""
        now = time.monotonic()
        show = self.progress.deadline(now)
        if show <= now:
            self.progress.update(snapshot(), now)
            show = self.progress.deadline(now)
        due = show if deadline is None else min(show, deadline)
        self.loop.turn(min(60.0, max(0.0, due - now)))
        return time.monotonic()

    def interrupted(self, drain: Callable[[], None], abort: Callable[[], None], told: str = DRAINING) -> None:
        """Act on the person's interrupts since the last call: the first drains, the second stops."""
        while self.interrupts.handled < self.interrupts.count:
            self.interrupts.handled += 1
            if self.interrupts.handled == 1:
                self.progress.say(f"interrupted: {told}", error=True)
                drain()
            else:
                abort()


def run_job(
    source: Source,
    spec: wire.JobSpec,
    output: Output,
    policy: Policy,
    progress: Progress,
    *,
    workers: int,
    bind: str | None = None,
    ordered: bool = False,
    chunk: int | None = None,
    heartbeat: float = 10.0,
    lane_ports: Sequence[int] = (),
    results_port: int = 0,
    letters: Output | None = None,
    joblog: Output | None = None,
    fingerprint: dict[str, str] | None = None,
    recorder: Recorder | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
) -> Summary:
    """Run a whole pipeline here with `workers` local slots, and others that join at `bind`, if given.

    Raises UsageError for an address that can't be bound. Whatever goes wrong later is told in the summary.
    """
    with contextlib.ExitStack() as stack:
        for made in (output, letters, joblog):
            if made is not None:
                stack.push(_abandon(made))
        folder = stack.enter_context(private_folder())
        url = bind or f"ipc://{folder}/control"
        loop = link.Loop()
        stack.callback(loop.close)
        interrupts = stack.enter_context(_Interrupts(loop))
        say: Say = lambda text, error: progress.say(text, error=error)  # noqa: E731
        context = link.make_context()
        stack.callback(context.destroy, 1000)
        guard = Guard(loop, context, access.keys, say)
        stack.callback(guard.close)
        ventilator = Ventilator(
            loop,
            context,
            source,
            spec,
            policy,
            say=say,
            chunk=chunk,
            heartbeat=heartbeat,
            lane_ports=lane_ports,
            fingerprint=fingerprint,
            guard=guard,
            hint=access.hint,
        )
        stack.callback(ventilator.close)

        def deliver(message: wire.Receipts | wire.Finished) -> None:
            if isinstance(message, wire.Receipts):
                ventilator.on_receipts(message)
            else:
                ventilator.on_finished(message)

        if recorder is not None:
            stack.callback(recorder.close)
        sink = Sink(
            loop,
            context,
            output,
            deliver=deliver,
            say=say,
            ordered=ordered,
            heartbeat=heartbeat,
            letters=letters,
            joblog=joblog,
            recorder=recorder,
            guard=guard,
        )
        stack.callback(sink.close)
        slots: LocalSlots | None = None
        if workers and bind is None:
            # Started first: their interpreter starts while ours sets up; they wait for the socket to appear.
            slots = LocalSlots(loop, Config(url, workers, heartbeat, terse=True, allowed=implied(spec)), say)
        try:
            ventilator.bind(url)
            announce(folder, ventilator.bound)
            if bind is not None:
                _caution(ventilator.bound, access, say)
                progress.say(f"listening; start workers with: {ventilator.worker_line}{_with(access)}")
                if workers:
                    near = endpoints.reachable(ventilator.bound, "127.0.0.1")
                    config = Config(near, workers, heartbeat, terse=True, keys=access.keys, allowed=implied(spec))
                    slots = LocalSlots(loop, config, say)
            sink.bind(endpoints.sibling(ventilator.bound, "results", results_port))
            before = sink.collector.counted
            drive = _Drive(loop, progress, interrupts)
            if recorder is None:  # else results may come of what was sent before this process was there
                sink.collector.issued = ventilator.issued
            ventilator.start(sink)
            sink.settle()  # it may have been done but for its end
            _spin(drive, ventilator, slots if bind is None else None)
            return _conclude(drive, ventilator, sink, before)
        finally:
            ventilator.close()
            if slots is not None:
                slots.stop(GRACE)


def _caution(bound: str, access: Access, say: Say) -> None:
    text = access.caution(bound)
    if text:
        say(text, True)


def _with(access: Access) -> str:
    return f" (on hosts that have the key, {access.keys.origin})" if access.keys is not None else ""


def _spin(drive: _Drive, ventilator: Ventilator, slots: LocalSlots | None) -> None:
    """Turn the loop until the ventilator's job has ended. `slots`: the only workers there can be."""
    hush = drive.began + STARTING if slots is not None else 0.0

    def snapshot() -> Snapshot:
        total, exact = ventilator.total()
        ledger = ventilator.ledger
        return Snapshot(
            done=ledger.done,
            failed=ledger.failed,
            total=total,
            exact=exact,
            workers=ventilator.director.workers,
            elapsed=time.monotonic() - drive.began,
            started=ventilator.director.begun,
            note=ventilator.waiting() if time.monotonic() >= hush else "",
        )

    def drain() -> None:
        ventilator.drain("interrupted", 130)

    def abort() -> None:
        ventilator.abort("stopped by a second interrupt", 130)

    with _shown(drive.progress, snapshot):
        while ventilator.ended is None:
            now = drive.turn(ventilator.deadline(), snapshot)
            drive.interrupted(drain, abort)
            ventilator.on_tick(now)
            ventilator.on_wake()
            if slots is not None and slots.ended and ventilator.ended is None:
                ventilator.abort("all local workers have ended before the job was done; see above why", 1)


def _conclude(drive: _Drive, ventilator: Ventilator, sink: Sink | None, before: int = 0) -> Summary:
    """Make the summary of a job that has ended, abandoning the output if the job is not whole.

    `before` of its items were done when it was resumed.
    """
    ended, ledger, director = ventilator.ended, ventilator.ledger, ventilator.director
    assert ended is not None
    finished = director.finished
    collector = sink.collector if sink is not None else None
    done = collector.counted if collector is not None else finished.done if finished else ledger.done
    failed = collector.failed if collector is not None else finished.failed if finished else ledger.failed
    seconds = time.monotonic() - drive.began
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
        requeued=ledger.requeued,
        retried=ledger.retries.count,
        duplicates=collector.duplicates if collector is not None else finished.duplicates if finished else 0,
        copies=ledger.speculation.copies,
        copies_won=ledger.speculation.won,
        hit=hit,
        interrupted=ended.status == 130 and bool(ended.error),
        error=ended.error,
        status=ended.status or 1,
        closed=quiet,
        note=sink.abandon() if sink is not None and ended.error else "",
    )


def finish_job(output: Output, recorder: Recorder, *, ordered: bool, letters: Output | None = None) -> Summary:
    """Bring a job to its end whose results are all in the journal: what is not in place yet is put there."""
    with contextlib.ExitStack() as stack:
        stack.push(_abandon(output))
        stack.callback(recorder.close)
        collector = recorder.resume(output, ordered=ordered)
        recorder.finish(Outlet(output, letters).finish)
        done = collector.counted
        return Summary(done=done, before=done, failed=collector.failed, total=collector.total, hit=collector.hit)


def run_ventilator(
    source: Source,
    spec: wire.JobSpec,
    policy: Policy,
    progress: Progress,
    *,
    bind: str,
    chunk: int | None = None,
    heartbeat: float = 10.0,
    lane_ports: Sequence[int] = (),
    fingerprint: dict[str, str] | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
) -> Summary:
    """Run the ventilator of a job whose workers and sink are elsewhere. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        loop = link.Loop()
        stack.callback(loop.close)
        interrupts = stack.enter_context(_Interrupts(loop))
        context = link.make_context()
        stack.callback(context.destroy, 1000)
        say: Say = lambda text, error: progress.say(text, error=error)  # noqa: E731
        guard = Guard(loop, context, access.keys, say)
        stack.callback(guard.close)
        ventilator = Ventilator(
            loop,
            context,
            source,
            spec,
            policy,
            say=say,
            chunk=chunk,
            heartbeat=heartbeat,
            lane_ports=lane_ports,
            fingerprint=fingerprint,
            guard=guard,
            hint=access.hint,
        )
        stack.callback(ventilator.close)
        ventilator.bind(bind)
        announce(stack.enter_context(private_folder()), ventilator.bound)
        _caution(ventilator.bound, access, say)
        lines = ventilator.director.sink.line, ventilator.worker_line
        progress.say(f"listening; start a sink with: {lines[0]}, and workers with: {lines[1]}{_with(access)}")
        drive = _Drive(loop, progress, interrupts)
        ventilator.start()
        _spin(drive, ventilator, None)
        return _conclude(drive, ventilator, None)


def run_sink(
    output: Output,
    progress: Progress,
    *,
    url: str,
    bind: str,
    advertise: str = "",
    ordered: bool = False,
    heartbeat: float = 10.0,
    patience: float | None = None,
    letters: Output | None = None,
    joblog: Output | None = None,
    recorder: Recorder | None = None,
    access: Access = Access(),  # noqa: B008 - it never changes
) -> Summary:
    """Run a sink for the ventilator at `url`, to its job's end. Raises UsageError."""
    with contextlib.ExitStack() as stack:
        for made in (output, letters, joblog):
            if made is not None:
                stack.push(_abandon(made))
        loop = link.Loop()
        stack.callback(loop.close)
        interrupts = stack.enter_context(_Interrupts(loop))
        context = link.make_context()
        stack.callback(context.destroy, 1000)
        if recorder is not None:
            stack.callback(recorder.close)
        say: Say = lambda text, error: progress.say(text, error=error)  # noqa: E731
        guard = Guard(loop, context, access.keys, say)
        stack.callback(guard.close)
        node = SinkNode(
            loop,
            context,
            output,
            url,
            say=say,
            ordered=ordered,
            heartbeat=heartbeat,
            patience=patience,
            letters=letters,
            joblog=joblog,
            recorder=recorder,
            guard=guard,
            keys=access.keys,
        )
        stack.callback(node.close)
        node.start(bind, advertise)
        _caution(node.sink.bound, access, say)
        sink, collector = node.sink, node.sink.collector
        before = collector.counted
        sink.settle()  # it may have been done but for its end
        drive = _Drive(loop, progress, interrupts)

        def snapshot() -> Snapshot:
            return Snapshot(
                done=collector.counted,
                failed=collector.failed,
                total=collector.total,
                exact=True,
                elapsed=time.monotonic() - drive.began,
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

        with _shown(progress, snapshot):
            while node.gone is None and not stopped:
                now = drive.turn(node.deadline(), snapshot)
                if node.may_drain:
                    drive.interrupted(drain, stop)
                else:
                    drive.interrupted(stop, stop, "stopping; what has come so far is kept")
                node.on_tick(now)
                if draining and node.gone is None and not node.may_drain and node.sink.finished is None:
                    stop()  # there is nobody any more to drain the job
        whole = sink.finished is not None and not sink.finished.error
        stopped = stopped or draining
        error = "" if whole else _why_not(node, stopped)
        seconds = time.monotonic() - drive.began
        return Summary(
            done=collector.counted,
            before=before,
            failed=collector.failed,
            total=collector.total,
            seconds=seconds,
            items_per_second=(collector.counted - before) / seconds if seconds > 0 else 0.0,
            duplicates=collector.duplicates,
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
