"""Where outcomes are kept by digest: an SQLite file of the user's own, or a store that others share.

The rule: a cache never fails the job. One that can't be opened is refused before the job begins; one that fails later
is told of once, and what it would have answered is run. What is written waits a little, to be written with others, and
is found meanwhile; a process that is killed loses half a second of it.

Values are pickles, so who can write a cache can run code: the file must be the user's own, and nobody else's to write.
This file does not know what a digest is of, nor what an outcome says.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from zpipe.errors import UsageError

__all__ = ["MARK", "Cache", "Fallible", "Outcomes", "Shelf", "Unavailable", "check"]

APPLICATION = 0x7A706963
"""What marks a SQLite file as a cache ("zpic")."""

FORMAT = 3
"""Rises when the tables change their meaning; a cache of another one is refused."""

TOGETHER, TOGETHER_BYTES, LATE = 1000, 16 << 20, 0.5
"""So many outcomes are written at a time, or bytes of them, or those that have waited for so many seconds."""

MARK = 6
"""Bytes that a digest begins with by which its task is told."""

VARIABLES = 900
"""Digests that are asked for at a time."""

PURGE = 600.0
"""Seconds between looks for outcomes that have expired."""

MOMENT = 0.25
"""Seconds for which outcomes that are to go are deleted before the job goes on: the rest goes the next time."""

SLICE = 500
"""Outcomes that are deleted together, between which others may write."""

PAUSE = 30.0
"""Seconds for which a store that failed is left alone."""

Entry = tuple[bytes, bytes]
"""A digest, and an outcome."""

_TABLE = """
CREATE TABLE outcomes (
    digest BLOB PRIMARY KEY, born REAL NOT NULL, expires REAL NOT NULL, outcome BLOB NOT NULL
) WITHOUT ROWID
"""

_TASKS = "CREATE TABLE tasks (mark BLOB PRIMARY KEY, name TEXT NOT NULL, hits INTEGER NOT NULL) WITHOUT ROWID"
"""What digests begin with by task, what it is called, and how many outcomes were found. Nobody is given wrong ones for
what is in here."""

_INDEX = "CREATE INDEX outcomes_age ON outcomes (expires, born)"

MEMORY = 32 << 10
"""KiB of a file that are held in memory."""

MAPPED = 1 << 30
"""Bytes of it that are read where the system has them anyway."""

_FOREVER = 1e18


class Unavailable(Exception):
    """A store can't be read or written now."""


class Shelf(Protocol):
    """Something that holds outcomes. Its methods raise Unavailable."""

    def read(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return those of the outcomes that are there and fresh."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Have these from now on."""

    def entitle(self, mark: bytes, name: str) -> None:
        """Digests with this mark are of the task of this name."""

    def close(self) -> None:
        """Let go of it."""


class Cache(Protocol):
    """What a job asks for outcomes, and gives them to. Nothing here raises."""

    def get(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is known of these."""

    def put(self, entries: Iterable[Entry]) -> None:
        """Keep these."""

    def entitle(self, mark: bytes, name: str) -> None:
        """Digests with this mark are of the task of this name."""

    def flush(self) -> float | None:
        """Write what has waited long enough; return when the rest has."""

    def close(self) -> None:
        """Write what there is, and let go."""


class Fallible:
    """A cache on a shelf that may fail: `say` tells of it, and it is left alone for a while."""

    def __init__(self, shelf: Shelf, name: str, say: Callable[[str], None]) -> None:
        self._shelf, self._name, self._say = shelf, name, say
        self._waiting: dict[bytes, bytes] = {}
        self._bytes = 0
        self._since = 0.0
        self._shut = 0.0
        self._told = False

    def get(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is known of these."""
        waiting = self._waiting
        found = {digest: waiting[digest] for digest in digests if digest in waiting} if waiting else {}
        wanted = [digest for digest in digests if digest not in found] if found else digests
        if wanted and not self._is_shut():
            try:
                found.update(self._shelf.read(wanted))
            except Unavailable as error:
                self._fail("read", error)
        return found

    def put(self, entries: Iterable[Entry]) -> None:
        """Keep these."""
        if not self._waiting:
            self._since = time.monotonic()
        for digest, outcome in entries:
            self._waiting[digest] = outcome
            self._bytes += len(outcome)
        if len(self._waiting) >= TOGETHER or self._bytes >= TOGETHER_BYTES:
            self._write()

    def entitle(self, mark: bytes, name: str) -> None:
        """Digests with this mark are of the task of this name."""
        if not self._is_shut():
            try:
                self._shelf.entitle(mark, name)
            except Unavailable as error:
                self._fail("written", error)

    def flush(self) -> float | None:
        """Write what has waited long enough; return when the rest has."""
        if self._waiting and time.monotonic() >= self._since + LATE:
            self._write()
        return self._since + LATE if self._waiting else None

    def close(self) -> None:
        """Write what there is, and let go."""
        self._write()
        with contextlib.suppress(Unavailable):
            self._shelf.close()

    def _write(self) -> None:
        entries, self._waiting, self._bytes = list(self._waiting.items()), {}, 0
        if entries and not self._is_shut():
            try:
                self._shelf.write(entries)
            except Unavailable as error:
                self._fail("written", error)

    def _is_shut(self) -> bool:
        return self._shut > 0.0 and time.monotonic() < self._shut

    def _fail(self, what: str, error: Unavailable) -> None:
        self._shut = time.monotonic() + PAUSE
        if not self._told:
            self._told = True
            self._say(f"the cache {self._name} can't be {what}: {error}; the job goes on without what is in there")


class Outcomes:
    """A shelf in the SQLite file `path`, or in one without a name that ends with this process (path: empty).

    An outcome is fresh for `ttl` seconds from when it was written (None: for ever), and no longer than the one who
    wrote it had it. When they take more than `most` bytes, those go that expire first, of equal ones the oldest. Raises
    UsageError.
    """

    def __init__(self, path: str = "", ttl: float | None = None, most: int | None = None) -> None:
        self._ttl, self._most = ttl, most
        self._looked = time.monotonic()
        self._hits: Counter[bytes] = Counter()
        if path:
            _claim(path)
        try:
            self._file = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise UsageError(f"the cache {path} can't be opened: {error}") from None
        try:
            self._prepare(path)
            if path:
                self._purge()
        except sqlite3.Error as error:
            self._file.close()
            mend = "if it is none, name another file; if it was one, remove it"
            if "locked" in str(error):
                mend = "another program has been writing there for seconds; wait for that, or name another file"
            raise UsageError(f"the cache {path} can't be used: {error}; {mend}") from None
        except BaseException:
            self._file.close()
            raise

    def _prepare(self, path: str) -> None:
        run = self._file.execute
        run(f"PRAGMA cache_size=-{MEMORY}")
        if not path:
            run("PRAGMA journal_mode=OFF")
            run("PRAGMA synchronous=OFF")
            run(_TABLE)
            run(_TASKS)
            return
        check(self._file, path)  # first: what comes next is written into the file, whosever it is
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run(f"PRAGMA mmap_size={MAPPED}")
        run("BEGIN IMMEDIATE")
        try:
            if check(self._file, path):
                run(_TABLE)
                run(_TASKS)
                run(_INDEX)
                run(f"PRAGMA application_id={APPLICATION}")
                run(f"PRAGMA user_version={FORMAT}")
        finally:
            run("COMMIT")

    def read(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return those of the outcomes that are there and fresh."""
        now = time.time()
        found: dict[bytes, bytes] = {}
        born = now - self._ttl if self._ttl is not None else -1.0
        try:
            for at in range(0, len(digests), VARIABLES):
                part = digests[at : at + VARIABLES]
                marks = ",".join("?" * len(part))
                rows = self._file.execute(
                    f"SELECT digest, outcome FROM outcomes WHERE digest IN ({marks}) AND expires > ? AND born > ?",  # noqa: S608
                    (*part, now, born),
                )
                found.update(rows)
            self._hits.update(digest[:MARK] for digest in digests if digest in found)
        except sqlite3.Error as error:
            raise Unavailable(str(error)) from None
        return found

    def write(self, entries: Sequence[Entry]) -> None:
        """Have these from now on."""
        now = time.time()
        expires = now + self._ttl if self._ttl is not None else _FOREVER
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(
                "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)",
                [(digest, now, expires, outcome) for digest, outcome in entries],
            )
            self._count_hits()
            self._file.execute("COMMIT")
            if time.monotonic() >= self._looked + PURGE or (self._most is not None and self._size() > self._most):
                self._purge()
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._file.execute("ROLLBACK")  # or others would wait for a lock that this one keeps
            raise Unavailable(str(error)) from None

    def entitle(self, mark: bytes, name: str) -> None:
        """Digests with this mark are of the task of this name."""
        try:
            self._file.execute(
                "INSERT INTO tasks VALUES (?, ?, 0) ON CONFLICT (mark) DO UPDATE SET name = excluded.name "
                "WHERE name <> excluded.name",
                (mark, name),
            )
        except sqlite3.Error as error:
            raise Unavailable(str(error)) from None

    def _count_hits(self) -> None:
        hits, self._hits = self._hits, Counter()
        rows = [(many, mark) for mark, many in hits.items()]
        self._file.executemany("UPDATE tasks SET hits = hits + ? WHERE mark = ?", rows)

    def _purge(self) -> None:
        """Let go of what has expired, and of the oldest where there is too much, as far as that takes but a moment."""
        self._looked = time.monotonic()
        until = self._looked + MOMENT
        query = "SELECT digest, length(outcome) FROM outcomes WHERE expires <= ? LIMIT ?"
        while self._delete(self._file.execute(query, (time.time(), SLICE)).fetchall()) == SLICE:
            if time.monotonic() >= until:
                return
        if self._most is None or self._size() <= self._most:
            return
        while (excess := self._size() - 0.9 * self._most) > 0 and time.monotonic() < until:
            query = "SELECT digest, length(outcome) FROM outcomes ORDER BY expires, born LIMIT ?"
            oldest, size = [], 0
            for entry in self._file.execute(query, (SLICE,)):
                oldest.append(entry)
                size += entry[1]
                if size >= excess:
                    break
            if not self._delete(oldest):
                break

    def _delete(self, entries: Sequence[tuple[bytes, int]]) -> int:
        """Let go of these; return how many there are."""
        if entries:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("DELETE FROM outcomes WHERE digest = ?", [(digest,) for digest, _ in entries])
            self._file.execute("COMMIT")
        return len(entries)

    def _size(self) -> int:
        """Return the bytes that pages in use take."""
        run = self._file.execute
        pages, free = (run(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return int((pages - free) * run("PRAGMA page_size").fetchone()[0])

    def drop(self, marks: Sequence[bytes] | None) -> None:
        """Let go of the outcomes whose digests have these marks, or of all (None). Raises sqlite3.Error."""
        where = "" if marks is None else f" WHERE substr(digest, 1, {MARK}) IN ({','.join('?' * len(marks))})"
        self._file.execute(f"DELETE FROM outcomes{where}", marks or ())  # noqa: S608
        where = where.replace(f"substr(digest, 1, {MARK})", "mark")
        self._file.execute(f"UPDATE tasks SET hits = 0{where}", marks or ())  # noqa: S608

    def drop_expired(self) -> None:
        """Let go of what has expired, however long it takes. Raises sqlite3.Error."""
        self._file.execute("DELETE FROM outcomes WHERE expires <= ?", (time.time(),))

    def shrink(self) -> None:
        """Give the room that is free back to the disk, unless others use the file."""
        with contextlib.suppress(sqlite3.Error):
            self._file.execute("VACUUM")
            self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def count(self) -> int:
        """Return how many outcomes there are."""
        return int(self._file.execute("SELECT count(*) FROM outcomes").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            if self._hits:
                self._count_hits()
            if self._most is not None:
                self._purge()
        self._file.close()


def check(file: sqlite3.Connection, path: str) -> bool:
    """Return whether a file is a new one. Raises UsageError if it is anything but that or a cache."""
    found = (
        file.execute(query).fetchone()[0]
        for query in ("SELECT count(*) FROM sqlite_master", "PRAGMA application_id", "PRAGMA user_version")
    )
    tables, mark, version = found
    if not tables and not mark:
        return True
    if mark != APPLICATION:
        raise UsageError(f"{path} is a database, and no cache of zpipe: name another file")
    if version != FORMAT:
        raise UsageError(f"{path} is a cache of another version of zpipe: name another file, or remove it")
    return False


def _claim(path: str) -> None:
    """Make the file unless it is there; raise UsageError unless it is the user's own, and nobody else's to write."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        where = f": there is no folder {Path(path).parent}" if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"the cache {path} can't be opened: {error.strerror}{where}") from None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"the cache {path} is no file; name one that is, or that is to be made")
    if status.st_uid != os.geteuid():
        raise UsageError(f"the cache {path} belongs to somebody else, whose pickles could run code here; name your own")
    if status.st_mode & 0o022:
        raise UsageError(
            f"the cache {path} can be written by others (mode {status.st_mode & 0o777:04o}), whose pickles could run "
            f"code here; if nobody has: chmod 600 {path}"
        )
