"""What a cache has, as it is told, and what is left of it after a clearing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from zpipe.caching import stock
from zpipe.caching.cache import MARK, Outcomes
from zpipe.errors import UsageError


def filled(path: Path) -> str:
    """A cache of two tasks, one of them in two versions, with what has expired."""
    shelf = Outcomes(str(path))
    for mark, name, count in ((b"a", "/x/t.py:f", 3), (b"b", "/x/t.py:f", 2), (b"c", "math:sqrt", 4)):
        digests = [mark * MARK + b"%d" % n for n in range(count)]
        shelf.entitle(mark * MARK, name)
        shelf.write([(digest, b"vv") for digest in digests])
        shelf.read([*digests, b"none"])
    shelf.close()
    stale = Outcomes(str(path), ttl=1e-6)
    stale.write([(b"d" * MARK + b"0", b"v" * 10)])
    stale.close()
    return str(path)


def test_what_is_told(tmp_path: Path) -> None:
    """In all and by task; looking changes nothing, not even what has expired."""
    path = filled(tmp_path / "c")
    before = time.time()
    for _ in range(2):
        told = json.loads(stock.shown(path, as_json=True))
        assert (told["entries"], told["expired"], told["bytes"], told["hits"]) == (10, 1, 28, 9)
        assert told["oldest"] <= told["newest"] <= before
        assert [(task["name"], task["entries"], task["bytes"], task["hits"]) for task in told["tasks"]] == [
            ("/x/t.py:f", 2, 4, 2),
            ("/x/t.py:f", 3, 6, 3),
            ("?", 1, 10, 0),
            ("math:sqrt", 4, 8, 4),
        ]
    text = stock.shown(path, as_json=False)
    assert "results  10, 1 of them expired" in text
    assert "task     math:sqrt: 4 results, 8 bytes, 4 hits" in text


def test_clearing(tmp_path: Path) -> None:
    """What has expired, a task in all its versions, or all; the file goes on."""
    path = filled(tmp_path / "c")
    assert stock.clear(path, expired=True) == (1, 10)
    assert stock.clear(path, task="t.py:f") == (5, 9)
    assert json.loads(stock.shown(path, as_json=True))["hits"] == 4
    with pytest.raises(UsageError, match=r"it knows /x/t\.py:f, math:sqrt"):
        stock.clear(path, task="x.py:f")
    assert stock.clear(path) == (4, 4)
    assert "results  0" in stock.shown(path, as_json=False)
    shelf = Outcomes(path)
    shelf.write([(b"x", b"v")])
    assert shelf.count() == 1
    shelf.close()


def test_what_is_no_cache(tmp_path: Path) -> None:
    """Is named, with the reason, and left as it was."""
    (tmp_path / "text").write_text("no cache at all, but a text that is long enough to be read as a header" * 10)
    (tmp_path / "empty").touch()
    for name, said in (("none", "there is no cache"), ("text", "can't be read"), ("empty", "no cache yet")):
        with pytest.raises(UsageError, match=said):
            stock.shown(str(tmp_path / name), as_json=False)
        with pytest.raises(UsageError, match=said):
            stock.clear(str(tmp_path / name))
    assert not (tmp_path / "empty").stat().st_size
    with pytest.raises(UsageError, match="redis-cli"):
        stock.shown("redis://127.0.0.1/0", as_json=False)
