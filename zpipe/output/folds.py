"""Where values end up, at the sink: folded into one, which is then written as a record, or passed to a callback.

Values come as they are, not as records of them; what may be read of them depends on the job's codec. Must not know
about chunks, workers, sockets or receipts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import Codec, Encoding
from zpipe.core.wire import Buffer
from zpipe.errors import OutputError, UsageError
from zpipe.output.outputs import Output
from zpipe.running.traces import trace_text

__all__ = ["CallOutput", "Fold", "FoldOutput"]

Reducer = Callable[[Any, Any], Any]


class Fold(NamedTuple):
    """What to fold values with, whether there is an initial one, that, and how values come."""

    reducer: Reducer
    has_initial: bool = False
    initial: Any = None
    codec: Codec = "pickle"

    def into(self, target: Output) -> FoldOutput:
        """Return the output that writes the folded value to `target`."""
        return FoldOutput(self.reducer, self.has_initial, self.initial, target, self.codec)


class CallOutput:
    """Each chunk's list of values, which come in this codec, passed to a callback. Its exceptions go through."""

    def __init__(self, on_values: Callable[[list[Any]], object], codec: Codec = "pickle") -> None:
        self._on_values, self._codec = on_values, codec
        self.encoding: Encoding = (
            "values" if codec == "pickle" else "values-json" if codec == "json" else "values-msgpack"
        )

    def write(self, frames: Sequence[Buffer]) -> None:
        """Take one chunk's values. Raises OutputError when they can't be unpickled here, or are no data."""
        if not frames or not len(frames[0]):
            return
        values = self._unpickle(frames) if self._codec == "pickle" else self._read(frames)
        if values:
            self._on_values(values)

    def _unpickle(self, frames: Sequence[Buffer]) -> list[Any]:
        try:
            values: list[Any] = serialize.loads(frames)
        except Exception as error:
            what = f"results can't be unpickled where they are collected: {_told(error)}"
            mend = "make the module that defines them importable there, or return plain data"
            raise OutputError(f"{what}; {mend}") from error
        return values

    def _read(self, frames: Sequence[Buffer]) -> list[Any]:
        title = data.TITLES[self._codec]
        try:
            values = data.load(frames[0], self._codec) if len(frames) == 1 else None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, list):
            raise OutputError(
                f"a worker sent results that are no {title}, as --codec {self._codec} has it; they were not looked "
                "at. Find out what that worker runs: zpipe does not send such"
            )
        return values

    def flush(self) -> None:
        """Do nothing: values are not held back."""

    def finish(self) -> None:
        """Do nothing: all values were taken."""

    def abandon(self) -> str:
        """Keep nothing."""
        return ""


class FoldOutput(CallOutput):
    """All values folded into one with `reducer(folded, value)`, written to `target` once the job is whole.

    Without an initial value the first value starts the fold. `value` is what is folded so far; with another `codec`
    than pickle values come as data. The target's encoding says how it is written; without a target it is only kept.
    `write` raises OutputError when the reducer raises, with its traceback.
    """

    def __init__(
        self,
        reducer: Reducer,
        has_initial: bool = False,
        initial: Any = None,
        target: Output | None = None,
        codec: Codec = "pickle",
    ) -> None:
        super().__init__(self._take, codec)
        self.value = initial
        self._reducer = reducer
        self._started = has_initial
        self._target = target

    def _take(self, values: list[Any]) -> None:
        start = (self.value,) if self._started else ()
        try:
            self.value = functools.reduce(self._reducer, values, *start)
        except Exception as error:
            name = getattr(self._reducer, "__qualname__", repr(self._reducer))
            raise OutputError(
                f"the reducer {name} raised {_told(error)}; mend it\n{trace_text(error).rstrip()}"
            ) from error
        self._started = True

    def snapshot(self) -> bytes | None:
        """Return what is folded so far as bytes, None if it can't be carried in them."""
        try:
            if self._codec != "pickle":
                whole = data.is_plain(self.value, self._codec)
                return data.dump([self._started, self.value], self._codec) if whole else None
            return serialize.dump_whole((self._started, self.value))
        except Exception:  # noqa: BLE001 - whatever a value's own methods raise
            return None

    def restore(self, kept: bytes) -> None:
        """Go on from a snapshot. Raises UsageError when it can't be read here."""
        try:
            plain = self._codec != "pickle"
            self._started, self.value = data.load(kept, self._codec) if plain else serialize.loads([kept])
        except Exception as error:
            if plain:
                raise UsageError(f"the folded value in the journal is no {data.TITLES[self._codec]}") from error
            raise UsageError(
                f"the folded value in the journal can't be unpickled here: {_told(error)}; make the modules that "
                "define it importable, as they were"
            ) from error

    def finish(self) -> None:
        """Write the folded value. Raises OutputError when there is none, or it can't be written as asked."""
        if not self._started:
            raise OutputError("nothing to fold: no item gave a value; give an initial value (--initial)")
        if self._target is not None:
            records = getattr(self._reducer, "records", None)
            encoding, plain = self._target.encoding, self._codec != "pickle"
            for value in [self.value] if records is None else records(self.value, encoding):
                self._target.write([_record(value, encoding, plain=plain)])
            self._target.finish()

    def abandon(self) -> str:
        """Keep nothing: a part of a fold is not an answer."""
        return "" if self._target is None else self._target.abandon()


def _record(value: Any, encoding: Encoding, *, plain: bool) -> bytes:
    """Return one record of `value`. Raises OutputError when it can't be had in that encoding."""
    try:
        if encoding == "json":
            return _json(value) + b"\n"
        if encoding == "raw":
            return (value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")) + b"\n"
        return serialize.dump_record(value)
    except Exception as error:
        what = f"the folded value, of type {type(value).__name__}, can't be written as {encoding}"
        mend = (
            "ask for --format pickle, or return plain data" if encoding == "json" and not plain else "return plain data"
        )
        raise OutputError(f"{what}: {_told(error)}; {mend}") from error


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except Exception:  # noqa: BLE001 - lone surrogates or odd keys, which the standard encoder may know
        return json.dumps(value, allow_nan=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays, what a sum of results often is
        return value.tolist()
    raise TypeError(f"JSON has no {type(value).__name__}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
