"""An event loop in a thread of its own, on which a slot's items run, many at a time.

The rule: this thread runs items and nothing else, so that whoever has the sockets hears messages while an item holds up
the loop. Items are begun in order as others end; what came of them waits in a queue for the other thread. All asyncio
there is in a worker is here, and is imported by none that runs no coroutine function.

What an item is charged is its share of the time for which it ran: of each moment, one part for each of those that ran
then (processor sharing: Kleinrock, 1967). So the charges add up to the time in which there was something to do, as with
items that run one after another, and chunks find their size by them in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from zpipe import context
from zpipe.errors import ItemTimeout
from zpipe.running.awaitables import is_awaitable
from zpipe.running.crowd import Ended, Run
from zpipe.running.stopwatch import Stopwatch

__all__ = ["Coroutines"]

GRACE = 1.0
"""Seconds that an item which is cancelled has to end before it is left to itself; and all, at the end."""


class _Item:
    """One item that runs."""

    __slots__ = ("alarm", "began", "late", "mark", "over", "position", "run", "task")

    def __init__(self, run: Run, position: int, mark: float) -> None:
        self.run, self.position, self.mark = run, position, mark
        self.began = time.monotonic()
        self.late = self.over = False
        self.alarm: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class _Steps(Coroutine[Any, Any, None]):
    """A coroutine that says when each step of it begins and ends."""

    __slots__ = ("_coroutine", "_index", "_step")

    def __init__(self, coroutine: Coroutine[Any, Any, None], index: int, step: Callable[[int], object]) -> None:
        self._coroutine, self._index, self._step = coroutine, index, step

    def send(self, value: Any) -> Any:
        self._step(self._index)
        try:
            return self._coroutine.send(value)
        finally:
            self._step(-1)

    def throw(self, *details: Any) -> Any:
        self._step(self._index)
        try:
            return self._coroutine.throw(*details)
        finally:
            self._step(-1)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()


class Coroutines:
    """The thread and its loop. `ring` is called, by it, when something has ended. `worker`: what items are told.

    With a `stopwatch` each step is noted there.
    """

    def __init__(self, ring: Callable[[], object], worker: str = "", stopwatch: Stopwatch | None = None) -> None:
        self._ring, self._worker, self._stopwatch = ring, worker, stopwatch
        self.refused = ""
        """Why a task can't be run here, once it has turned out not to be a coroutine function."""
        self._loop = asyncio.new_event_loop()
        self._context: Context = copy_context()
        self._steps: dict[tuple[float, int], Callable[[int], object]] = {}
        self._runs: deque[Run] = deque()
        self._ended: deque[Ended] = deque()
        self._items: set[_Item] = set()
        self._rung = self._closing = False
        self._share = self._shared = 0.0
        self._thread = threading.Thread(target=self._live, name="zpipe coroutines", daemon=True)
        self._thread.start()

    # from the other thread

    def watch(self, limit: float, memory: int) -> None:
        """Have steps noted against these limits, whatever runs. Raises TaskError if that can't be."""
        if self._stopwatch is not None and (limit, memory) not in self._steps:
            self._steps[limit, memory] = self._stopwatch.stepping(limit, memory)

    def begin(self, run: Run) -> None:
        """Have the items of a run begun as there is room."""
        self._runs.append(run)
        self._loop.call_soon_threadsafe(self._pump)

    def take(self) -> list[Ended]:
        """Return what has ended since the last call."""
        self._rung = False
        ended = []
        while self._ended:
            ended.append(self._ended.popleft())
        return ended

    def wait(self, awaitable: Any) -> None:
        """See an awaitable through; items have the context that it leaves behind. Raises what it raises."""

        async def see() -> None:
            await awaitable
            self._context = copy_context()

        asyncio.run_coroutine_threadsafe(see(), self._loop).result()

    def cancel(self) -> None:
        """Cancel what runs: nobody wants it any more. What has been begun has no outcome."""
        self._runs.clear()
        if not self._closing:
            self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        """Cancel what runs and end the loop; what won't end by then is left behind."""
        if self._closing:
            return
        self._closing = True
        self._runs.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(3 * GRACE)

    # in the thread

    def _live(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.run_forever()
        try:
            loop.run_until_complete(self._wind_up())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _wind_up(self) -> None:
        loop, me = self._loop, asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(loop.shutdown_asyncgens(), GRACE)
        await loop.shutdown_default_executor()

    def _cancel(self) -> None:
        for item in list(self._items):
            self._drop(item)
            if item.task is not None:
                item.task.cancel()

    def _pump(self) -> None:
        """Begin items as long as there is room."""
        while self._runs and not self._closing:
            run = self._runs[0]
            while len(self._items) < run.runner.width:
                try:
                    position = run.rest.popleft()
                except IndexError:
                    break
                self._context.run(self._launch, run, position)
            else:
                return
            with contextlib.suppress(IndexError):  # the other thread may have cancelled them all
                self._runs.popleft()

    def _tick(self) -> None:
        """Deal out the time since the last call among those that run."""
        now = time.monotonic()
        if self._items:
            self._share += (now - self._shared) / len(self._items)
        self._shared = now

    def _launch(self, run: Run, position: int) -> None:
        self._tick()
        item = _Item(run, position, self._share)
        chunk, spec = run.chunk, run.runner.spec
        index = chunk.start + position
        coroutine: Coroutine[Any, Any, None] = self._see_through(item)
        step = self._steps.get((spec.timeout, spec.max_memory))
        if step is not None:
            coroutine = _Steps(coroutine, index, step)
        self._items.add(item)
        mine = context.item.set((index + run.shift, chunk.attempt, self._worker, run.runner.job))
        try:
            item.task = self._loop.create_task(coroutine)
        finally:
            context.item.reset(mine)
        if spec.timeout:
            item.alarm = self._loop.call_later(spec.timeout, self._overrun, item)

    async def _see_through(self, item: _Item) -> None:
        run, runner = item.run, item.run.runner
        try:
            found = run.given.pop(item.position, None)
            if found is None:
                found = runner.call(run.items[item.position])
            if is_awaitable(found):
                runner.sure = True
                found = await found
            elif not runner.sure:
                self._refuse(type(found).__name__)
                return
        except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
            self._end(item, None, error)
        else:
            self._end(item, found, None)

    def _refuse(self, kind: str) -> None:
        self.refused = (
            f"the task is no coroutine function: it returned a value of type {kind}, and would hold up all others. "
            "Leave out --concurrency: ordinary functions run one item at a time in each worker"
        )
        self._runs.clear()
        self._tell()

    def _overrun(self, item: _Item) -> None:
        """An item has run for too long: cancel it. One that does not end over that is left to itself."""
        if item.over or item.task is None:
            return
        if item.late:
            self._end(item, None, None)
            return
        item.late = True
        item.alarm = self._loop.call_later(GRACE, self._overrun, item)
        item.task.cancel()

    def _drop(self, item: _Item) -> None:
        """An item does not run any more, as far as anybody here minds."""
        self._tick()
        item.over = True
        self._items.discard(item)
        if item.alarm is not None:
            item.alarm.cancel()

    def _end(self, item: _Item, value: Any, error: BaseException | None) -> None:
        if item.over:
            return
        self._drop(item)
        if self._closing:
            return
        took = time.monotonic() - item.began
        if item.late:
            limit = item.run.runner.spec.timeout
            value, error = None, ItemTimeout(f"it ran for {took:.3g} s, and its limit is {limit:g} s")
        self._ended.append(Ended(item.run, item.position, value, error, self._share - item.mark, took))
        self._tell()
        self._pump()

    def _tell(self) -> None:
        if not self._rung:
            self._rung = True
            self._ring()
