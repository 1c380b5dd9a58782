"""A job in one process: the ventilator, the sink and the one worker there is, by function calls, without sockets.

The rule: what is run next, tried again, counted, written and over is decided by the same ledger, director and collector
as ever; only the ways in between are short. An item of an ordinary function runs in the thread that turns the loop; no
other is there for it, so that a debugger may stop in it. Chunks are run one in a turn of the loop.
"""

from __future__ import annotations

import bdb
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from zpipe.core import wire
from zpipe.core.chunk import Chunk
from zpipe.core.policy import Policy
from zpipe.core.spec import JobSpec
from zpipe.errors import TaskError
from zpipe.input.sources import Source
from zpipe.net.loop import Loop
from zpipe.net.versions import host_name, our_versions
from zpipe.nodes.lanes import Lane, Lanes
from zpipe.nodes.parties import LocalSink, Reader, Tasks
from zpipe.nodes.sifting import Plan
from zpipe.nodes.sink import Sink
from zpipe.nodes.ventilator import Ventilator
from zpipe.running import outcomes
from zpipe.running.awaitables import Awaiting
from zpipe.running.crowd import Run
from zpipe.running.repertoire import Repertoire
from zpipe.running.runner import Runner
from zpipe.running.settling import Outcome

__all__ = ["BREAKS", "InlineSink", "InlineVentilator"]

BREAKS: tuple[type[BaseException], ...] = (KeyboardInterrupt, bdb.BdbQuit)
"""What ends all of it where an item raises it: somebody has had enough."""

_ME = b"inline"
"""The worker's connection, as the director knows it."""

_NO_LIMIT = (
    "an ordinary function can't be stopped in this process, so that a limit of {:g} s can't be kept: have workers run "
    "it, or make it a coroutine function (async def)"
)


class InlineSink(Sink):
    """A sink that is handed its results."""

    def _open(self, _context: Any, _heartbeat: float) -> Any:
        return None

    def accept(self, results: list[tuple[wire.Result, Sequence[wire.Buffer]]]) -> None:
        """Take these results."""
        if self.finished is not None:
            return
        for result, payload in results:
            self._count(result, payload)
        self.settle_all()

    def close(self) -> None:
        """Do nothing: nothing is open."""


class _Lane(Lane):
    """The way to the worker."""

    __slots__ = ("_hands",)

    def __init__(self, number: int, hands: _Hands, task: Callable[[int], wire.Task]) -> None:
        watch: Any = None
        super().__init__(number, None, watch, "", task, lambda _: None)
        self._hands = hands

    def introduce(self, number: int) -> bool:
        if number not in self._tasks:
            self._tasks.add(number)
            self._hands.learn(self._task(number))
        return True

    def forget(self, number: int) -> None:
        if number in self._tasks:
            self._tasks.discard(number)
            self._hands.repertoire.forget(number)

    def put(self, chunk: Chunk) -> None:
        self.introduce(chunk.task)
        self._hands.give(chunk.told(), chunk.payload)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Lanes(Lanes):
    """There is one."""

    def __init__(self, hands: _Hands, task: Callable[[int], wire.Task]) -> None:
        self.open: dict[int, Lane] = {}
        self._hands, self._task = hands, task

    def bind(self, number: int, _control: str) -> Lane:
        made = self.open[number] = _Lane(number, self._hands, self._task)
        return made


class _Hands:
    """The worker: what it was given and has not run, and what it has to say. `given(number)`: a task, if it is here."""

    def __init__(self, loop: Loop, given: Callable[[int], Callable[..., Any] | None]) -> None:
        self.repertoire = Repertoire(f"{host_name()}/{os.getpid()} inline", loop.wake, given=given)
        self.welcome: wire.Welcome | None = None
        self.said: list[wire.Control] = []
        """What is to be told to the director, once it is not busy."""
        self.results: list[tuple[wire.Result, Sequence[wire.Buffer]]] = []
        """What is to be told to the sink."""
        self._queue: deque[tuple[wire.Chunk, Sequence[wire.Buffer]]] = deque()
        self._arrived = 0
        self._told: set[int] = set()
        self._refused = False

    def why_not(self, task: wire.Task) -> str:
        """A task comes. Return why it can't be run here, empty if it can."""
        self.repertoire.learn(task)
        try:
            runner = self.repertoire.load(task.number)
        except TaskError as error:
            return str(error)
        if runner is None:
            return ""
        runner.through = (*Runner.through, *BREAKS)
        runner.box = outcomes.Here
        return _NO_LIMIT.format(runner.spec.timeout) if runner.spec.timeout and not runner.width else ""

    def learn(self, task: wire.Task) -> None:
        """A task comes down the lane."""
        why = self.why_not(task)
        runner = self.repertoire.runners.get(task.number)
        if why:
            self._refuse(why)
        elif runner is not None and runner.width:
            self._tell_width(task.number, runner)

    def _tell_width(self, number: int, runner: Runner) -> None:
        if number not in self._told:
            self._told.add(number)
            self.said.append(wire.Wide(self._lane, number, runner.width))

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._queue.clear()
        self.said.append(wire.Unfit(self._lane, why[: wire.REASON]))

    @property
    def _lane(self) -> int:
        return self.welcome.lane if self.welcome is not None else 0

    def give(self, chunk: wire.Chunk, payload: Sequence[wire.Buffer]) -> None:
        """A chunk comes."""
        if self._refused:
            return
        self._queue.append((chunk, payload))
        self._arrived += 1

    def hear(self, message: wire.Control) -> None:
        """The director says something."""
        if isinstance(message, wire.Welcome):
            self.welcome = message
        elif isinstance(message, wire.Recall):
            taken = self._arrived - len(self._queue)
            self._queue.clear()
            self.said.append(wire.Returned(message.lane, taken, self._arrived))
        elif isinstance(message, wire.Bye | wire.Refuse):
            self._queue.clear()
            if self.repertoire.crowd is not None:
                self.repertoire.crowd.drop()

    def deadline(self) -> float | None:
        """When `work` is next due; 0: at once."""
        crowd = self.repertoire.crowd
        if self.said or self.results or (self._queue and not (crowd is not None and crowd.full)):
            return 0.0
        return crowd.deadline() if crowd is not None else None

    def work(self) -> None:
        """Do the next piece of work. Raises what ends all of it."""
        crowd, loop = self.repertoire.crowd, self.repertoire.coroutines
        if crowd is not None and loop is not None:
            if loop.refused:
                crowd.drop()
                self._refuse(loop.refused)
                return
            for run, outcome, seconds in crowd.gather(time.monotonic()):
                self._report(run.chunk, outcome, seconds)
            if crowd.full:
                return
        if self._queue:
            self._run(*self._queue.popleft())

    def _run(self, chunk: wire.Chunk, payload: Sequence[wire.Buffer]) -> None:
        runner = self.repertoire.runners[chunk.task]
        if runner.width and not chunk.doom:
            self._begin(runner, chunk, payload)
            return
        began = time.monotonic()
        try:
            outcomes = runner.run(chunk, payload)
        except Awaiting as found:
            runner.widen()
            self._begin(runner, chunk, payload, found.values)
            return
        each = (time.monotonic() - began) / (outcomes[-1].stop - chunk.start)
        for outcome in outcomes:
            self._report(chunk, outcome, each * (outcome.stop - outcome.start))

    def _begin(
        self, runner: Runner, chunk: wire.Chunk, payload: Sequence[wire.Buffer], given: Sequence[Any] = ()
    ) -> None:
        crowd = self.repertoire.prepare(runner)
        self._tell_width(chunk.task, runner)
        crowd.begin(Run(runner, chunk, payload, given, self.welcome))

    def _report(self, chunk: wire.Chunk, outcome: Outcome, seconds: float) -> None:
        if self.welcome is not None:
            self.results.append((outcome.result(self.welcome, chunk.attempt, seconds, None), outcome.frames))


class InlineVentilator(Ventilator):
    """A ventilator whose one worker is this process. `given(number)` returns a task that need not be loaded.

    `broken(error)` is called when an item has raised what ends all of it.
    """

    def __init__(
        self,
        loop: Loop,
        source: Source,
        spec: JobSpec,
        policy: Policy,
        *,
        say: Callable[[str, bool], None],
        broken: Callable[[BaseException], None],
        chunk: int | None = None,
        tasks: Tasks | None = None,
        fingerprint: dict[str, str] | None = None,
        given: Callable[[int], Callable[..., Any] | None] = lambda _: None,
        plan: Plan | None = None,
        reader: Callable[..., Reader] | None = None,
    ) -> None:
        self._hands = _Hands(loop, given)
        super().__init__(
            loop,
            None,
            source,
            spec,
            policy,
            say=say,
            chunk=chunk,
            tasks=tasks,
            fingerprint=fingerprint,
            plan=plan,
            reader=reader,
        )
        self._broken = broken
        self.known: Sequence[int] = () if tasks is not None else (0,)
        """The tasks that are there from the beginning: one that can't be run here ends the job before it has begun."""
        self.labels: Sequence[str] = ()
        """What can be asked for here."""

    def _make_lanes(self, _ports: Sequence[int]) -> Lanes:
        return _Lanes(self._hands, self._task)

    def deliver(self, message: wire.Receipts | wire.Finished) -> None:
        """The sink says this."""
        if isinstance(message, wire.Receipts):
            self.on_receipts(message)
        else:
            self.on_finished(message)

    def start(self, sink: LocalSink | None = None) -> None:
        """Begin, and have the worker join."""
        super().start(sink)
        for number in self.known:
            if self.ended is None and (why := self._hands.why_not(self._task(number))):
                self.abort(why, 2)
        if self.ended is not None:
            return
        now = time.monotonic()
        join = wire.Join(our_versions(), os.urandom(8).hex(), 1, host_name(), os.getpid(), 0, labels=list(self.labels))
        self._perform(self.director.on_message(_ME, join, now))
        welcome = self._hands.welcome
        if welcome is not None:
            self.director.on_linked(welcome.lane)
            self._perform(self.director.on_message(_ME, wire.Ready(welcome.lane), now))

    def _reply(self, _identity: bytes, message: wire.Control) -> None:
        self._hands.hear(message)

    def deadline(self) -> float | None:
        """When `on_tick` is next due."""
        dates = [date for date in (super().deadline(), self._hands.deadline()) if date is not None]
        return min(dates, default=None)

    def on_tick(self, now: float) -> None:
        """Time passed, or there is something to run: do the next piece of it."""
        super().on_tick(now)
        if self.ended is not None:
            return
        hands = self._hands
        try:
            hands.work()
        except BREAKS as error:
            self._broken(error)
            return
        said, hands.said = hands.said, []
        for message in said:
            self._perform(self.director.on_message(_ME, message, now))
        results, hands.results = hands.results, []
        if results and isinstance(self._sink, InlineSink):
            self._sink.accept(results)

    def close(self) -> None:
        """End what runs, and let go of the source."""
        self._hands.repertoire.close()
        super().close()
