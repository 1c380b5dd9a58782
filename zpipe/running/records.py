"""What is made of a chunk's outcomes on the worker: records ready to be written, or pickled values to be folded.

The rule: an outcome that can't be carried fails its own item and no other. The common case is one call into C for the
whole chunk; only when that fails, or comes out too large, is it taken item by item to find whose fault it is.
This file does not know how values come about, nor where records go.

    json    a line for each item: {"index","item","value"} or {"index","item","error":{"type","message","traceback"}},
            with "attempts" behind it when it was not the first one,
            and for a command also "exit", "stdout", "stderr". Bytes are base64, NaN and infinities null, dates ISO
            8601, paths text, NumPy's scalars and arrays plain numbers and lists. An item JSON can't hold is its repr
    pickle  a pickle for each item, to be read by calling pickle.load again and again: a dict with the same keys
    raw     the value as text, ended by a newline unless it has one. A command's is its stdout exactly; None and
            failed items write nothing
    values  one pickled list of the values of the items that did not fail, in the order of their indices
    values-json, values-msgpack  the same as data
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ClassVar

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import Codec, Encoding
from zpipe.core.wire import MAX_FRAMES, Buffer, Fate
from zpipe.running.traces import message_text

__all__ = ["Batch", "Error", "encode", "letter", "refuse", "refuse_size"]

Error = dict[str, Any]
"""An item's error: "type", "message" and "traceback" as text, and for a command "exit", "stdout" and "stderr"."""

_Row = tuple[int, Any, Any]


class Batch(msgspec.Struct):
    """The outcomes of items from index `start` on. Of a failed one `errors` has the error, `values` a placeholder.

    An error is an Error where records are made of them. `attempt` is the items', from 1. Of items that were not run
    since their workers ended over them `fate` has how the last one did.
    """

    start: int
    items: Any
    values: list[Any] = []
    errors: dict[int, Any] = {}
    attempt: int = 1
    fate: Fate | None = None

    several: ClassVar[bool] = False
    """Whether an item may have any number of rows."""

    def rows(self) -> Iterator[_Row]:
        """Yield (index, item, value) of each outcome."""
        return zip(range(self.start, self.start + len(self.values)), self.items, self.values, strict=False)

    def done(self) -> list[tuple[int, Any]]:
        """Return (index, value) of each item that did not fail."""
        return [(index, value) for index, value in enumerate(self.values, self.start) if index not in self.errors]

    def fail(self, index: int, error: Error) -> None:
        """Make an item a failed one, and let its value go."""
        self.values[index - self.start] = None
        self.errors[index] = error

    def only(self, index: int | None) -> Batch:
        """Return a batch of the one item at `index`, or of none, that shares this one's errors."""
        at = slice(0) if index is None else slice(index - self.start, index - self.start + 1)
        start = self.start if index is None else index
        return Batch(start, self.items[at], self.values[at], self.errors, self.attempt, self.fate)

    def part(self, start: int, stop: int) -> Batch:
        """Return a batch of the items from index `start` to before `stop`, with errors of its own."""
        at = slice(start - self.start, stop - self.start)
        errors = {index: error for index, error in self.errors.items() if start <= index < stop}
        return Batch(start, self.items[at], self.values[at], errors, self.attempt, self.fate)


_CODECS: dict[Encoding, Codec] = {"values": "pickle", "values-json": "json", "values-msgpack": "msgpack"}

_MEND = "return plain data"
_JSON_MEND = "ask for --format pickle, or return plain data"


def encode(
    batch: Batch, encoding: Encoding, limit: int, command: bool = False, codec: Codec = "pickle"
) -> list[Buffer]:
    """Return the frames for a chunk's outcomes, at least one. `command`: the values are results of commands.

    An outcome that can't be encoded, or takes more than `limit` bytes, becomes one of the batch's errors. `codec` is
    that of the job, where it may be no pickle.
    """
    if encoding in _CODECS:
        return _values(batch, limit, _CODECS[encoding])
    if encoding == "json":
        return [_json(batch, limit, _JSON_MEND if codec == "pickle" else _MEND)]
    if encoding == "pickle":
        return [_pickle(batch, limit)]
    return [_raw(batch, limit, command)]


def refuse(batch: Batch, index: int, value: Any, can: str, error: Exception, mend: str = _MEND) -> None:
    """Fail an item whose value can't be encoded."""
    if isinstance(value, GeneratorType | AsyncGeneratorType):
        mend = "return a list of what it yields, or name a function that has the yield itself (and is not async)"
    said = f"the value of item {index}, a {type(value).__name__}, can't {can}: {message_text(error)}; {mend}"
    batch.fail(index, {"type": type(error).__name__, "message": said, "traceback": ""})


def refuse_size(batch: Batch, index: int, size: int, limit: int) -> None:
    """Fail an item whose result is too large."""
    said = (
        f"the result of item {index} is {_size_text(size)}, over the limit of {_size_text(limit)}: "
        "write it to a file and return its path, or raise --max-result"
    )
    batch.fail(index, {"type": "ValueError", "message": said, "traceback": ""})


def _size_text(size: float) -> str:
    if size < 1024:
        return f"{size} bytes"
    unit = "KB" if size < 1024**2 else "MB" if size < 1024**3 else "GB"
    size /= {"KB": 1024, "MB": 1024**2, "GB": 1024**3}[unit]
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _values(batch: Batch, limit: int, codec: Codec) -> list[Buffer]:
    """Return the frames of one list."""
    frames = _try_values(batch, codec)
    if frames is not None and _size(frames) <= limit:
        return frames
    known = len(batch.errors)
    for index, value in batch.done():
        try:
            size = _size(_carry(value, codec))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever fails, fails its item
            refuse(batch, index, value, _can(codec), error)
        else:
            if size > limit:
                refuse_size(batch, index, size, limit)
    if frames is None or len(batch.errors) > known:
        frames = _try_values(batch, codec)
    return frames if frames is not None else _values_apart(batch, codec)


def _carry(value: Any, codec: Codec) -> list[Buffer]:
    return serialize.dumps(value) if codec == "pickle" else [data.dump(value, codec)]


def _can(codec: Codec) -> str:
    return "be pickled" if codec == "pickle" else f"be carried as {data.TITLES[codec]}"


def _try_values(batch: Batch, codec: Codec) -> list[Buffer] | None:
    """Return the frames of the values of the items that did not fail, or None when they can't be carried together."""
    values = [value for _, value in batch.done()] if batch.errors or batch.several else batch.values
    try:
        frames = _carry(values, codec)
        return frames if len(frames) < MAX_FRAMES else [serialize.dump_record(values)]
    except Exception:  # noqa: BLE001 - some item's fault: the slow way finds whose
        return None


def _values_apart(batch: Batch, codec: Codec) -> list[Buffer]:
    """Fail what is left of values that can be carried one by one, once, but not together."""
    for index, value in batch.done():
        why = ValueError("it could be once, and not again with its chunk's others")
        refuse(batch, index, value, _can(codec), why)
    return _carry([], codec)


def _size(frames: list[Buffer]) -> int:
    return sum(map(len, frames))


def _pickle(batch: Batch, limit: int) -> Buffer:
    """Return a pickle for each item of the batch."""
    if not batch.errors and batch.attempt == 1:
        dump = serialize.dump_record
        try:
            data = b"".join(
                [dump({"index": index, "item": item, "value": value}) for index, item, value in batch.rows()]
            )
            if len(data) <= limit:
                return data
        except Exception:  # noqa: BLE001, S110 - some item's fault: the slow way finds whose
            pass
    return _Records(batch, serialize.dump_record, "be pickled", limit).all()


class _Records:
    """The records of a batch, each made by `dump`, which raises for what can't `can`; `mend` is what to do then."""

    def __init__(
        self, batch: Batch, dump: Callable[[dict[str, Any]], bytes], can: str, limit: int, mend: str = _MEND
    ) -> None:
        self._batch, self._dump, self._can, self._limit, self._mend = batch, dump, can, limit, mend

    def all(self) -> bytes:
        """Return the records in order."""
        return b"".join([self._record(*row) for row in self._batch.rows()])

    def _record(self, index: int, item: Any, value: Any) -> bytes:
        if index not in self._batch.errors:
            try:
                data = self._show(index, item, "value", value)
            except Exception as error:  # noqa: BLE001 - whatever fails, fails its item
                refuse(self._batch, index, value, self._can, error, self._mend)
            else:
                if len(data) <= self._limit:
                    return data
                refuse_size(self._batch, index, len(data), self._limit)
        return self._error_record(index, item)

    def _error_record(self, index: int, item: Any) -> bytes:
        """Return the record of an item's error, without a command's output when that takes too much."""
        error = self._batch.errors[index]
        data = self._show(index, item, "error", error)
        if len(data) <= self._limit:
            return data
        return self._show(index, item, "error", {key: error[key] for key in ("type", "message", "traceback")})

    def _show(self, index: int, item: Any, key: str, outcome: Any) -> bytes:
        """Return a record that holds the item, or its repr when it can't be held."""
        more = {"attempts": self._batch.attempt} if self._batch.attempt > 1 else {}
        try:
            data = self._dump({"index": index, "item": item, key: outcome, **more})
            if len(data) <= self._limit:
                return data
        except Exception:  # noqa: BLE001, S110 - the item or the outcome: without the item we know which
            pass
        return self._dump({"index": index, "item": _repr(item), key: outcome, **more})


def letter(batch: Batch, index: int, error: Error, worker: str, stage: int = 0) -> bytes:
    """Return a dead letter: the line of JSON that tells of an item that was given up, and can be read again."""
    item = batch.items[index - batch.start]
    told = {"index": index, "error": error, "attempts": batch.attempt, "worker": worker}
    if stage:
        told["stage"] = stage
    try:
        return _dump_json({"item": item, **told})
    except Exception:  # noqa: BLE001 - what JSON can't hold is told, and can't be read again
        return _dump_json({"item": None, "repr": _repr(item), **told})


def _repr(item: Any) -> str:
    """Return an item's repr, of bounded length whatever it holds."""
    import reprlib

    short = reprlib.Repr()
    short.maxstring = short.maxother = 200
    return short.repr(item)


class _Done(msgspec.Struct, gc=False):
    index: int
    item: Any
    value: Any


class _Failed(msgspec.Struct, gc=False):
    index: int
    item: Any
    error: Error


def _json(batch: Batch, limit: int, mend: str) -> Buffer:
    """Return the batch's lines of JSON."""
    try:
        lines = _encoder.encode_lines(_json_rows(batch)) if batch.attempt == 1 else b""
        if lines and len(lines) <= limit:
            return lines
    except Exception:  # noqa: BLE001, S110 - some item's fault: the slow way finds whose
        pass
    return _Records(batch, _dump_json, "be written as JSON", limit, mend).all()


def _json_rows(batch: Batch) -> list[_Done | _Failed]:
    errors = batch.errors
    if not (errors or batch.several):
        return list(map(_Done, range(batch.start, batch.start + len(batch.values)), batch.items, batch.values))
    return [
        _Failed(index, item, errors[index]) if index in errors else _Done(index, item, value)
        for index, item, value in batch.rows()
    ]


def _dump_json(record: dict[str, Any]) -> bytes:
    """Return a record's line. Lone surrogates take the standard library's slower way."""
    try:
        return _encoder.encode(record) + b"\n"
    except Exception:  # noqa: BLE001 - json.dumps says what is wrong, if anything is
        import json

        return json.dumps(record, allow_nan=False, default=_builtins).encode() + b"\n"


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value of a type that msgspec does not know."""
    for kind in (str, float, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    listed = getattr(value, "tolist", None)
    if listed is None:
        raise TypeError(f"JSON has nothing for a {type(value).__name__}")
    return listed()


_encoder = msgspec.json.Encoder(enc_hook=_plain)


_PLAIN_TEXT = {str, int, float, bool}


def _raw(batch: Batch, limit: int, command: bool) -> Buffer:
    """Return the batch's values as text."""
    values = [value for _, value in batch.done()] if batch.several else batch.values
    data = None if command or batch.errors else _try_lines(values)
    if data is not None and len(data) <= limit:
        return data
    return b"".join([_raw_value(batch, limit, command, index, value) for index, value in batch.done()])


def _try_lines(values: list[Any]) -> bytes | None:
    """Return values that are numbers or single lines as lines, or None when some are something else."""
    kinds = set(map(type, values))
    if not values or not kinds <= _PLAIN_TEXT:
        return None
    try:
        text = "\n".join(values if kinds == {str} else map(str, values)) + "\n"
        return text.encode("utf-8", "surrogateescape") if text.count("\n") == len(values) else None
    except ValueError:  # a lone surrogate, or a whole number of too many digits
        return None


def _raw_value(batch: Batch, limit: int, command: bool, index: int, value: Any) -> bytes:
    """Return one value as text, or nothing and a failed item."""
    try:
        data = _text(value["stdout"] or None) if command else _text(value)
    except Exception as error:  # noqa: BLE001 - whatever fails, fails its item
        refuse(batch, index, value, "be written as text", error, _JSON_MEND)
        return b""
    if len(data) > limit:
        refuse_size(batch, index, len(data), limit)
        return b""
    return data


def _text(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
    else:
        data = str(value).encode("utf-8", "surrogateescape")
    return data if data.endswith(b"\n") else data + b"\n"
