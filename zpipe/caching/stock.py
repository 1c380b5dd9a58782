"""What a cache's file has: told to a person, and let go of. Nothing here reads an outcome.

The rule: looking changes nothing. Other jobs may use the file meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from zpipe.caching.cache import MARK, Outcomes, check
from zpipe.caching.redis import is_redis
from zpipe.errors import UsageError

__all__ = ["clear", "shown"]

_TASKS = f"""
SELECT ifnull(name, '?'), count(*), sum(length(outcome)), ifnull(hits, 0)
FROM outcomes LEFT JOIN tasks ON mark = substr(digest, 1, {MARK}) GROUP BY substr(digest, 1, {MARK}) ORDER BY 1, 2
"""  # noqa: S608 - a number


def shown(path: str, *, as_json: bool) -> str:
    """Return what a cache has, as lines for a person or one JSON object. Raises UsageError."""
    now = time.time()
    with _looked_into(path) as file:
        count, size, oldest, newest = file.execute(
            "SELECT count(*), ifnull(sum(length(outcome)), 0), min(born), max(born) FROM outcomes"
        ).fetchone()
        expired = file.execute("SELECT count(*) FROM outcomes WHERE expires <= ?", (now,)).fetchone()[0]
        hits = file.execute("SELECT ifnull(sum(hits), 0) FROM tasks").fetchone()[0]
        tasks = file.execute(_TASKS).fetchall()
    names = ("name", "entries", "bytes", "hits")
    told: dict[str, Any] = {
        "path": path, "entries": count, "expired": expired, "bytes": size, "hits": hits,
        "file_bytes": Path(path).stat().st_size, "oldest": oldest, "newest": newest,
        "tasks": [dict(zip(names, row, strict=True)) for row in tasks],
    }  # fmt: skip
    if as_json:
        return msgspec.json.encode(told).decode() + "\n"
    rows = [
        ("results", f"{count:,}" + (f", {expired:,} of them expired" if expired else "")),
        ("bytes", f"{size:,} in a file of {told['file_bytes']:,}"),
        ("hits", f"{hits:,}"),
        *((name, _date(born, now)) for name, born in (("oldest", oldest), ("newest", newest)) if born is not None),
        *(("task", f"{name}: {many:,} results, {bytes_:,} bytes, {hit:,} hits") for name, many, bytes_, hit in tasks),
    ]
    return "".join(f"{name:9}{text}\n" for name, text in rows)


def _date(born: float, now: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S %z', time.localtime(born))} ({max(0.0, now - born):,.0f} s ago)"


@contextlib.contextmanager
def _looked_into(path: str) -> Iterator[sqlite3.Connection]:
    _check_path(path)
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=5.0)) as file:
            if check(file, path):
                raise UsageError(f"{path} is empty, and no cache yet")
            yield file
    except sqlite3.Error as error:
        raise UsageError(f"the cache {path} can't be read: {error}") from None


def _check_path(path: str) -> None:
    if is_redis(path):
        raise UsageError(
            "what is in Redis it tells itself: redis-cli --scan --pattern 'zpipe:1:*'; this is for a cache in a file"
        )
    if not Path(path).exists():
        raise UsageError(f"there is no cache {path}: check the path")


def clear(path: str, *, expired: bool = False, task: str | None = None) -> tuple[int, int]:
    """Let go of what has expired, of one task's results, or of all; return how many those are, and of how many.

    `task` is its name, whatever was in its file at the time; a file's path may be the end of it. Raises UsageError.
    """
    with _looked_into(path) as file:
        before = int(file.execute("SELECT count(*) FROM outcomes").fetchone()[0])
        tasks = file.execute("SELECT mark, name FROM tasks ORDER BY name").fetchall()
    marks = [mark for mark, name in tasks if task is not None and f"/{name}".endswith(f"/{task}")]
    known = dict.fromkeys(name for _, name in tasks)
    if task is not None and not marks:
        raise UsageError(f"{path} has nothing of {task}; it knows {', '.join(known) or 'no task'}")
    shelf = Outcomes(path)
    try:
        if task is not None:
            shelf.drop(marks)
        elif not expired:
            shelf.drop(None)
        shelf.drop_expired()
        left = shelf.count()
        shelf.shrink()
    except sqlite3.Error as error:
        raise UsageError(f"the cache {path} can't be written: {error}") from None
    finally:
        shelf.close()
    return before - left, before
