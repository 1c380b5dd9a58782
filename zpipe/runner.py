"""Runs a job's task over one chunk of items after another.

The rule: an item that fails, fails alone, whatever it raises. On the way where nothing fails no Python of ours runs
per item. This file does not know where chunks come from, nor where outcomes go.

Values are kept until the chunk is done: a task that returns one object again and again, changed in between, gives
what the object is at the chunk's end.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, starmap
from typing import Any

import msgspec

from zpipe import context, keepsakes, outcomes, packing, records, serialize, tasks
from zpipe.allowed import Allowed, check
from zpipe.core import wire
from zpipe.core.wire import Buffer, Chunk, Failure, JobSpec, TaskSpec
from zpipe.errors import CommandFailed, Expired, ItemTimeout, TaskError
from zpipe.joblog import Clock
from zpipe.listed import Listed
from zpipe.reading import Unread, read
from zpipe.retries import Rule
from zpipe.stopwatch import Stopwatch
from zpipe.traces import message_text, trace_text

__all__ = ["Outcome", "Runner", "set_up"]

_HERE = __file__.removesuffix("runner.py")


class Outcome(msgspec.Struct, frozen=True):
    """What became of items `[start, stop)` of a chunk.

    `frames` are the records or values, `failures` the failed items in order of index, `hit` the index of the item
    that ended the job. A failure's traceback is empty where the records have it. With `again` there is no outcome: the
    items failed, and are to be tried again in so many seconds. `log` are lines for the job log, if there is one, `kept`
    the outcomes one by one, if others may need them.
    """

    start: int
    stop: int
    frames: list[Buffer]
    failures: list[Failure] = []
    hit: int | None = None
    again: float | None = None
    log: bytes = b""
    kept: list[bytes] = []


class Runner:
    """A job's task, loaded. `worker` and `job` are what `zpipe.current()` tells. Raises TaskError.

    `state`: names that a function of the script's own (of `__main__`) shares with what set the worker up. `stopwatch`:
    where whoever enforces a job's limits sees what runs. `allowed`: what may be run here, if not everything.
    """

    def __init__(
        self,
        spec: JobSpec,
        worker: str = "",
        job: str = "",
        state: dict[str, Any] | None = None,
        stopwatch: Stopwatch | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        check(spec, allowed)
        self._spec = spec
        self._worker = worker
        self._job = job
        self._whole = spec.encoding == "outcomes"
        self._task = self._load(spec.task)
        if state:
            tasks.share(self._task, state)
        self._flat = not self._whole and tasks.yields(self._task)
        if self._flat:
            self._task = Listed(self._task)
        self._clock = Clock(spec.task.name) if spec.joblog else None
        if self._clock is not None:
            self._task = self._clock.timed(self._task)
        self._batch: records.Batch | None = None
        self._pending: Iterator[Any] = iter(())
        if spec.limited and stopwatch is not None:
            self._task = stopwatch.watched(self._task, spec.timeout, spec.max_memory)
        self._apply = _applications[spec.task.call](self._task)
        self._until: Callable[[Any], Any] | None = None
        if spec.until is not None:
            self._until = tasks.load(spec.until)
        elif spec.first:
            self._until = operator.truth
        self._rule = Rule(spec)
        self.max_tasks = spec.max_tasks
        """Items after which this process is to be replaced (0: never)."""
        self._tries = 0
        self._again: dict[int, float] = {}
        _check_text_encoding(spec.text_encoding)

    def _load(self, task: TaskSpec) -> Callable[..., Any]:
        """Return what is called with each item."""
        try:
            return tasks.load(task)
        except TaskError as error:
            if not self._whole:
                raise
            return _refusal(error)  # of many functions' callers, only this one's are to hear of it

    def run(self, chunk: Chunk, frames: Sequence[Buffer]) -> list[Outcome]:
        """Run a chunk, whose payload is `frames`; return what became of it, up to the item that ended the job, if any.

        Raises WireError when the frames don't hold that many items.
        """
        start, stop = chunk.start, chunk.stop
        self._tries, self._again = chunk.tries, {}
        if self._whole and stop - start == 1 and not (chunk.doom or chunk.skip or self._spec.keep):
            outcome = self._run_one(chunk, frames)
            if outcome is not None:
                return outcome
        items: Any = [None] * (stop - start)
        unread: Unread = deque()
        if not (chunk.doom and self._whole):  # reading them may be what ends workers, and nobody is shown them
            items, unread = read(self._spec, chunk, frames)
        batch = records.Batch(start, items, attempt=chunk.attempt, fate=chunk.fate)
        if self._clock is not None:
            self._clock.clear()
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

    def _run_one(self, chunk: Chunk, frames: Sequence[Buffer]) -> list[Outcome] | None:
        """Run a single item whose value is wanted as it is; None, and nothing was run, if it can't be read as one.

        The same in fewer steps: somebody may be waiting for just this, and each step is slow on a core that slept.
        """
        try:
            items = serialize.loads(frames)
        except BaseException:  # noqa: BLE001 - the longer way says what is wrong
            return None
        if type(items) is not list or len(items) != 1:
            return None
        values: list[Any] = []
        start = chunk.start
        before = context.enter((start, values, chunk.attempt, self._worker, self._job))
        try:
            values.extend(self._apply(items))
        except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
            return self._fail_one(chunk, items, error)
        finally:
            context.leave(before)
        if not values:
            return self._fail_one(chunk, items, RuntimeError(_STOPPED), final=True)
        items.clear()  # what a task hands back unchanged is then nobody's but the result's
        return [Outcome(start, start + 1, *outcomes.encode(values, {}, start, self._spec.max_result))]

    def _fail_one(self, chunk: Chunk, items: list[Any], error: BaseException, *, final: bool = False) -> list[Outcome]:
        batch = records.Batch(chunk.start, items, attempt=chunk.attempt)
        self._fail(batch, error, final=final)
        return self._parted(batch, chunk.stop, self._packed)

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
            with context.running(batch.start, batch.values, batch.attempt, self._worker, self._job):
                hit = self._advance(batch, pending, unread)
            if hit is not None:
                self._encode(batch.only(hit), hit)
                if hit in batch.errors:  # one that can't be written has failed: the search goes on
                    continue
            stop = batch.start + len(batch.values) if hit is None else hit + 1
            return self._parted(batch, stop, partial(self._written, hit=hit))

    def _encode(self, batch: records.Batch, hit: int | None) -> list[Buffer]:
        shown = batch.only(hit) if self._spec.first else batch
        spec = self._spec
        wanted = (spec.encoding, spec.max_result, spec.task.kind == "command", spec.codec)
        if self._flat or spec.encoding == "packed":
            return packing.encode(shown, *wanted, flat=self._flat)
        return records.encode(shown, *wanted)

    def _written(self, part: records.Batch, hit: int | None) -> Outcome:
        stop = part.start + len(part.values)
        mine = hit if hit is not None and part.start <= hit < stop else None
        frames = self._encode(part, mine)
        log = self._clock.lines(part) if self._clock is not None else b""
        if why := _too_long(frames, part):
            for index in range(part.start, stop):
                part.fail(index, _explain(ValueError(why)))
            frames, mine = self._encode(part, None), None
        kept = self._kept(part) if self._spec.keep else []
        return Outcome(part.start, stop, frames, self._failures(part), mine, log=log, kept=kept)

    def _kept(self, part: records.Batch, pack: Callable[[Any], Any] | None = None) -> list[bytes]:
        errors = {index - part.start: error for index, error in part.errors.items()}
        return keepsakes.keep(part.values, errors, self._spec.keep, self._spec.codec, pack)

    def _parted(self, batch: records.Batch, stop: int, outcome: Callable[[records.Batch], Outcome]) -> list[Outcome]:
        """Return the outcomes of the items up to `stop`: those between any that are to be tried again, and these."""
        if not self._again:
            return [outcome(batch)]
        parted, at = [], batch.start
        for index in [*sorted(index for index in self._again if index < stop), stop]:
            if index > at:
                parted.append(outcome(batch.part(at, index)))
            if index < stop:
                parted.append(Outcome(index, index + 1, [b""], again=self._again[index]))
            at = index + 1
        return parted

    def _doomed(self, chunk: Chunk) -> records.Error | BaseException:
        """Why a chunk's items are not to be run."""
        why = chunk.doom
        if chunk.late or chunk.expired:
            return ItemTimeout(why) if chunk.late else Expired(why)
        if not self._whole:
            return {"type": "WorkerLost", "message": why, "traceback": ""}
        from zpipe.broken import WorkerLost

        return WorkerLost(why)

    def _run_whole(self, batch: records.Batch, pending: Iterator[Any], unread: Unread) -> list[Outcome]:
        """Run a chunk whose values and exceptions are wanted as they are."""
        with context.running(batch.start, batch.values, batch.attempt, self._worker, self._job):
            self._advance(batch, pending, unread)
        self._batch = None
        return self._parted(batch, batch.start + len(batch.values), self._packed)

    def _packed(self, part: records.Batch) -> Outcome:
        start, stop = part.start, part.start + len(part.values)
        errors = {index - start: error for index, error in part.errors.items()}
        if type(part.items) is list:
            part.items.clear()  # what a task hands back unchanged is then nobody's but the result's
        kept = self._kept(part, outcomes.pack) if self._spec.keep else []
        frames, failures = outcomes.encode(part.values, errors, start, self._spec.max_result, part.attempt)
        if why := _too_long(frames, part):
            count = stop - start
            frames, failures = outcomes.encode([None] * count, dict.fromkeys(range(count), ValueError(why)), start)
        for failure in failures if kept else ():
            if failure.index - start not in errors:  # it can't be carried
                kept[failure.index - start] = b""
        return Outcome(start, stop, frames, failures, kept=kept)

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
            results = self._apply(islice(pending, edge - len(values)))
            try:
                if self._until is None:
                    values.extend(results)  # keeps what came before an exception
                elif self._search(results, values, self._until):
                    return True
            except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
                self._fail(batch, error)
            else:
                if len(values) < min(edge, len(batch.items)):
                    stopped = RuntimeError(_STOPPED) if self._whole else {**_NO_TRACE, "type": "StopIteration"}
                    self._fail(batch, stopped, final=True)
        return False

    def _fail(self, batch: records.Batch, error: records.Error | BaseException, *, final: bool = False) -> None:
        """Record that the item after those whose outcomes are known failed. `final`: another try would not help."""
        if not final and isinstance(error, BaseException):
            after = self._rule.after(error, self._tries)
            if after is not None:
                self._again[batch.start + len(batch.values)] = after
        if isinstance(error, BaseException) and not self._whole:
            error = _explain(error)
        batch.errors[batch.start + len(batch.values)] = error
        batch.values.append(None)

    def _search(self, results: Iterable[Any], values: list[Any], until: Callable[[Any], Any]) -> bool:
        """Gather results up to the first that satisfies `until`. True: there was one."""
        drop = self._spec.first and not self._spec.keep
        for value in results:
            if until(value):
                values.append(value)
                return True
            values.append(None if drop else value)
        return False

    def _failures(self, batch: records.Batch) -> list[Failure]:
        if not batch.errors:
            return []
        spell = self._spec.first or self._spec.encoding not in {"json", "pickle"}  # else the record has it
        letters = self._spec.letters
        worker = batch.fate.worker if batch.fate is not None else self._worker
        return [
            Failure(
                index,
                error["type"],
                error["message"],
                error["traceback"] if spell else "",
                records.letter(batch, index, error, worker, self._spec.stage) if letters else b"",
            )
            for index, error in sorted(batch.errors.items())
        ]


def _too_long(frames: Sequence[Buffer], part: records.Batch) -> str:
    """Return why outcomes can't be sent in one message, empty if they can."""
    longest = max(map(len, frames))
    if longest <= wire.MAX_BYTES:
        return ""
    return (
        f"the results of the chunk from item {part.start} on take {longest:,} bytes, over the {wire.MAX_BYTES:,} that "
        "fit into a message: send fewer items together (--chunk, chunksize), or write to files and return their paths"
    )


def _refusal(error: TaskError) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise TaskError(*error.args)

    return refuse


def set_up(spec: JobSpec, allowed: Allowed | None = None) -> dict[str, Any]:
    """Call what sets a worker up; return the state that the script's own functions share with it. Raises TaskError."""
    check(spec, allowed)
    function: Callable[..., Any] = tasks.load(spec.task)
    try:
        function()
    except BaseException as error:
        raise TaskError(f"{spec.task.name} failed in the worker:\n{trace_text(error)}") from error
    return tasks.state_of(function)


def _call_full(task: Callable[..., Any]) -> Callable[[Iterable[Any]], Iterator[Any]]:
    return partial(starmap, lambda args, kwargs: task(*args, **kwargs))


_applications: dict[str, Callable[[Callable[..., Any]], Callable[[Iterable[Any]], Iterator[Any]]]] = {
    "one": lambda task: partial(map, task),
    "star": lambda task: partial(starmap, task),
    "full": _call_full,
}

_STOPPED = "the task raised StopIteration: next() on an iterator that has ended, perhaps; give next() a default"
_NO_TRACE: records.Error = {"message": _STOPPED, "traceback": ""}


def _explain(error: BaseException) -> records.Error:
    """Return an exception as an item's error."""
    said = {"type": type(error).__name__, "message": message_text(error), "traceback": ""}
    if isinstance(error, ItemTimeout | Expired):
        return said
    if isinstance(error, CommandFailed):
        return {**said, "exit": error.status, "stdout": error.stdout, "stderr": error.stderr}
    return {**said, "traceback": trace_text(error)}


def _check_text_encoding(name: str) -> None:
    try:
        b"a".decode(name)
    except LookupError as error:
        raise TaskError(f"{error}: give --encoding a name that Python knows, e.g. latin-1") from None
    except UnicodeError:  # a known one that a lone byte isn't valid in
        pass
