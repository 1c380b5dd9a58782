"""A pipeline that runs in the script's own process: whoever waits for a result does the work meanwhile.

There is no thread for ordinary functions: `submit` returns when the call is over, a map's items are run as its results
are taken. Items of coroutine functions go on while nobody waits, and so there is a thread that sees to them once there
is such a function, or where the script must not wait: in an event loop of its own. The rule: one thread at a time does
the work, the leader; others wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from zpipe.api.condition import Condition
from zpipe.api.engine import Engine
from zpipe.api.exits import INTERRUPTED
from zpipe.api.functions import KEPT, Function, Functions, check_callable
from zpipe.api.futures import PipelineFuture
from zpipe.core.claim import provided
from zpipe.core.spec import Call, TaskSpec
from zpipe.net.loop import Loop
from zpipe.nodes.inline import BREAKS, InlineSink, InlineVentilator
from zpipe.output.landing import Landing
from zpipe.output.outputs import NoOutput
from zpipe.running.awaitables import is_async

__all__ = ["InlineEngine"]

GLANCE = 0.02
"""Seconds after which whoever waits for the leader looks up."""


class _Functions(Functions):
    """The functions themselves: none is pickled. Two that are equal are the same."""

    def __init__(self, chunk: int | None, identify: Callable[[Callable[..., Any], Call], bytes] | None) -> None:
        super().__init__(chunk, None, identify)
        self.by_number: dict[int, Callable[..., Any]] = {}
        self._known: OrderedDict[tuple[Any, Call], Function] = OrderedDict()

    def find(self, made: Callable[..., Any], call: Call) -> Function:
        try:
            key: tuple[Any, Call] = (made, call)
            function = self._known.get(key)
        except TypeError:  # it can't be hashed
            key = (id(made), call)
            function = self._known.get(key)
        if function is None:
            check_callable(made)
            self._last += 1
            name = getattr(made, "__qualname__", None) or type(made).__qualname__
            function = self._known[key] = Function(self._last, TaskSpec("pickle", name, call=call), self._chunk)
            self.by_number[function.number] = made
            if self._identify is not None:
                function.identity = self._identify(made, call)
        else:
            self._known.move_to_end(key)
        return function

    @property
    def crowded(self) -> bool:
        return len(self._known) > KEPT

    def weed(self) -> list[Function]:
        idle = [key for key, function in self._known.items() if function.held + function.uses == 0]
        gone = [self._known.pop(key) for key in idle[: max(0, len(self._known) - KEPT * 3 // 4)]]
        for function in gone:
            del self.by_number[function.number]
        return gone


class _News(Condition):
    """What whoever takes a map's results waits for: to wait is to do the work."""

    def __init__(self, engine: InlineEngine) -> None:
        super().__init__()
        self._engine = engine

    def wait(self, timeout: float | None = None) -> bool:
        engine = self._engine
        if engine.driven:
            return super().wait(timeout)
        held = self._release_save()
        try:
            return engine.lend_a_hand(timeout)
        finally:
            self._acquire_restore(held)


class _Helm:
    """Stands where a pipeline with workers keeps apart who helps and who does not."""

    out = False
    due: float | None = None

    def __init__(self, engine: InlineEngine) -> None:
        self.lock = threading.Lock()
        self._engine = engine

    def lend(self, future: PipelineFuture[Any], timeout: float | None) -> None:
        self._engine.lead(future.is_over, timeout)

    def look(self) -> None:
        self._engine.look()

    def on_done(self, _: object) -> None:
        pass

    def settle(self) -> None:
        pass

    def dispatch(self) -> bool:
        return False

    def desist(self) -> None:
        pass

    def close(self) -> None:
        pass

    def orphan(self) -> None:
        self.lock = threading.Lock()


class InlineEngine(Engine):
    """The engine of such a pipeline. `initializer`: what is called once, ahead of everything."""

    def __init__(self, initializer: Callable[[], Any] | None, **given: Any) -> None:
        self._initializer = initializer
        self.driven = False
        """Whether a thread of its own does the work."""
        self._leading = threading.Lock()
        self._leader = 0
        self._started = False
        self._mine = threading.local()
        super().__init__(workers=1, bind=None, heartbeat=10.0, **given)

    def _open(self, _bind: str | None) -> None:
        self.url = None
        self._loop = Loop()
        self._stack.callback(self._loop.close)
        work = self._work
        self.functions = self._own = _Functions(self._chunk, self._identify)
        plan = self._plan()
        if plan is not None:
            self._stack.callback(plan.close)
        ventilator = self._ventilator = InlineVentilator(
            self._loop,
            work,
            work.setup or work.terms,
            self._policy,
            say=self._say,
            broken=self._on_break,
            tasks=work,
            given=self._given,
            plan=plan,
        )
        ventilator.script, ventilator.labels, work.labels = work, self.labels, provided(self.labels)
        self._stack.callback(ventilator.close)
        self._sink = InlineSink(
            self._loop,
            None,
            Landing(NoOutput("outcomes")),
            deliver=ventilator.deliver,
            say=self._say,
            write=work.deliver,
        )
        self._sink.collector.job = ventilator.director.job
        helm: Any = _Helm(self)
        self.helm = helm

    def _given(self, number: int) -> Callable[..., Any] | None:
        return self._initializer if number == 0 else self._own.by_number.get(number)

    def _on_break(self, error: BaseException) -> None:
        raise error

    def _set_off(self) -> None:
        """Wait for somebody to lead."""

    def news(self) -> Condition:
        """Return what whoever takes a map's results waits for."""
        return _News(self)

    def check_function(self, made: Callable[..., Any]) -> None:
        """Raise ValueError unless this can be run here; a coroutine function has a thread see to it."""
        if is_async(made):
            self.take_thread()
        elif self._work.terms.timeout:
            raise ValueError(
                f"item_timeout can't stop {made!r} in this process: have workers run it (inline=False), or make it a "
                "coroutine function (async def)"
            )

    def take_thread(self) -> None:
        """Have a thread do the work from now on."""
        with self.lock:
            if not self.driven and not self.finished.is_set():
                self.driven = True
                super()._set_off()

    # whoever leads

    def _run(self) -> None:
        with self._leading:
            super()._run()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            super()._start()

    def submit(self, function: Function, item: Any, future: PipelineFuture[Any]) -> None:
        """Have one item run, from the next `dispatch` on; the lock is held."""
        super().submit(function, item, future)
        self._mine.latest = future

    def book(self, function: Function, item: Any, future: PipelineFuture[Any]) -> None:
        """As `submit`, of an item that claims something."""
        super().book(function, item, future)
        self._mine.latest = future

    def dispatch(self) -> None:
        """Run what was submitted, unless a thread does; one whose time has not come waits for whoever wants it."""
        latest = self._mine.latest
        if self.driven or self._leader == threading.get_ident():
            super().dispatch()
        elif latest.claim is None or latest.claim.begin <= time.monotonic():
            self._news = True  # the first turn is not to wait for anything
            self.lead(latest.is_over, None)
        else:
            self.wake()

    def look(self) -> None:
        """Somebody wants to know how far things are: carry them on a little."""
        if not self.driven and self._leader != threading.get_ident() and not self.finished.is_set():
            self.lend_a_hand(0.0)

    def lead(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Do the work until `done`, `timeout` seconds at most; unless a thread does."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (done() or self.driven or self.finished.is_set()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            self.lend_a_hand(left)

    def lend_a_hand(self, timeout: float | None) -> bool:
        """Do the next piece of work, or wait for it, `timeout` seconds at most. Return whether that was in time."""
        if self._leader == threading.get_ident():
            raise RuntimeError("an item of an inline pipeline waits for others of it, which wait for this one to end")
        began = time.monotonic()
        if not self._leading.acquire(timeout=GLANCE if timeout is None else min(timeout, GLANCE)):
            return timeout is None or time.monotonic() - began < timeout
        self._leader = threading.get_ident()
        try:
            if not self.finished.is_set():
                self._step(timeout)
        finally:
            self._leader = 0
            self._leading.release()
        return timeout is None or time.monotonic() - began < timeout

    def _step(self, timeout: float | None) -> None:
        try:
            self._start()
            self._turn(timeout)
        except BaseException as error:
            self._break(INTERRUPTED if isinstance(error, BREAKS) else f"{type(error).__name__}: {error}", error)
            self._end()
            raise
        ended = self._ventilator.ended
        if ended is not None:
            if ended.error:
                self._break(ended.error)
            self._end()

    def _work_on(self, _due: float | None) -> None:
        super()._work_on(0.0)  # items may have ended on their event loop

    def resize(self, workers: int) -> None:
        """There is nothing to resize."""
        raise ValueError(f"an inline pipeline runs everything in this process, and can't have {workers} workers")

    def join(self) -> None:
        """See everything to its end."""
        if self._leader == threading.get_ident():
            return
        self.lead(self.finished.is_set, None)
        if self.driven:
            super().join()
