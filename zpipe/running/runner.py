"""Runs a job's task over one chunk of items after another.

The rule: an item that fails, fails alone, whatever it raises. On the way where nothing fails no Python of ours runs
per item. This file does not know where chunks come from, nor where outcomes go.

Values are kept until the chunk is done: a task that returns one object again and again, changed in between, gives
what the object is at the chunk's end.

Items of a coroutine function run on an event loop, many at a time; what came of them is brought here to be settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, starmap
from typing import Any

from zpipe import context, serialize
from zpipe.core.coding import INLINE_BYTES
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Buffer, Chunk
from zpipe.errors import ItemTimeout, TaskError
from zpipe.running import outcomes, records, tasks
from zpipe.running.allowed import Allowed, check
from zpipe.running.awaitables import CONCURRENCY, is_async, is_awaitable
from zpipe.running.failures import NO_TRACE, STOPPED
from zpipe.running.listed import Listed
from zpipe.running.reading import Unread, read
from zpipe.running.settling import Outcome, Settling
from zpipe.running.stopwatch import Stopwatch
from zpipe.running.traces import trace_text

__all__ = ["Outcome", "Runner", "set_up"]


class Runner(Settling):
    """A job's task, loaded. `worker` and `job` are what `zpipe.current()` tells. Raises TaskError.

    `state`: names that a function of the script's own (of `__main__`) shares with what set the worker up. `stopwatch`:
    where whoever enforces a job's limits sees what runs. `allowed`: what may be run here, if not everything. `task`:
    the function itself, where it need not be loaded.
    """

    def __init__(
        self,
        spec: JobSpec,
        worker: str = "",
        job: str = "",
        state: dict[str, Any] | None = None,
        stopwatch: Stopwatch | None = None,
        allowed: Allowed | None = None,
        task: Callable[..., Any] | None = None,
    ) -> None:
        check(spec, allowed)
        self.job = job
        self._whole = spec.encoding == "outcomes"
        run: Callable[..., Any] = task or self._load(spec.task)
        super().__init__(spec, worker)
        if state:
            tasks.share(run, state)
        self._flat = not self._whole and tasks.yields(run)
        if self._flat:
            run = Listed(run)
        self.call = partial(_calls[spec.task.call], run)
        """The task, of an item."""
        self.width = 0
        """Items that run at a time on an event loop; 0: one after another, without one."""
        self._batch: records.Batch | None = None
        self._pending: Iterator[Any] = iter(())
        self.sure = is_async(run)
        """Whether what the task returns is to be awaited; else, if `width` says so, it is an error if it is not."""
        if self.sure or (spec.concurrency > 1 and not self._whole):
            self.width = spec.concurrency or CONCURRENCY
        else:
            if self.clock is not None:
                run = self.clock.timed(run)
            if spec.limited and stopwatch is not None:
                run = stopwatch.watched(run, spec.timeout, spec.max_memory)
        self._apply = _applications[spec.task.call](run)
        self.max_tasks = spec.max_tasks
        """Items after which this process is to be replaced (0: never)."""
        _check_text_encoding(spec.text_encoding)

    def _load(self, task: TaskSpec) -> Callable[..., Any]:
        """Return what is called with each item."""
        try:
            return tasks.load(task)
        except TaskError as error:
            if not self._whole:
                raise
            return _refusal(error)  # of many functions' callers, only this one's are to hear of it

    def widen(self) -> None:
        """Have the items run on an event loop from now on: the task makes awaitables."""
        self.sure = True
        self.width = self.spec.concurrency or CONCURRENCY

    def run(self, chunk: Chunk, frames: Sequence[Buffer]) -> list[Outcome]:
        """Run a chunk, whose payload is `frames`; return what became of it, up to the item that ended the job, if any.

        Raises WireError when the frames don't hold that many items, and Awaiting with what the task has returned if its
        first value is to be awaited.
        """
        start, stop = chunk.start, chunk.stop
        if stop - start == 1 and not chunk.skip and self.takes_single(chunk):
            outcome = self.run_single(start, chunk, *frames)
            if outcome is not None:
                return [Outcome(start, stop, [outcome])] if isinstance(outcome, bytes) else outcome
        self._tries, self._again = chunk.tries, {}
        if chunk.doom and self._whole:  # reading them may be what ends workers, and nobody is shown them
            items: Any = [None] * (stop - start)
            unread: Unread = deque()
        else:
            items, unread = read(self.spec, chunk, frames)
        batch = records.Batch(start, items, attempt=chunk.attempt, fate=chunk.fate)
        if self.clock is not None and not self.width:
            self.clock.clear()
        if chunk.doom:
            why = self._doomed(chunk)
            unread = deque((position, why) for position in range(stop - start))
        pending = iter(items)
        if not unread:
            self._batch, self._pending = batch, pending
        try:
            run = self._run_whole if self._whole else self._run
            return run(batch, pending, unread)
        finally:
            self._batch = None

    def takes_single(self, chunk: Chunk) -> bool:
        """Whether `run_single` is for a chunk's items, if they come one by one."""
        return self._whole and not (chunk.doom or self.spec.keep)

    def run_single(self, start: int, chunk: Chunk, *frames: Buffer) -> bytes | list[Outcome] | None:
        """Run a single item of a chunk whose value is wanted as it is.

        Return what became of it, or its value's one frame; None, and nothing was run, if it can't be read as one. The
        same as `run` in fewer steps: somebody may be waiting for just this, and each step is slow on a core that slept.
        """
        try:
            items = serialize.loads(frames)
        except BaseException:  # noqa: BLE001 - the longer way says what is wrong
            return None
        if type(items) is not list or len(items) != 1:
            return None
        values: list[Any] = []
        before = context.enter((start, values, chunk.attempt, self._worker, self.job))
        try:
            values.extend(self._apply(items))
            if self._untried and values:
                self._try(values)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
            return self._fail_one(start, chunk, items, error)
        finally:
            context.leave(before)
        if not values:
            return self._fail_one(start, chunk, items, RuntimeError(STOPPED), final=True)
        items.clear()  # what a task hands back unchanged is then nobody's but the result's
        found, failures = outcomes.encode(values, {}, start, self.spec.max_result)
        if len(found) == 1 and not failures and len(found[0]) <= INLINE_BYTES:
            return bytes(found[0])
        return [Outcome(start, start + 1, found, failures)]

    def _fail_one(
        self, start: int, chunk: Chunk, items: list[Any], error: BaseException, *, final: bool = False
    ) -> list[Outcome]:
        self._tries, self._again = chunk.tries, {}
        batch = records.Batch(start, items, attempt=chunk.attempt)
        self._fail(batch, error, final=final)
        return self._parted(batch, start + 1, self._packed)

    def cut(self) -> int:
        """Leave those items of the chunk under way that have not been started; return the first one's index, 0 if none.

        Called from another thread, which may be preempted anywhere: what has been started is asked for last.
        """
        batch, pending = self._batch, self._pending
        if batch is None or type(batch.items) is not list:
            return 0
        items, state = batch.items, pending.__reduce__()
        if len(state) < 3 or not isinstance(state[2], int):
            return 0
        at = max(1, state[2])  # a chunk without an item would have no outcome
        rest = items[at:]
        del items[at:]  # the iterator ends here now
        state = pending.__reduce__()
        begun = max(at, state[2] if len(state) == 3 and isinstance(state[2], int) else len(batch.values))
        items += rest[: begun - at]
        return batch.start + begun if begun < at + len(rest) else 0

    def _run(self, batch: records.Batch, pending: Iterator[Any], unread: Unread) -> list[Outcome]:
        """Run a chunk of whose values records are made, or a list."""
        while True:
            with context.running(batch.start, batch.values, batch.attempt, self._worker, self.job):
                hit = self._advance(batch, pending, unread)
            if hit is not None:
                self._encode(batch.only(hit), hit)
                if hit in batch.errors:  # one that can't be written has failed: the search goes on
                    continue
            stop = batch.start + len(batch.values) if hit is None else hit + 1
            return self._parted(batch, stop, partial(self._written, hit=hit))

    def _run_whole(self, batch: records.Batch, pending: Iterator[Any], unread: Unread) -> list[Outcome]:
        """Run a chunk whose values and exceptions are wanted as they are."""
        with context.running(batch.start, batch.values, batch.attempt, self._worker, self.job):
            self._advance(batch, pending, unread)
        self._batch = None
        return self._parted(batch, batch.start + len(batch.values), self._packed)

    def _advance(self, batch: records.Batch, pending: Iterator[Any], unread: Unread) -> int | None:
        """Run what is pending up to the item that ends the job, whose index is returned, or the chunk's end."""
        while True:
            edge = unread[0][0] if unread else len(batch.items)
            if self._run_to(edge, batch, pending):
                return batch.start + len(batch.values) - 1
            if not unread:
                return None
            next(pending)
            error = unread.popleft()[1]
            self._fail(batch, error, final=not isinstance(error, ItemTimeout))

    def _run_to(self, edge: int, batch: records.Batch, pending: Iterator[Any]) -> bool:
        """Run what is pending up to the position `edge`. True: the last one run ends the job."""
        values = batch.values
        while len(values) < min(edge, len(batch.items)):
            # To the end there is nothing to hold back, and each iterator around the items takes its time of each.
            some = pending if edge >= len(batch.items) else islice(pending, edge - len(values))
            results = self._apply(some)
            try:
                if self._until is None:
                    values.extend(results)  # keeps what came before an exception
                    if self._untried and values:
                        self._try(values)
                elif self._search(results, values, self._until):
                    return True
            except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
                self._fail(batch, error)
            else:
                if len(values) < min(edge, len(batch.items)):
                    stopped = RuntimeError(STOPPED) if self._whole else {**NO_TRACE, "type": "StopIteration"}
                    self._fail(batch, stopped, final=True)
        return False

    def read(self, chunk: Chunk, frames: Sequence[Buffer]) -> tuple[Any, Unread, int]:
        """Return a chunk's items, to be run elsewhere, and which can't be read, as (position, error).

        And by how much the numbers that they are shown by differ from the chunk's. Raises WireError as `run` does.
        """
        return *read(self.spec, chunk, frames), 0


def _refusal(error: TaskError) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise TaskError(*error.args)

    return refuse


def set_up(
    spec: JobSpec, allowed: Allowed | None, wait: Callable[[Any], object], given: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """Call what sets a worker up; return the state that the script's own functions share with it. Raises TaskError.

    `wait` sees an awaitable through, if that is what comes of it. `given`: what is called, if it need not be loaded.
    """
    check(spec, allowed)
    function: Callable[..., Any] = given or tasks.load(spec.task)
    try:
        made = function()
        if is_awaitable(made):
            wait(made)
    except BaseException as error:
        raise TaskError(f"{spec.task.name} failed in the worker:\n{trace_text(error)}") from error
    return tasks.state_of(function)


def _call_full(task: Callable[..., Any]) -> Callable[[Iterable[Any]], Iterator[Any]]:
    return partial(starmap, lambda args, kwargs: task(*args, **kwargs))


_calls: dict[str, Callable[[Callable[..., Any], Any], Any]] = {
    "one": lambda task, item: task(item),
    "star": lambda task, item: task(*item),
    "full": lambda task, item: task(*item[0], **item[1]),
}

_applications: dict[str, Callable[[Callable[..., Any]], Callable[[Iterable[Any]], Iterator[Any]]]] = {
    "one": lambda task: partial(map, task),
    "star": lambda task: partial(starmap, task),
    "full": _call_full,
}


def _check_text_encoding(name: str) -> None:
    try:
        b"a".decode(name)
    except LookupError as error:
        raise TaskError(f"{error}: give --encoding a name that Python knows, e.g. latin-1") from None
    except UnicodeError:  # a known one that a lone byte isn't valid in
        pass
