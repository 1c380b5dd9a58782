"""The journal: what the sink must know to go on after any crash, in one SQLite file that is committed in batches.

One rule: what a commit holds is true together. Which items are done, how far each file was written, which results
wait to be written, what was folded so far and the dead letters change in one transaction, or not at all. The file is
in WAL mode with `synchronous=FULL`: what was committed is there after the machine itself has crashed.

    meta     origin (what job it is, and of which command), state (counts, marks of the files), fold (a fold's value)
    done     the items whose outcome counts, as disjoint ranges: rows grow with gaps, not with items
    kept     results that count and whose effect is nowhere else, by their first item
    more     the rest of those that are larger than SQLite's limit allows in one piece
    letters  the dead letters, by item

One process at a time has a journal open for writing. This file does not know sockets, threads or where results go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from zpipe.core import coding, wire
from zpipe.core.ranges import RangeSet
from zpipe.errors import OutputError, UsageError
from zpipe.output.mark import Mark

__all__ = ["Batch", "Journal", "Origin", "Stage", "State"]

FORMAT = 1
"""Rises when the tables change their meaning; a journal of a newer one is refused."""

APPLICATION = 0x7A706970
"""What marks a SQLite file as a journal ("zpip")."""

PIECE = 64 << 20
"""Bytes of a result in one row at most."""

AGAIN = "then give the same command again: it goes on from there"

Stage = Literal["open", "closing", "finished"]

_Buffer = wire.Buffer
_Moves = Mapping[int, tuple[wire.Result, Sequence[_Buffer]] | None]
_Row = tuple[int, bytes, _Buffer]

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE done (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL);
CREATE TABLE kept (start INTEGER PRIMARY KEY, head BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE more (start INTEGER NOT NULL, piece INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (start, piece));
CREATE TABLE letters (item INTEGER PRIMARY KEY, letter BLOB NOT NULL);
"""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal is of.

    `job` is the job's id, `fingerprint` what tells it from others, name by name, and `outputs` how and where the
    results go. `command` is the zpipe command with its options `given`, in the folder `folder`; `line` is how it was
    typed.
    """

    job: str = ""
    fingerprint: dict[str, str] = {}
    outputs: dict[str, str] = {}
    command: str = ""
    given: dict[str, Any] = {}
    folder: str = ""
    line: str = ""
    version: str = ""
    began: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job but for which items are done.

    `next` is the item up to which results in order were written, `failed` how many items of those done did, `limit`
    and `hit` where a search ended, `total` how many items there are, once that is known. `marks` are of the files
    written so far, by what they are for. `stage` is "closing" once all results are in the files, and "finished" once
    those stand under their names.
    """

    next: int = 0
    failed: int = 0
    limit: int | None = None
    hit: int | None = None
    total: int | None = None
    marks: dict[str, Mark] = {}
    stage: Stage = "open"


class Batch(msgspec.Struct):
    """What one commit adds: `ranges` that are done, results to `keep`, first items of those to `drop`, dead `letters`.

    `fold` is a fold's value so far as bytes, if it is written anew.
    """

    state: State
    ranges: RangeSet
    keep: list[tuple[wire.Result, Sequence[_Buffer]]] = []
    drop: list[int] = []
    letters: list[tuple[int, bytes]] = []
    fold: bytes | None = None
    more: Callable[[Callable[..., Any], Callable[..., Any]], None] | None = None
    """What else is in it: called with what runs a statement once, and for many rows."""


class Journal:
    """An open journal, new or of a job that has begun. Raises UsageError for a file that can't be one.

    `reading`: look at it without being the one that writes it; whatever is in it may change meanwhile. All but
    `commit` is called while no `commit` is under way.
    """

    def __init__(self, path: str | os.PathLike[str], *, reading: bool = False) -> None:
        self.path = os.fspath(path)
        self._lock = -1
        self._base: sqlite3.Connection | None = None
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(self.close)
                self._open(reading)
                self.origin, self.state, self.done = self._load()
                undo.pop_all()
        except sqlite3.Error as error:
            raise UsageError(self._unfit(error)) from None
        except OSError as error:
            raise UsageError(f"can't open the journal {self.path}: {error.strerror}; choose another place") from None

    def _open(self, reading: bool) -> None:
        if reading and not Path(self.path).exists():
            raise UsageError(f"there is no journal {self.path}; name the file that --journal named")
        made = not Path(self.path).exists()
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        if not stat.S_ISREG(os.fstat(self._lock).st_mode):
            raise UsageError(f"the journal {self.path} is no regular file; choose another place")
        if not reading:
            self._take_lock()
        self._check_header(reading)
        if made:
            _sync_folder(Path(self.path))
        # Its own thread commits, while the one that made it waits or does other things.
        self._base = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._check_format()
        self._run("PRAGMA journal_mode = WAL")
        self._run("PRAGMA synchronous = FULL")
        if not reading:
            self._make()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"the journal {self.path} is in use by another process: let that one end, or stop it; a journal has "
                "one sink at a time"
            ) from None

    def _check_header(self, reading: bool) -> None:
        """Refuse any other file before SQLite does so, in its own words, or takes it for a database of ours."""
        head = os.pread(self._lock, 100, 0)
        if head and (head[:16] != b"SQLite format 3\0" or head[68:72] not in (_APPLICATION_BYTES, b"\0\0\0\0")):
            raise UsageError(self._alien())
        if not head and reading:
            raise UsageError(f"{self.path} is empty: no job has used it as its journal yet")

    def _check_format(self) -> None:
        (found,) = self._run("PRAGMA user_version").fetchone()
        (application,) = self._run("PRAGMA application_id").fetchone()
        (tables,) = self._run("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise UsageError(self._alien())
        if found > FORMAT:
            raise UsageError(
                f"the journal {self.path} is of format {found}, and this zpipe knows {FORMAT}: it was made by a newer "
                "zpipe; use that one"
            )

    def _make(self) -> None:
        (tables,) = self._run("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            return
        self._run("BEGIN IMMEDIATE")
        for statement in _TABLES.strip().split("\n"):
            self._run(statement)
        self._put("origin", Origin())
        self._put("state", State())
        self._run(f"PRAGMA application_id = {APPLICATION}")
        self._run(f"PRAGMA user_version = {FORMAT}")
        self._run("COMMIT")

    def _load(self) -> tuple[Origin, State, RangeSet]:
        meta = dict(self._run("SELECT name, value FROM meta").fetchall())
        try:
            origin = msgspec.msgpack.decode(meta["origin"], type=Origin)
            state = msgspec.msgpack.decode(meta["state"], type=State)
            return origin, state, RangeSet(self._run("SELECT start, stop FROM done ORDER BY start").fetchall())
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise UsageError(self._unfit(error)) from None

    def _alien(self) -> str:
        return f"{self.path} is no journal of zpipe; name another file, which need not exist, with --journal"

    def _unfit(self, error: Exception) -> str:
        said = str(error)
        if "locked" in said or "busy" in said:
            return f"the journal {self.path} is in use by another program; let that end"
        if "not a database" in said or "no such table" in said:
            return self._alien()
        if "full" in said or "disk I/O" in said:
            return self._unwritten(error)
        return f"the journal {self.path} can't be read: {said}; is it whole? If not, the job has to be started anew"

    def _unwritten(self, error: Exception) -> str:
        full = "full" in str(error) or "disk I/O" in str(error)
        mend = "free some space there" if full else "mend that"
        return f"can't write the journal {self.path}: {error}; {mend}, {AGAIN}"

    # what it tells

    @property
    def fold(self) -> bytes | None:
        """The value of a fold when it was last written, as bytes."""
        found = self._run("SELECT value FROM meta WHERE name = 'fold'").fetchone()
        return None if found is None else found[0]

    @property
    def letters(self) -> Iterator[tuple[int, bytes]]:
        """The dead letters by item, in order."""
        yield from self._run("SELECT item, letter FROM letters ORDER BY item")

    def kept(self) -> Iterator[tuple[wire.Result, Sequence[_Buffer]]]:
        """Yield the results that are kept, in the order of their items. Raises OutputError for a damaged one."""
        for start, head, data in self._run("SELECT start, head, data FROM kept ORDER BY start"):
            yield self._result(start, head, data)

    def _result(self, start: int, head: bytes, data: bytes) -> tuple[wire.Result, Sequence[_Buffer]]:
        sizes, header = msgspec.msgpack.decode(head, type=tuple[list[int], bytes])
        pieces = [data]
        if sum(sizes) > len(data):
            query = "SELECT data FROM more WHERE start = ? ORDER BY piece"
            pieces += [piece for (piece,) in self._run(query, (start,))]
        whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        frames, at = [], 0
        for size in sizes:
            frames.append(whole[at : at + size])
            at += size
        result, payload = coding.decode([header, *frames])
        return result, payload

    @property
    def finished(self) -> bool:
        """Whether its job is done, and its output stands."""
        return self.state.stage == "finished"

    @property
    def staged(self) -> dict[int, int]:
        """How many items of each stage but the last are done, by its number; of a job in stages that has begun."""
        if self._run("SELECT name FROM sqlite_master WHERE name = 'stage_done'").fetchone() is None:
            return {}
        return dict(self._run("SELECT stage, sum(stop - start) FROM stage_done GROUP BY stage").fetchall())

    # what is written

    def begin(self, origin: Origin) -> None:
        """Say what it is of. Raises OutputError."""
        with self._transaction():
            self._put("origin", origin)
        self.origin = origin

    def enter(self, state: State) -> None:
        """Have this state, and nothing else. Raises OutputError."""
        self.commit(Batch(state, RangeSet()))

    def commit(self, batch: Batch) -> None:
        """Make a batch last; it does when this returns. Raises OutputError, and then nothing of it does."""
        with self._transaction():
            for start, stop in batch.ranges:
                self.done.add(start, stop)
                low, high = self.done.after(start) or (start, stop)
                self._run("DELETE FROM done WHERE start > ? AND start < ?", (low, high))
                self._run("INSERT OR REPLACE INTO done VALUES (?, ?)", (low, high))
            if batch.drop:
                self._many("DELETE FROM kept WHERE start = ?", [(start,) for start in batch.drop])
                self._many("DELETE FROM more WHERE start = ?", [(start,) for start in batch.drop])
            for result, payload in batch.keep:
                self._keep(result, payload)
            if batch.letters:
                self._many("INSERT OR REPLACE INTO letters VALUES (?, ?)", batch.letters)
            if batch.fold is not None:
                self._run("INSERT OR REPLACE INTO meta VALUES ('fold', ?)", (batch.fold,))
            if batch.more is not None:
                batch.more(self._run, self._many)
            self._put("state", batch.state)
        self.state = batch.state

    def extend(self, tables: Sequence[str]) -> None:
        """Have more tables, unless they are there. Raises OutputError."""
        with self._transaction():
            for table in tables:
                self._run(f"CREATE TABLE IF NOT EXISTS {table}")

    def read(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield rows."""
        yield from self._run(query, values)

    def reopen(self, state: State, done: RangeSet, moves: _Moves, also: Callable[..., None]) -> None:
        """Have this state, these items done and no dead letters, and in place of each kept result what it `moves` to.

        `also` is called as a batch's `more`, in the same transaction. Raises OutputError.
        """
        with self._transaction():
            self._run("DELETE FROM letters")
            self._run("DELETE FROM done")
            self._many("INSERT INTO done VALUES (?, ?)", list(done))
            also(self._run, self._many)
            for start, moved in moves.items():
                if moved is None or moved[0].start != start:
                    self._run("DELETE FROM kept WHERE start = ?", (start,))
                    self._run("DELETE FROM more WHERE start = ?", (start,))
            for moved in moves.values():
                if moved is not None:
                    self._keep(*moved)
            self._put("state", state)
        self.state, self.done = state, done

    def _keep(self, result: wire.Result, payload: Sequence[_Buffer]) -> None:
        header = coding.encode(msgspec.structs.replace(result, body=None))[0]
        views = [memoryview(frame).cast("B") for frame in payload]
        head = msgspec.msgpack.encode(([view.nbytes for view in views], header))
        whole = views[0] if len(views) == 1 else memoryview(b"".join(views))
        self._run("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (result.start, head, whole[:PIECE]))
        for piece, at in enumerate(range(PIECE, whole.nbytes, PIECE)):
            self._run("INSERT OR REPLACE INTO more VALUES (?, ?, ?)", (result.start, piece, whole[at : at + PIECE]))

    def _put(self, name: str, value: Origin | State) -> None:
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, msgspec.msgpack.encode(value)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._run("BEGIN IMMEDIATE")
            yield
            self._run("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._run("ROLLBACK")
            raise OutputError(self._unwritten(error)) from None

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        assert self._base is not None, "the journal is closed"
        return self._base.execute(statement, values)

    def _many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        assert self._base is not None, "the journal is closed"
        self._base.executemany(statement, rows)

    def close(self) -> None:
        """Let go of it. What was not committed is not in it. May be called more than once."""
        if self._base is not None:
            with contextlib.suppress(sqlite3.Error):
                self._base.close()
            self._base = None
        if self._lock >= 0:
            # Last: closing any descriptor of the file drops SQLite's own locks on it.
            os.close(self._lock)
            self._lock = -1


_APPLICATION_BYTES = APPLICATION.to_bytes(4, "big")


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, fd)
        os.fsync(fd)
