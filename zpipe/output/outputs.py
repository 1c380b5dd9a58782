"""Where records end up, at the sink: a file or standard output.

One rule: an output is whole or it is not there. A file appears under its name only when the job is whole; until
then what there is stands in `<name>.partial`. Payloads come deduplicated and in the order wanted; this file
must not know about chunks, workers, sockets or receipts.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import BinaryIO, Literal, NoReturn, Protocol

from zpipe.core.spec import Encoding
from zpipe.core.wire import Buffer
from zpipe.errors import OutputError, UsageError
from zpipe.output.mark import Mark
from zpipe.output.partials import BUFFER, is_direct, open_partial, partial_of, reason, sync_folder, target_of

__all__ = [
    "FileOutput",
    "Format",
    "NoOutput",
    "Output",
    "OutputClosed",
    "StreamOutput",
    "is_stdout",
    "open_output",
]

Format = Literal["json", "raw", "pickle"]
"""How results are written: a line of JSON each, a line of text each, or a pickle each."""

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


class NoOutput:
    """Nothing is written: it stands already, or goes to whoever waits for it."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding

    def write(self, frames: Sequence[Buffer]) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def abandon(self) -> str:
        """Keep what there is."""
        return ""


def open_output(path: str | None, format: Format, mark: Mark | None = None) -> Output:  # noqa: A002
    """Return the output for `path` (None or "-": standard output).

    With a `mark` a file is gone on with from there. Raises UsageError when the output can't be written, or pickles
    would go to a terminal.
    """
    if is_stdout(path) and format == "pickle" and os.isatty(1):
        raise UsageError("pickles can't be shown on a terminal; give --output FILE, or another --format")
    return StreamOutput(format) if is_stdout(path) else FileOutput(path or "", format, mark)


def is_stdout(path: str | None) -> bool:
    """Tell whether an output of this name is standard output."""
    return path in _STDOUT_NAMES
