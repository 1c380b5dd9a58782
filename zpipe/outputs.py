"""Where results end up, at the sink: a file, standard output, a fold, or a callback.

One rule: an output is whole or it is not there. A file appears under its name only when the job is whole; until
then what there is stands in `<name>.partial`. Payloads come deduplicated and in the order wanted; this file
must not know about chunks, workers, sockets or receipts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal, NoReturn, Protocol

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import Codec, Encoding
from zpipe.core.wire import Buffer
from zpipe.errors import OutputError, UsageError
from zpipe.journal import Mark
from zpipe.partials import BUFFER, is_direct, open_partial, partial_of, reason, sync_folder, target_of
from zpipe.traces import trace_text

__all__ = [
    "CallOutput",
    "FileOutput",
    "Fold",
    "FoldOutput",
    "Format",
    "Output",
    "OutputClosed",
    "StandingOutput",
    "StreamOutput",
    "is_stdout",
    "open_output",
]

Format = Literal["json", "raw", "pickle"]
"""How results are written: a line of JSON each, a line of text each, or a pickle each."""

_Reducer = Callable[[Any, Any], Any]

Fold = tuple[_Reducer, bool, Any, Codec]
"""A reducer, whether it has an initial value, that, and how values come to it."""

_STDOUT_NAMES = (None, "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class OutputClosed(OutputError):
    """Whoever read the output went away (`zpipe run ... | head`): no one is left to tell."""


class Output(Protocol):
    """What the sink asks of an output, from one thread. `encoding` says what workers make of their values.

    For "json", "raw" and "pickle" a chunk's frames are whole records as bytes; for "values" they are the list of
    its successful values, in index order, from `serialize.dumps`, for "values-json" and "values-msgpack" from
    `data.dump`. No frames, or an empty one: no records.
    """

    encoding: Encoding

    def write(self, frames: Sequence[Buffer]) -> None:
        """Take one chunk's payload. Raises OutputError."""

    def flush(self) -> None:
        """Make what was written visible: the sink is about to wait. Raises OutputError."""

    def finish(self) -> None:
        """Make the output stand: the job is whole. Raises OutputError."""

    def abandon(self) -> str:
        """Keep what there is of a job that is not whole, and say in a sentence where ("": nothing is kept).

        Never raises; it may follow a call that did.
        """


class _ByteOutput:
    """Records written through a buffered binary file."""

    def __init__(self, file: BinaryIO, name: str, encoding: Format) -> None:
        self.encoding: Encoding = encoding
        self._file = file
        self._name = name
        self._wrote = False
        self._cut = False

    def write(self, frames: Sequence[Buffer]) -> None:
        """Append one chunk's records. Raises OutputError, or OutputClosed when the reader went away."""
        try:
            self._file.writelines(frames)
        except OSError as error:
            self._fail(error)
        self._wrote = True

    def flush(self) -> None:
        """Hand what was written to the system. Raises as `write` does."""
        try:
            self._file.flush()
        except OSError as error:
            self._fail(error)

    def finish(self) -> None:
        """Push out what is left. Raises as `write` does."""
        self.flush()
        self._close()

    def abandon(self) -> str:
        """Push out what is left, if that still goes, and say that it went there."""
        if self._file.closed:
            return ""
        self._close()
        return f"the results so far went to {self._name}" if self._wrote and not self._cut else ""

    def _fail(self, error: OSError, cut: bool = True) -> NoReturn:
        self._cut = cut
        if error.errno == errno.EPIPE:
            raise OutputClosed(f"can't write {self._name}: its reader went away; let it read to the end") from None
        raise OutputError(f"can't write {self._name}: {reason(error)}") from None

    def _close(self) -> None:
        # What failed fails again when its buffer is flushed; the file is closed all the same.
        try:
            self._file.close()
        except OSError:
            self._cut = True


class StreamOutput(_ByteOutput):
    """Records written straight to standard output, which is left open. Raises UsageError when it is closed."""

    def __init__(self, encoding: Format, fd: int = 1) -> None:
        name = "standard output"
        try:
            super().__init__(open(fd, "wb", 64 * 1024, closefd=False), name, encoding)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"can't write {name}: {reason(error)}") from None


class FileOutput(_ByteOutput):
    """Records collected in `<path>.partial` and moved to `path`, synced to disk, once the job is whole.

    The partial file is locked while it is written; one left behind by an earlier run is begun anew, or with a `mark`
    of it cut to that and gone on with. A file that is replaced passes its permissions on; a symbolic link stays one,
    its target is replaced. What is no regular file (a device, a FIFO) is written to directly. `live`: so is `path`.
    Raises UsageError when `path` can't be written, another run writes it, or what is there is not what was marked.
    """

    def __init__(
        self, path: str | os.PathLike[str], encoding: Format, mark: Mark | None = None, *, live: bool = False
    ) -> None:
        name = os.fspath(path)
        self._target = target = target_of(name)
        self._partial = target if live else partial_of(target)
        self.direct = is_direct(name)
        """Whether it is no regular file."""
        self._entered = self.direct
        """Whether its name is on the disk as well."""
        try:
            # Appending matters for /dev/fd/N alone: it may be a file that the shell opened with >>.
            file = open(name, "ab", BUFFER) if self.direct else open_partial(target, self._partial, mark)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"can't write {name}: {reason(error)}") from None
        super().__init__(file, name, encoding)

    def mark(self) -> Mark:
        """Hand what was written to the system, and return how far that is. Raises OutputError."""
        self.flush()
        try:
            return Mark.of(self._file.fileno(), self._file.tell())
        except OSError as error:
            self._fail(error)

    def sync(self) -> None:
        """Wait until what was handed to the system is on the disk; from any thread. Raises OutputError."""
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._fail(error)
        if not self._entered:
            sync_folder(self._partial.parent)
            self._entered = True

    def finish(self) -> None:
        """Sync the records to disk and put them in place under the output's name. Raises OutputError."""
        self.flush()
        if not self.direct:
            try:
                os.fsync(self._file.fileno())
                if self._partial != self._target:
                    self._partial.replace(self._target)
            except OSError as error:
                self._fail(error, cut=False)
            sync_folder(self._target.parent)
        self._close()

    def abandon(self) -> str:
        """Keep the partial file, unless it is empty, and say where it is."""
        if self.direct or self._file.closed:
            return super().abandon()
        with contextlib.suppress(OSError):
            self._file.flush()
        size = os.fstat(self._file.fileno()).st_size
        if not size and self._partial != self._target:
            # Before the lock goes, or the file removed could be another run's.
            with contextlib.suppress(OSError):
                self._partial.unlink()
        self._close()
        cut = " (its last record may be cut short)" if self._cut else ""
        return f"the results so far are in {self._partial}{cut}" if size and self._partial != self._target else ""


class StandingOutput:
    """A file that stands already: nothing more is written."""

    def __init__(self, encoding: Format) -> None:
        self.encoding: Encoding = encoding

    def write(self, frames: Sequence[Buffer]) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def abandon(self) -> str:
        """Keep what there is."""
        return ""


class _ValueOutput:
    """Lists of values, taken as they come."""

    encoding: Encoding = "values"
    _codec: Codec = "pickle"
    _take: Callable[[list[Any]], object]

    def write(self, frames: Sequence[Buffer]) -> None:
        """Take one chunk's values. Raises OutputError when they can't be unpickled here, or are no data."""
        if not frames or not len(frames[0]):
            return
        values = self._unpickle(frames) if self._codec == "pickle" else self._read(frames)
        if values:
            self._take(values)

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


class CallOutput(_ValueOutput):
    """Each chunk's list of values passed to a callback, whose exceptions go through as they are."""

    def __init__(self, on_values: Callable[[list[Any]], object]) -> None:
        self._take = on_values


class FoldOutput(_ValueOutput):
    """All values folded into one with `reducer(folded, value)`, written to `target` once the job is whole.

    Without an initial value the first value starts the fold. `value` is what is folded so far; with another `codec`
    than pickle values come as data. The target's encoding says how it is written; without a target it is only kept.
    `write` raises OutputError when the reducer raises, with its traceback.
    """

    def __init__(
        self,
        reducer: _Reducer,
        has_initial: bool = False,
        initial: Any = None,
        target: Output | None = None,
        codec: Codec = "pickle",
    ) -> None:
        self._codec = codec
        self.encoding = "values" if codec == "pickle" else "values-json" if codec == "json" else "values-msgpack"
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

    @property
    def target(self) -> Output | None:
        """Where the folded value is written."""
        return self._target

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


def open_output(
    path: str | None,
    format: Format,  # noqa: A002
    fold: Fold | None = None,
    mark: Mark | None = None,
) -> Output:
    """Return the output for `path` (None or "-": standard output).

    With `fold` one folded value is written in place of a record for
    each item. With a `mark` a file is gone on with from there. Raises UsageError when the output can't be written, or
    pickles would go to a terminal.
    """
    if is_stdout(path) and format == "pickle" and os.isatty(1):
        raise UsageError("pickles can't be shown on a terminal; give --output FILE, or another --format")
    target = StreamOutput(format) if is_stdout(path) else FileOutput(path or "", format, mark)
    return target if fold is None else FoldOutput(*fold[:3], target, fold[3])


def is_stdout(path: str | None) -> bool:
    """Tell whether an output of this name is standard output."""
    return path in _STDOUT_NAMES


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
