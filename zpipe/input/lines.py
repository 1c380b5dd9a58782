"""Items that are lines of a file, a pipe, a socket or a terminal.

Bytes are read in blocks, and lines are counted and cut by C code only: no line is ever an object here, and none is
decoded, which is the workers' business. Nothing is read that would have to be waited for.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import BinaryIO, Literal

from zpipe.core.spec import ItemKind
from zpipe.errors import SourceError, UsageError
from zpipe.input.sources import Batch

__all__ = ["Cutter", "LineSource", "open_lines"]

FILE_BLOCK = 1024 * 1024
"""How many bytes are read at once from a regular file."""

PIPE_BLOCK = 256 * 1024
"""How many bytes are asked for at once from anything else (a Linux pipe holds 64 KiB if nobody changed that)."""

MAX_LINE = 64 * 1024 * 1024
"""A longer line, in bytes, is taken for a sign of a wrong separator."""

BATCH_BYTES = 16 * 1024 * 1024
"""A batch that has this many bytes is handed out even if more lines were asked for."""

FEW = 16
"""So many separators are found one by one about as quickly as by counting."""


class Cutter:
    """Finds the n-th separator in a buffer, from the left and without overlap, as `bytes.split` does.

    Counting is far quicker than looking at each separator, so it guesses by the mean length of the last items, counts
    up to there, and closes in. That is right only where occurrences can't overlap: "\\n\\n" is walked through.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._width = len(separator)
        self._pattern = re.compile(re.escape(separator))
        self._overlaps = any(separator[:size] == separator[-size:] for size in range(1, self._width))
        self._mean = 64.0

    def last(self, buffer: bytearray, start: int) -> int:
        """Return where the last separator from `start` on ends. There must be one."""
        if self._overlaps:
            return deque(self._pattern.finditer(buffer, start), maxlen=1)[0].end()
        return buffer.rfind(self._separator, start) + self._width

    def upto(self, buffer: bytearray, start: int, stop: int, n: int) -> tuple[int, int]:
        """Return how many separators there are between `start` and `stop`, at most n, and where the last of them ends.

        A separator ends at `stop`, unless that is `start`.
        """
        if stop <= start:
            return 0, start
        if n == 1:
            found, place = 1, buffer.find(self._separator, start) + self._width
        else:
            found, place = (0, start) if n <= FEW or self._overlaps else self._leap(buffer, start, stop, n)
            if place < stop:
                ends = list(map(re.Match.end, islice(self._pattern.finditer(buffer, place, stop), n - found)))
                # A leap may end within the last separator there is.
                found, place = found + len(ends), ends[-1] if ends else stop
        if stop - place < self._width:
            place = stop  # "a\n" and the "\n\n" that was put behind it at the end of the file: found a byte early
        self._mean = (place - start) / found
        return found, place

    def _leap(self, buffer: bytearray, start: int, stop: int, n: int) -> tuple[int, int]:
        """Return how many separators begin before a place, and that place: shortly before the n-th, or `stop`."""
        found, reach = 0, self._mean
        while n - found > FEW:
            middle = min(start + int((n - found) * reach) + 1, stop)
            count = buffer.count(self._separator, start, middle + self._width - 1)
            if middle == stop and found + count <= n:
                return found + count, stop
            if found + count >= n:
                skipped, start = self._close_in(buffer, start, middle, count, n - found)
                return found + skipped, start
            found, start, reach = found + count, middle, reach * 2
        return found, start

    def _close_in(self, buffer: bytearray, start: int, stop: int, count: int, n: int) -> tuple[int, int]:
        """Do as `_leap`, where `count` >= n separators begin in [start, stop)."""
        width, wanted, rounds = self._width, n, 0
        while n > FEW:
            rounds += 1
            span = stop - start
            # Rather too short than too far; and halving now and then bounds the rounds whatever the lengths are.
            part = span * (n - FEW // 2) // count if rounds % 4 else span // 2
            middle = start + min(max(part, 1), span - 1)
            if middle - start < stop - middle:
                left = buffer.count(self._separator, start, middle + width - 1)
            else:
                left = count - buffer.count(self._separator, middle, stop + width - 1)
            if left < n:
                start, n, count = middle, n - left, count - left
            else:
                stop, count = middle, left
        return wanted - n, start


class LineSource:
    """The lines of `file`, from where its descriptor stands now, each an item without its separator.

    A last line without a separator is an item too. Of kind "json", lines of nothing but whitespace are skipped.
    `file` is an open file of the operating system, which `close()` closes, or a descriptor, which it leaves open.
    Reads `block` bytes at once and about that much ahead; lines of a pipe are handed out as soon as they are whole.
    """

    def __init__(
        self,
        file: BinaryIO | int,
        name: str,
        separator: bytes = b"\n",
        kind: Literal["lines", "json"] = "lines",
        *,
        block: int | None = None,
        max_line: int = MAX_LINE,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        if not separator:
            raise UsageError(f"{name}: lines can't be told apart by an empty separator: give at least one byte")
        self._file = None if isinstance(file, int) else file
        self._fd = file if isinstance(file, int) else file.fileno()
        self._name = name
        self._kind: ItemKind = kind
        self._separator = separator
        self._cutter = Cutter(separator)
        escaped = re.escape(separator)
        self._blank = re.compile(rb"\s*" + escaped)
        self._blank_inside = re.compile(escaped + rb"\s*" + escaped)
        status = os.fstat(self._fd)
        self._regular = stat.S_ISREG(status.st_mode)
        self._unread = status.st_size - os.lseek(self._fd, 0, os.SEEK_CUR) if self._regular else 0
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._max_line = max_line
        self._block = min(block or (FILE_BLOCK if self._regular else PIPE_BLOCK), max_line)
        self._batch_bytes = batch_bytes
        self._buffer = bytearray()
        self._at = 0  # where the first item not taken begins
        self._end = 0  # where the last complete item ends, separator included
        self._items = self._lines = self._bytes = 0  # items taken; lines and bytes that went by with them
        self._left = 0  # complete items not taken, once the end was seen
        self._ended = False
        self._error = ""

    @property
    def exhausted(self) -> bool:
        """Whether the end was seen and all items were taken."""
        return self._ended and not self._left and not self._error

    @property
    def exact(self) -> bool:
        """Whether the end was seen."""
        return self._ended and not self._error

    def start(self, wake: Callable[[], None]) -> None:  # noqa: ARG002 - a descriptor is waited on
        """Read the first block, if there is something to read. `wake` is not needed."""
        self._look_ahead()

    def fileno(self) -> int | None:
        """Return the descriptor of a pipe, socket or terminal that has not ended; None for a regular file."""
        return None if self._regular or self._ended else self._fd

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` lines, None if none is whole yet.

        Raises SourceError when reading failed or a line is too long.
        """
        count = size = 0
        while True:
            more, stop = self._cutter.upto(self._buffer, self._at + size, self._end, most - count)
            count += more
            size = stop - self._at
            if count == most or size >= self._batch_bytes or not self._read():
                break
        if not count:
            if self._error:
                raise SourceError(self._error)
            return None
        batch = self._cut(count, size)
        self._look_ahead()
        return batch

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` lines; return how many, 0 if none is whole yet. Raises SourceError as `take` does."""
        while not (found := self._cutter.upto(self._buffer, self._at, self._end, most))[0] and self._read():
            pass
        count, stop = found
        if not count and self._error:
            raise SourceError(self._error)
        self._pass(count, stop - self._at)
        self._look_ahead()
        return count

    def remaining(self) -> int | None:
        """Return how many items were not taken; by their mean length for a regular file, until its end was seen."""
        if self._ended:
            return self._left
        if not self._regular or self._unread < 0:
            return None
        items, size = self._items, self._bytes
        if not items:
            items, size = self._buffer.count(self._separator, 0, self._end), self._end
        return round((self._unread + len(self._buffer) - self._at) * items / size) if items else None

    def close(self) -> None:
        """Close the file, if it was given as a file: no item comes any more."""
        self._buffer, self._at, self._end = bytearray(), 0, 0
        self._stop("")
        if self._file is not None:
            self._file.close()

    def _look_ahead(self) -> None:
        while len(self._buffer) - self._at < self._block and self._read():
            pass

    def _cut(self, count: int, size: int) -> Batch:
        start = self._at
        self._pass(count, size)
        frame = bytes(memoryview(self._buffer)[start : self._at - len(self._separator)])
        return Batch(count, self._kind, [frame])

    def _pass(self, count: int, size: int) -> None:
        """The next `count` items, of `size` bytes, are no longer to be taken."""
        self._at += size
        self._items += count
        self._lines += count
        self._bytes += size
        if self._ended:
            self._left -= count

    def _read(self) -> bool:
        """Read a block, unless that has to be waited for; return whether anything came of it."""
        if self._ended or not (self._regular or self._poll.poll(0)):
            return False
        try:
            block = os.read(self._fd, self._block)
        except BlockingIOError:
            return False
        except OSError as error:
            self._stop(
                f"{self._name}: reading failed at line {self._line()}: {error.strerror or error}. The lines before "
                "it were taken; see to the file and run the job again"
            )
            return True
        if block:
            self._unread -= len(block)
            self._add(block)
        else:
            self._finish()
        return True

    def _add(self, block: bytes) -> None:
        buffer = self._buffer
        del buffer[: self._at]
        self._end -= self._at
        self._at = 0
        # A separator may have begun in the bytes already here, but was not whole there.
        fresh = max(self._end, len(buffer) - len(self._separator) + 1)
        buffer += block
        first = buffer.find(self._separator, fresh)
        length = (len(buffer) if first < 0 else first) - self._end
        # Only this line can be too long: any other lies within one block.
        if length > self._max_line + (len(self._separator) - 1 if first < 0 else 0):
            self._refuse(length)
        elif first >= 0:
            self._accept(self._cutter.last(buffer, first))

    def _accept(self, end: int) -> None:
        """Take the bytes up to `end` for complete lines."""
        self._end = self._without_blanks(self._end, end) if self._kind == "json" else end

    def _without_blanks(self, start: int, end: int) -> int:
        """Cut blank lines out of [start, end); return the new end."""
        buffer, separator = self._buffer, self._separator
        if not (self._blank.match(buffer, start, end) or self._blank_inside.search(buffer, start, end)):
            return end
        lines = bytes(memoryview(buffer)[start : end - len(separator)]).split(separator)
        kept = list(filter(bytes.strip, lines))
        text = separator.join([*kept, b""])
        buffer[start:end] = text
        self._lines += len(lines) - len(kept)
        self._bytes += end - start - len(text)
        return start + len(text)

    def _line(self) -> int:
        """Return the number of the line, from 1, that is not complete yet."""
        return self._lines + self._buffer.count(self._separator, self._at, self._end) + 1

    def _finish(self) -> None:
        if len(self._buffer) > self._end:
            self._buffer += self._separator
            self._accept(len(self._buffer))
        self._stop("")

    def _refuse(self, length: int) -> None:
        self._stop(
            f"{self._name}: line {self._line()} is longer than {self._max_line:,} bytes ({length:,} so far). "
            f"The separator {self._separator!r} may be the wrong one for this file: give the right one, or put the "
            "long data into files of its own and let the lines name them"
        )

    def _stop(self, error: str) -> None:
        self._ended, self._error = True, error
        del self._buffer[self._end :]
        self._left = self._buffer.count(self._separator, self._at)


def open_lines(
    path: str | os.PathLike[str],
    separator: bytes = b"\n",
    kind: Literal["lines", "json"] = "lines",
    *,
    block: int | None = None,
) -> LineSource:
    """Return the lines of the file at `path`; "-" is standard input, which `close()` leaves open.

    A named pipe nobody writes to yet is not waited for. Raises UsageError when there is no such file or
    it can't be read.
    """
    text = os.fspath(path)
    name = "standard input" if text == "-" else text
    try:
        if text == "-":
            return LineSource(0, name, separator, kind, block=block)
        file = open(text, "rb", buffering=0, opener=_open_without_waiting)  # noqa: SIM115 - the source closes it
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        mend = "pipe something in, or name a file" if text == "-" else _mend(error)
        raise UsageError(f"can't read items from {name}: {reason}: {mend}") from None
    try:
        return LineSource(file, name, separator, kind, block=block)
    except BaseException:
        file.close()
        raise


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _mend(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "name a file of lines; the files of a folder are items by a pattern such as 'folder/**'"
    if isinstance(error, PermissionError):
        return "ask for leave to read it, or name another file"
    return "check the path, as seen from the current folder"
