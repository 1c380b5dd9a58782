"""Files that are whole or not there: what there is stands beside them, locked, until it is moved into place.

Must not know what is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from zpipe.errors import UsageError
from zpipe.output.mark import Mark

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUFFER", "copy", "is_direct", "open_partial", "partial_of", "reason", "stands", "sync_folder", "target_of"]

BUFFER = 1024 * 1024
"""Bytes that are written at once."""

_MENDS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place you may write to"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there, or choose another output"),
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another output",
    errno.ENOENT: "make its folder first",
    errno.EBUSY: "let it end, or choose another output",
    errno.EISDIR: "name a file inside it",
}


def reason(error: OSError) -> str:
    """Return why a file can't be written, and the mend."""
    return f"{error.strerror or error}; {_MENDS.get(error.errno or 0, 'choose another output')}"


def copy(path: str, mark: Mark, write: Callable[[list[bytes]], object]) -> None:
    """Write what a file, whole or not yet, has up to its `mark` elsewhere. Raises UsageError."""
    partial = partial_of(target_of(path))
    try:
        file = (partial if partial.exists() else target_of(path)).open("rb")
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}; the journal holds how much of it was written") from None
    with file:
        left = mark.size
        if os.fstat(file.fileno()).st_size < left or Mark.of(file.fileno(), left) != mark:
            raise UsageError(f"{file.name} is not what the journal says it is: it was changed since")
        while left:
            data = file.read(min(left, BUFFER))
            write([data])
            left -= len(data)


def stands(path: str, mark: Mark, *, final: bool = False) -> bool:
    """Tell whether a file that was written up to `mark` has been moved into place; `final`: that was seen to be so."""
    target = target_of(path)
    if (partial_of(target).exists() and not final) or not target.is_file():
        return False
    with target.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return size == mark.size and Mark.of(file.fileno(), size) == mark


def target_of(name: str) -> Path:
    """Return the file that is to be whole: of a symbolic link what it points to."""
    from pathlib import Path  # slow to load, and results on standard output need none

    return Path(os.path.realpath(name) if Path(name).is_symlink() else name)


def partial_of(target: Path) -> Path:
    """Return where it stands until then."""
    return target.with_name(f"{target.name}.partial") if target.name else target


def is_direct(name: str) -> bool:
    """Tell whether opening `name` itself is right: it is no regular file that could be replaced."""
    descriptor = name.startswith(("/dev/fd/", "/dev/std", "/proc/"))
    there = os.path.exists(name)  # noqa: PTH110 - pathlib is slow to load
    return descriptor or name.endswith("/") or (there and not os.path.isfile(name))  # noqa: PTH113


def open_partial(target: Path, partial: Path, mark: Mark | None) -> BinaryIO:
    """Return the partial file, locked, and empty or cut to `mark`.

    Raises OSError, EBUSY when another run has the lock, and UsageError when it is not the one that was marked.
    """
    replaced = target.stat().st_mode & 0o777 if target.exists() else None
    if replaced is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    while True:
        with contextlib.ExitStack() as undo:
            # It is emptied under its lock only: it may be another run's. It is read to mark how far it was written.
            fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            file = undo.enter_context(open(fd, "wb", BUFFER))
            _lock(fd)
            # The run that had the lock may have moved its file into place since it was opened here.
            if partial.exists() and os.path.samestat(os.fstat(fd), partial.stat()):
                _cut(partial, fd, mark)
                file.seek(0, os.SEEK_END)
                if replaced is not None:
                    os.fchmod(fd, replaced)
                undo.pop_all()
                return file


def _cut(partial: Path, fd: int, mark: Mark | None) -> None:
    """Leave of a file what was marked. Raises UsageError when that is not there, or not what it was."""
    size = os.fstat(fd).st_size
    if mark is not None and mark.size:
        wrong = ""
        if size < mark.size:
            wrong = f"{mark.size:,} bytes were written, and it has {size:,}"
        elif Mark.of(fd, mark.size) != mark:
            wrong = "it was changed since"
        if wrong:
            if not size:
                partial.unlink()
            raise UsageError(
                f"{partial} is not what the journal says it is: {wrong}. Put it back as it was, or start the job anew "
                "with another --journal and --output"
            )
    os.ftruncate(fd, mark.size if mark is not None else 0)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another run is writing it") from None
    except OSError as error:
        # Some network file systems have no locks; a job must run there too.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def sync_folder(folder: Path) -> None:
    """Wait until what a folder names is on the disk, as far as that can be had."""
    # The file stands by now: a file system that can't sync a folder must not fail the job.
    with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, fd)
        os.fsync(fd)
