"""The tasks that a worker knows, each loaded once, and the event loop for those that are coroutine functions.

This file does not know where tasks or chunks come from, nor where outcomes go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zpipe.core import wire
from zpipe.running.allowed import Allowed
from zpipe.running.crowd import Crowd
from zpipe.running.runner import Runner, set_up
from zpipe.running.stagerunner import StageRunner
from zpipe.running.stopwatch import Stopwatch

if TYPE_CHECKING:
    from zpipe.running.coroutines import Coroutines

__all__ = ["Repertoire"]


class Repertoire:
    """What the worker called `worker` can run. `ring` is called by another thread when items have ended there.

    `stopwatch` is where it is seen what runs, `allowed` what may be, if not everything. Of coroutine functions
    `concurrency` items run at a time, if that is not the job's to say. `given(number)` returns a task that is here
    already, and need not be loaded; number 0 is what sets the worker up.
    """

    def __init__(
        self,
        worker: str,
        ring: Callable[[], object],
        stopwatch: Stopwatch | None = None,
        allowed: Allowed | None = None,
        concurrency: int = 0,
        given: Callable[[int], Callable[..., Any] | None] = lambda _: None,
    ) -> None:
        self._worker, self._ring, self._stopwatch, self._allowed = worker, ring, stopwatch, allowed
        self._concurrency, self._given = concurrency, given
        self._tasks: dict[int, wire.Task] = {}
        self._setup: wire.Task | None = None
        self._state: dict[str, Any] | None = None
        self.runners: dict[int, Runner] = {}
        self.coroutines: Coroutines | None = None
        self.crowd: Crowd | None = None
        """The chunks that run on the loop, once there is one."""

    def learn(self, task: wire.Task) -> None:
        """A task came, or what sets the worker up."""
        if task.spec.setup:
            if task != self._setup:
                self._setup, self._state = task, None
        elif self._tasks.get(task.number) != task:
            self._tasks[task.number] = task
            self.runners.pop(task.number, None)

    def forget(self, number: int) -> None:
        """No chunk of this task follows."""
        self._tasks.pop(number, None)
        self.runners.pop(number, None)

    def knows(self, number: int) -> bool:
        """Whether there is such a task."""
        return number in self._tasks

    def load(self, number: int) -> Runner | None:
        """Return what runs a task, loading it unless it is; None if there is no such task. Raises TaskError."""
        if number in self.runners:
            return self.runners[number]
        if self._setup is not None and self._state is None:
            self._state = set_up(self._setup.spec, self._allowed, self._wait, self._given(0))
        task = self._tasks.get(number)
        if task is None:
            return None
        known = self._state, self._stopwatch, self._allowed, self._given(number)
        kind = StageRunner if task.spec.stage else Runner
        runner = self.runners[number] = kind(task.spec, self._worker, task.job, *known)
        if runner.width:
            self.prepare(runner)
        return runner

    def prepare(self, runner: Runner) -> Crowd:
        """Have the items of this task run on the loop. Raises TaskError."""
        coroutines = self._loop()
        runner.width = self._concurrency or runner.width
        assert self.crowd is not None
        coroutines.watch(runner.spec.timeout, runner.spec.max_memory)
        return self.crowd

    def _wait(self, awaitable: Any) -> None:
        self._loop().wait(awaitable)

    def _loop(self) -> Coroutines:
        if self.coroutines is None:
            from zpipe.running.coroutines import Coroutines

            self.coroutines = Coroutines(self._ring, self._worker, self._stopwatch)
            self.crowd = Crowd(self.coroutines)
        return self.coroutines

    def close(self) -> None:
        """End the loop, if there is one."""
        if self.coroutines is not None:
            self.coroutines.close()
