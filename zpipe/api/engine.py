"""The pipeline's thread: a ventilator and a sink on one loop, with local workers, for as long as a script wants them.

Other threads hand it work (`submit`, `add`), wake it, and wait for outcomes; whatever they share is its `Work`. It
lives on until it is told to stop and everything that was handed to it has an outcome.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from zpipe.api import exits
from zpipe.api.condition import Condition, Flag
from zpipe.api.crew import Crew
from zpipe.api.exits import CUT, INTERRUPTED
from zpipe.api.functions import Function, Functions
from zpipe.api.futures import PipelineFuture
from zpipe.api.held import Held
from zpipe.api.helm import WATCH, Helm
from zpipe.api.maps import MapCall
from zpipe.api.work import Work
from zpipe.broken import BrokenPipeline
from zpipe.core import wire
from zpipe.core.claim import Schedule
from zpipe.core.policy import Policy
from zpipe.core.spec import Call, JobSpec
from zpipe.jobs.terms import Terms, Wishes
from zpipe.net import endpoints, link
from zpipe.net.access import Access
from zpipe.net.loop import Loop
from zpipe.net.security import Guard
from zpipe.net.versions import our_versions
from zpipe.nodes.local import private_folder
from zpipe.nodes.sink import Sink
from zpipe.nodes.ventilator import Ventilator
from zpipe.output.landing import Landing
from zpipe.output.outputs import NoOutput
from zpipe.report.progress import Progress, Snapshot

if TYPE_CHECKING:
    from zpipe.nodes.sifting import Plan
    from zpipe.nodes.started import Started

__all__ = ["Engine"]

_LOG = logging.getLogger("concurrent.futures.zpipe")


class Engine:
    """One pipeline's thread and what it shares with others. Raises UsageError for an address that can't be bound."""

    future = PipelineFuture

    def __init__(
        self,
        *,
        workers: int,
        bind: str | None,
        setup: JobSpec | None,
        chunk: int | None,
        heartbeat: float,
        progress: Progress,
        access: Access,
        terms: Terms,
        speculate: bool = False,
        wishes: Wishes = Wishes(),  # noqa: B008 - it never changes
        key: Callable[..., object] | None = None,
        schedule: Schedule | None = None,
        labels: Sequence[str] = (),
        started: Started | None = None,
    ) -> None:
        self._wishes, self._key = wishes, key
        self.labels = list(labels)
        self._progress, self._heartbeat, self._access = progress, heartbeat, access
        self._policy = Policy(our_versions(), speculate=speculate, max_crashes=terms.max_crashes)
        self._crew = Crew(workers, heartbeat, access.keys, self._say, labels, started)
        self.concurrency = terms.spec.concurrency
        """Calls of a coroutine function that each worker runs at a time; 0: as many as it finds right."""
        # Whoever holds it may be interrupted by the end of another pipeline, or pickle what uses this one.
        self.lock = threading.RLock()
        self._chunk = chunk
        self._identify = _identify if wishes.any else None
        self.functions = Functions(chunk, terms.spec.max_tasks or None, self._identify)
        self.broken: BaseException | None = None
        self.closed = ""
        """Why nothing more may be handed over."""
        self._pid = os.getpid()
        spec = terms.spec
        self._work = Work(setup, msgspec.structs.replace(spec, keep=spec.max_result) if wishes.any else spec)
        self._work.schedule = schedule
        self._asleep = self._news = False
        self._began = time.monotonic()
        self._said: list[str] = []
        self._aborted, self._weeding = "", 0.0
        self._stack = contextlib.ExitStack()
        self.finished = Flag()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="zpipe pipeline", daemon=True)
        try:
            with Held():  # an interrupt in there would leave sockets that nobody closes, or a thread that never begins
                self._begin(bind)
        except BaseException:
            if self._thread.is_alive():
                self.abort(INTERRUPTED)
            raise

    def _begin(self, bind: str | None) -> None:
        try:
            self._open(bind)
        except BaseException:
            self._crew.stop()
            self._stack.close()
            raise
        self._set_off()
        exits.register(self)

    def _set_off(self) -> None:
        assert self._thread is not None
        self._thread.start()

    def _open(self, bind: str | None) -> None:
        stack = self._stack
        url = bind or f"ipc://{stack.enter_context(private_folder())}/control"
        self._loop = Loop()
        stack.callback(self._loop.close)
        context = link.make_context()
        stack.callback(context.destroy, 1000)
        work, say = self._work, self._say
        first = work.setup or work.terms
        guard = Guard(self._loop, context, self._access.keys, say)
        stack.callback(guard.close)
        plan = self._plan()
        if plan is not None:
            stack.callback(plan.close)
        ventilator = self._ventilator = Ventilator(
            self._loop,
            context,
            work,
            first,
            self._policy,
            say=say,
            heartbeat=self._heartbeat,
            tasks=work,
            guard=guard,
            hint=self._access.hint,
            plan=plan,
        )
        ventilator.ledger.returns.limited, ventilator.script = work.terms.limited, work
        stack.callback(ventilator.close)
        reach = ventilator.bind(url)
        self.url = reach if bind is not None else None
        if bind is not None:
            caution = self._access.caution(ventilator.bound)
            if caution:
                say(caution, True)
            url = endpoints.reachable(ventilator.bound, "127.0.0.1")
        self._crew.start(self._loop, url)  # not sooner: who finds nobody there tries again only after a while
        self._sink = sink = Sink(
            self._loop,
            context,
            Landing(NoOutput("outcomes")),
            deliver=self._deliver,
            say=say,
            heartbeat=self._heartbeat,
            write=self._work.deliver,
            guard=guard,
        )
        stack.callback(sink.close)
        sink.bind(endpoints.sibling(ventilator.bound, "results", 0))
        sink.collector.job = ventilator.director.job
        sink.collector.issued = ventilator.issued
        sink.collector.together = self._work.together
        self.helm = Helm(self._loop, ventilator, sink, work)

    def _plan(self) -> Plan | None:
        """Return how items are spared being run, if they are to be. Raises UsageError."""
        if not self._wishes.any:
            return None
        from zpipe.jobs import plans

        work = self._work
        key = plans.key_of_call(self._key, lambda number: work.spec(number).task.call) if self._key else None
        return plans.make(self._wishes, work.identities.__getitem__, lambda text: self._say(text, True), key)

    def _say(self, text: str, error: bool) -> None:
        if error:
            self._said = [*self._said[-9:], text]
        self._progress.say(text, error=error)

    # from any thread

    @property
    def workers(self) -> int:
        """Workers that are ready now."""
        return self._ventilator.director.workers

    @property
    def lost(self) -> int:
        """Workers that went without leave so far."""
        return self._ventilator.director.counts.lost

    @property
    def waits(self) -> bool:
        """Whether anything that was handed over has no outcome yet, but for maps' items that were not sent."""
        return bool(self._work.tickets or self._work.submits.queue)

    @property
    def worker_line(self) -> str:
        """The command line that starts workers elsewhere."""
        return self._ventilator.worker_line

    @property
    def slots(self) -> int:
        """Workers that are ready now, or that there are to be of its own if those are more."""
        return max(self.workers, self._crew.wanted)

    def check(self) -> None:
        """Raise unless more may be handed over; the lock is held."""
        if self.broken is not None:
            raise BrokenPipeline(*self.broken.args) from self.broken.__cause__
        if self.closed:
            raise RuntimeError(self.closed)
        if self._pid != os.getpid():
            raise RuntimeError("this pipeline is its parent process's: make one of its own after a fork")

    def submit(self, function: Function, item: Any, future: PipelineFuture[Any]) -> None:
        """Have one item run, from the next `dispatch` on; the lock is held."""
        function.held += 1
        self._work.submits.queue.append((function, item, future))

    def follow(self) -> Schedule:
        """From now on what goes next is chosen; return what it is held to."""
        work = self._work
        work.schedule = work.schedule or Schedule()
        return work.schedule

    def book(self, function: Function, item: Any, future: PipelineFuture[Any]) -> None:
        """As `submit`, of an item that claims something; `follow` was called."""
        function.held += 1
        self._work.booked.append((function, item, future))

    def dispatch(self) -> None:
        """Have what was submitted sent, by this thread if that is quickest."""
        sent = False
        try:
            sent = self.helm.dispatch()
        finally:
            if not sent:
                self._news = True
                if self._asleep:
                    self.wake()

    def add(self, call: MapCall) -> None:
        """Have a map's items run; the lock is held."""
        call.function.held += 1
        (self._work.maps if call.claimed is None else self._work.booked).append(call)
        self.wake()

    def wake(self) -> None:
        """Have the thread see what there is to do."""
        self._news = True
        if self._asleep:
            self._asleep = False
            self._loop.wake()

    def resize(self, workers: int) -> None:
        """Have this many workers of its own."""
        self._crew.resize(workers)
        self._loop.wake()

    def close(self, why: str, *, cancel: bool = False, cut: bool = False) -> None:
        """Take nothing more, and end when everything has an outcome.

        `cancel`: what has not been sent is cancelled. `cut`: no more items are pulled.
        """
        with self.lock:
            if not self.closed:
                self.closed = why
            if cancel:
                # Workers that are still starting would have had the first ones by now.
                self._work.cancelling = 0 if self._work.issued else max(self._crew.wanted, 1)
            for call in self.maps():
                if cancel:
                    call.close()
                if cut:
                    call.cut(RuntimeError(CUT))
                call.lift()
            self._work.closing = True
        self._loop.wake()

    def abort(self, why: str) -> None:
        """End here: what is pending fails, what runs is killed."""
        self._aborted = why
        self._loop.wake()

    def join(self) -> None:
        """Wait until the thread and all processes have ended. An interrupt ends what they are at."""
        thread = self._thread
        if thread is None or self._pid != os.getpid() or threading.current_thread() is thread:
            return
        try:
            self.finished.wait()  # an interrupted Thread.join takes the thread for ended
        except KeyboardInterrupt:
            self.abort(INTERRUPTED)
            self.finished.wait()
            raise
        thread.join()
        self._thread = None  # or it would be there until the next garbage collection

    def news(self) -> Condition:
        """Return what whoever takes a map's results waits for."""
        return Condition()

    def check_function(self, made: Callable[..., Any]) -> None:
        """Raise ValueError unless this can be run: anything can."""

    def take_thread(self) -> None:
        """Have a thread do the work: one does."""

    def maps(self) -> list[MapCall]:
        """The maps that have not come to their end."""
        booked = [call for call in list(self._work.booked) if isinstance(call, MapCall)]
        return [*booked, *list(self._work.maps)]

    # its thread

    def _run(self) -> None:
        try:
            self._start()
            while self._ventilator.ended is None:
                self._turn()
            error = self._ventilator.ended.error
            if error:
                self._break(error)
        except BaseException as error:  # a bug: nobody may be left waiting
            self._break(f"{type(error).__name__}: {error}", error)
            raise
        finally:
            self._end()

    def _start(self) -> None:
        with self.helm.lock:
            self._ventilator.start(self._sink)

    def _turn(self, most: float | None = None) -> None:
        """Wait for the next event or deadline, `most` seconds at most, and do what is due."""
        with self.helm.lock:
            due = self._rest()
        now = time.monotonic()
        wait = None if due is None or due == float("inf") else max(0.0, due - now)
        events = self._loop.wait(wait if most is None else most if wait is None else min(wait, most))
        with self.helm.lock:
            self._asleep = self._news = False  # what comes from here on is seen below, or in the next turn
            self.helm.settle()
            self._loop.call(events)
            self._work_on(due)

    def _rest(self) -> float | None:
        """Return when to be up again at the latest."""
        now = time.monotonic()
        dates = [self._ventilator.deadline(), self._progress.deadline(now)]
        due = min((date for date in dates if date is not None), default=None)
        self._asleep = True
        if self._news:
            due = now
        elif self.helm.out:
            due = now + WATCH if due is None else min(due, now + WATCH)
        self.helm.due = due
        return due

    def _work_on(self, due: float | None) -> None:
        """See to all that is not the loop's; `due` was when."""
        now = time.monotonic()
        if due is not None and due <= now:
            self._ventilator.on_tick(now)
            if self._progress.deadline(now) <= now:
                self._progress.update(self._snapshot(), now)
        if self._work.maps or self.functions.crowded:
            self._drop_ended(now)
        if self._work.cancelling >= 0:
            spared, self._work.cancelling = self._work.cancelling, -1
            self._work.cancel(spared)
        if self._work.submits.queue or self._work.maps or self._work.closing or self._work.schedule is not None:
            self._ventilator.on_wake()
        if self._aborted:
            self._ventilator.abort(self._aborted, 130)
        self._crew.obey()
        if self._crew.ended and self._ventilator.ended is None:
            why = f": {'; '.join(self._said)}" if self._said else ""
            self._ventilator.abort(f"all local workers have ended{why}", 1)

    def _drop_ended(self, now: float) -> None:
        for call in list(self._work.maps):
            if call.given:
                self._work.maps.remove(call)
                call.function.uses -= 1
        if self.functions.crowded and now >= self._weeding and self.lock.acquire(blocking=False):
            try:
                forgotten = self.functions.weed()
            finally:
                self.lock.release()
            ended = time.monotonic()
            self._weeding = ended + 10 * (ended - now)
            for function in forgotten:
                self._work.forget(function.number)
                self._ventilator.forget(function.number)

    def _deliver(self, message: wire.Receipts | wire.Finished) -> None:
        if isinstance(message, wire.Receipts):
            self._ventilator.on_receipts(message)
        else:
            self._ventilator.on_finished(message)

    def _snapshot(self) -> Snapshot:
        ledger = self._ventilator.ledger
        known = [call.left for call in self.maps()]
        left = None if None in known else sum(n for n in known if n is not None) + len(self._work.submits.queue)
        return Snapshot(
            done=ledger.account.done,
            failed=ledger.account.failed,
            total=None if left is None else ledger.next + left,
            exact=True,
            workers=self.workers,
            elapsed=time.monotonic() - self._began,
            started=ledger.next > 0,
            note=self._ventilator.waiting() if ledger.in_flight or left else "",
            cached=sum(self._ventilator.spared),
        )

    def _break(self, why: str, cause: BaseException | None = None) -> None:
        error = BrokenPipeline(f"the pipeline has ended: {why}")
        error.__cause__ = cause
        if why != INTERRUPTED:
            _LOG.critical("%s", error)
        with self.lock:
            self.broken = error
        with self.helm.lock:
            self.helm.desist()
            self._work.fail(error)

    def _end(self) -> None:
        try:
            with self._stack as stack:
                stack.callback(lambda: self._crew.stop(now=bool(self._aborted)))
                stack.callback(self._ventilator.close)
                stack.callback(self.helm.close)
                self._progress.close(self._snapshot())
        finally:
            self.finished.set()

    def orphan(self) -> None:
        """Let go, in a forked child, of what keeps the parent's workers alive."""
        if not self.finished.is_set():
            self._crew.let_go()
        self.closed = self.closed or "cannot schedule new futures: this pipeline is the parent process's"
        self.finished = Flag()  # the other's lock may have been anybody's
        self.finished.set()
        self.lock = threading.RLock()
        self.helm.orphan()
        self._asleep = False
        for call in self.maps():
            call.orphan(RuntimeError(self.closed))


def _identify(made: Callable[..., Any], call: Call) -> bytes:
    from zpipe.caching import identity

    return identity.of_function(made, call)
