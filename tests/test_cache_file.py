"""The file of a cache: somebody else's is left alone, and a write that fails locks nobody out."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from zpipe.caching.cache import Outcomes, Unavailable
from zpipe.errors import UsageError


def test_another_programs_database_is_left_as_it_was(tmp_path: Path) -> None:
    """Not a byte of it is changed, nor is there a file beside it."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE theirs (x)")
    base.close()
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="no cache of zpipe"):
        Outcomes(str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_no_lock(tmp_path: Path) -> None:
    """A disk that is full for a while: others can write meanwhile, and so can this one later."""
    path = str(tmp_path / "cache")
    mine, other = Outcomes(path), Outcomes(path)
    pages = mine._file.execute("PRAGMA page_count").fetchone()[0]
    mine._file.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Unavailable, match="full"):
        mine.write([(b"a", b"x" * 100_000)])
    other.write([(b"b", b"y" * 100)])
    mine._file.execute("PRAGMA max_page_count=1000000")
    mine.write([(b"a", b"x" * 100_000)])
    assert set(other.read([b"a", b"b"])) == {b"a", b"b"}
    mine.close()
    other.close()


def test_who_else_writes_is_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is in use is no broken one."""
    path = str(tmp_path / "cache")
    Outcomes(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **more: connect(path, **{**more, "timeout": 0.0}))
    with pytest.raises(UsageError, match="wait for that"):
        Outcomes(path)
    other.close()
