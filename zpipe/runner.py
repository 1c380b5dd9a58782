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
from itertools import islice
from typing import Any

import msgspec

from zpipe import context, records, serialize, tasks
from zpipe.core.wire import Buffer, Failure, ItemKind, JobSpec
from zpipe.errors import CommandFailed, TaskError, WireError
from zpipe.traces import message_text, trace_text

__all__ = ["Outcome", "Runner"]

_HERE = __file__.removesuffix("runner.py")

_Unread = deque[tuple[int, records.Error]]
"""The items that can't be read, as (position in the chunk, error), in order."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a chunk's items up to `stop`, which is before the chunk's own only when an item ended the job.

    `frames` are the records or values, `failures` the failed items in order of index, `hit` the index of the item
    that ended the job. A failure's traceback is empty where the records have it.
    """

    stop: int
    frames: list[Buffer]
    failures: list[Failure]
    hit: int | None


class Runner:
    """A job's task, loaded. `worker` and `job` are what `zpipe.current()` tells. Raises TaskError."""

    def __init__(self, spec: JobSpec, worker: str = "", job: str = "") -> None:
        self._spec = spec
        self._worker = worker
        self._job = job
        self._task = tasks.load(spec.task)
        self._until: Callable[[Any], Any] | None = None
        if spec.until is not None:
            self._until = tasks.load(spec.until)
        elif spec.first:
            self._until = operator.truth
        _check_text_encoding(spec.text_encoding)

    def run(self, start: int, stop: int, attempt: int, kind: ItemKind, frames: Sequence[Buffer]) -> Outcome:
        """Run items `[start, stop)`, which `frames` carry as `kind`.

        Raises WireError when the frames don't hold that many items.
        """
        items, unread = _read(self._spec, kind, start, stop - start, frames)
        batch = records.Batch(start, items)
        pending = iter(items)
        command = self._spec.task.kind == "command"
        while True:
            with context.running(start, batch.values, attempt, self._worker, self._job):
                hit = self._advance(batch, pending, unread)
            shown = batch.only(hit) if self._spec.first else batch
            written = records.encode(shown, self._spec.encoding, self._spec.max_result, command)
            if hit is None:
                return Outcome(stop, written, self._failures(batch), None)
            if hit not in batch.errors:  # one that can't be written has failed: the search goes on
                return Outcome(hit + 1, written, self._failures(batch), hit)

    def _advance(self, batch: records.Batch, pending: Iterator[Any], unread: _Unread) -> int | None:
        """Run what is pending up to the item that ends the job, whose index is returned, or the chunk's end."""
        while True:
            edge = unread[0][0] if unread else len(batch.items)
            if self._run_to(edge, batch, pending):
                return batch.start + len(batch.values) - 1
            if not unread:
                return None
            next(pending)
            _fail(batch, unread.popleft()[1])

    def _run_to(self, edge: int, batch: records.Batch, pending: Iterator[Any]) -> bool:
        """Run what is pending up to the position `edge`. True: the last one run ends the job."""
        values = batch.values
        while len(values) < edge:
            results = map(self._task, islice(pending, edge - len(values)))
            try:
                if self._until is None:
                    values.extend(results)  # keeps what came before an exception
                elif self._search(results, values, self._until):
                    return True
            except BaseException as error:  # noqa: BLE001 - whatever a task raises fails its item
                _fail(batch, _explain(error))
            else:
                if len(values) < edge:
                    _fail(batch, dict(_STOPPED))
        return False

    def _search(self, results: Iterable[Any], values: list[Any], until: Callable[[Any], Any]) -> bool:
        """Gather results up to the first that satisfies `until`. True: there was one."""
        first = self._spec.first
        for value in results:
            if until(value):
                values.append(value)
                return True
            values.append(None if first else value)
        return False

    def _failures(self, batch: records.Batch) -> list[Failure]:
        if not batch.errors:
            return []
        spell = self._spec.first or self._spec.encoding in {"values", "raw"}  # else the record has it
        return [
            Failure(index, error["type"], error["message"], error["traceback"] if spell else "")
            for index, error in sorted(batch.errors.items())
        ]


_STOPPED: records.Error = {
    "type": "StopIteration",
    "message": "the task raised StopIteration: next() on an iterator that has ended, perhaps; give next() a default",
    "traceback": "",
}


def _fail(batch: records.Batch, error: records.Error) -> None:
    """Record that the item after those whose outcomes are known failed."""
    batch.errors[batch.start + len(batch.values)] = error
    batch.values.append(None)


def _explain(error: BaseException) -> records.Error:
    """Return an exception as an item's error."""
    said = {"type": type(error).__name__, "message": message_text(error), "traceback": ""}
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


def _read(spec: JobSpec, kind: ItemKind, start: int, count: int, frames: Sequence[Buffer]) -> tuple[Any, _Unread]:
    """Return a chunk's items, with stand-ins for those that can't be read, and why they can't."""
    if not frames or (kind != "pickle" and len(frames) > 1):
        raise WireError(f"a chunk of {kind} items in {len(frames)} frames")
    if kind == "pickle":
        items, unread = _read_pickle(start, count, frames)
    elif kind == "lines":
        items, unread = _read_lines(spec, start, count, frames[0])
    else:
        items, unread = _read_json(spec, start, frames[0])
    if len(items) != count:
        raise WireError(f"a chunk for the range [{start}, {start + count}) with {len(items)} items")
    return items, unread


def _read_pickle(start: int, count: int, frames: Sequence[Buffer]) -> tuple[Any, _Unread]:
    try:
        items = serialize.loads(frames)
    except Exception as error:  # noqa: BLE001 - a class this worker lacks, say: the items fail
        said = f"items {start} to {start + count - 1} can't be unpickled on this worker: {message_text(error)}"
        failure = {"type": type(error).__name__, "message": said, "traceback": ""}
        return [None] * count, deque((position, failure) for position in range(count))
    if not isinstance(items, list | tuple | range):
        raise WireError(f"a chunk whose items are a {type(items).__name__}")
    return items, deque()


def _read_lines(spec: JobSpec, start: int, count: int, frame: Buffer) -> tuple[list[str], _Unread]:
    try:
        text, separator = str(frame, spec.text_encoding), spec.separator.decode("ascii")
    except UnicodeDecodeError:
        return _read_odd_lines(spec, start, frame)
    if separator == "\n" and "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    items = text.split(separator)
    # Lines are counted in bytes; in some encodings a character has a byte that looks like a separator.
    return (items, deque()) if len(items) == count else _read_odd_lines(spec, start, frame)


def _read_odd_lines(spec: JobSpec, start: int, frame: Buffer) -> tuple[list[str], _Unread]:
    """Return the lines, cut as bytes and decoded one by one, of a chunk that can't be decoded as a whole."""
    items: list[str] = []
    unread: _Unread = deque()
    for position, whole in enumerate(bytes(frame).split(spec.separator)):
        line = whole.removesuffix(b"\r") if spec.separator == b"\n" else whole
        try:
            items.append(line.decode(spec.text_encoding))
        except UnicodeDecodeError as error:
            items.append(line.decode(spec.text_encoding, "backslashreplace"))
            said = (
                f"item {start + position} isn't {spec.text_encoding}: byte 0x{line[error.start]:02x} at position "
                f"{error.start}; give the file's encoding with --encoding, e.g. latin-1"
            )
            unread.append((position, {"type": "UnicodeDecodeError", "message": said, "traceback": ""}))
    return items, unread


def _read_json(spec: JobSpec, start: int, frame: Buffer) -> tuple[list[Any], _Unread]:
    lines = bytes(frame).split(spec.separator)
    decode = msgspec.json.Decoder().decode
    items: list[Any] = []
    unread: _Unread = deque()
    pending = iter(lines)
    while len(items) < len(lines):
        try:
            items.extend(map(decode, pending))
        except (ValueError, RecursionError) as error:  # noqa: PERF203 - once for each odd line
            item, failure = _read_odd_json(start + len(items), lines[len(items)], error)
            if failure:
                unread.append((len(items), failure))
            items.append(item)
    return items, unread


def _read_odd_json(index: int, line: bytes, error: Exception) -> tuple[Any, records.Error | None]:
    """Return the item of a line that msgspec refused: the standard library takes NaN, infinities, lone surrogates."""
    import json

    try:
        return json.loads(line), None
    except (ValueError, RecursionError):
        said = f"item {index} isn't JSON: {error}; mend the line, or read the input as lines of text"
        failure = {"type": type(error).__name__, "message": said, "traceback": ""}
        return line.decode("utf-8", "backslashreplace"), failure
