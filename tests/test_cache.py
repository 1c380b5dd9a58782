"""Where outcomes are kept: a file of the user's own, with an age and a size; and Redis, if who wrote had the key."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zpipe.caching.cache import LATE, Fallible, Outcomes, Unavailable
from zpipe.caching.redis import RedisOutcomes, is_redis
from zpipe.errors import UsageError

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    """By another process too, and a later one for the same digest takes its place."""
    path = str(tmp_path / "c")
    first = Outcomes(path)
    first.write([(A, b"va"), (B, b"vb")])
    first.write([(A, b"vc")])
    first.close()
    second = Outcomes(path)
    assert second.read([A, B, C]) == {A: b"vc", B: b"vb"}
    second.close()


def test_many_are_asked_for_at_once() -> None:
    """More than SQLite takes in one question."""
    shelf = Outcomes()
    entries = [(n.to_bytes(16, "big"), b"v%d" % n) for n in range(2500)]
    shelf.write(entries)
    assert shelf.read([digest for digest, _ in entries]) == dict(entries)
    shelf.close()


def test_what_is_too_old_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever asks for something fresher, and by nobody once it has expired; then it goes."""
    path, now = str(tmp_path / "c"), time.time()
    shelf = Outcomes(path, ttl=100.0)
    shelf.write([(A, b"va")])
    monkeypatch.setattr(time, "time", lambda: now + 50)
    assert shelf.read([A])
    impatient = Outcomes(path, ttl=10.0)
    assert not impatient.read([A])
    impatient.close()
    monkeypatch.setattr(time, "time", lambda: now + 101)
    assert not shelf.read([A])
    shelf.close()
    later = Outcomes(path)
    assert later.count() == 0
    later.close()


def test_the_oldest_go_where_it_is_too_much(tmp_path: Path) -> None:
    """The file is bounded at any time."""
    shelf = Outcomes(str(tmp_path / "c"), most=200_000)
    for n in range(50):
        shelf.write([(bytes([n]) * 16, b"v" + os.urandom(10_000))])
        assert shelf.count() < 20
    shelf.close()
    again = Outcomes(str(tmp_path / "c"))
    assert 0 < again.count() < 20
    assert again.read([bytes([49]) * 16])
    again.close()


def test_much_that_is_to_go_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes in slices, as long as there is time; what is left, later."""
    path = str(tmp_path / "c")
    shelf = Outcomes(path, ttl=100.0)
    shelf.write([(n.to_bytes(16, "big"), b"v") for n in range(2000)])
    shelf.close()
    now = time.time() + 101
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr("zpipe.caching.cache.MOMENT", -1.0)
    for left in (1500, 1000):
        hurried = Outcomes(path)
        assert hurried.count() == left
        hurried.close()


def test_large_outcomes_do_not_wait_for_many_others() -> None:
    """Memory is bounded by bytes, too."""
    shelf = Outcomes()
    cache = Fallible(shelf, "X", print)
    cache.put([(A, bytes(20 << 20))])
    assert shelf.count() == 1
    assert cache.flush() is None
    cache.put([(B, b"vb")])
    assert cache.flush() == cache._since + LATE
    cache.close()


def test_a_cache_is_its_users_own(tmp_path: Path) -> None:
    """It is made so that nobody else may write it, and refused if somebody may."""
    path = tmp_path / "c"
    Outcomes(str(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    with pytest.raises(UsageError, match="can be written by others"):
        Outcomes(str(path))


@pytest.mark.parametrize("what", ["text", "folder", "nowhere", "database"])
def test_what_is_no_cache_is_refused(tmp_path: Path, what: str) -> None:
    """With the reason, and it is left as it is."""
    path = tmp_path / "c"
    if what == "text":
        path.write_text("these are not the bytes of a database at all\n" * 50)
    elif what == "folder":
        path.mkdir()
    elif what == "nowhere":
        path = tmp_path / "none" / "c"
    else:
        with sqlite3.connect(path) as made:
            made.execute("CREATE TABLE mine (x)")
        made.close()
    if path.exists():
        path.chmod(0o700 if what == "folder" else 0o600)
    with pytest.raises(UsageError, match=r"the cache|no cache"):
        Outcomes(str(path))


def test_one_that_fails_is_told_of_once_and_left_alone() -> None:
    """The job goes on without; what waits to be written is found meanwhile."""

    class Broken:
        asked = 0

        def read(self, digests: object) -> dict[bytes, bytes]:
            self.asked += 1
            raise Unavailable("gone")

        def write(self, entries: object) -> None:
            raise Unavailable("gone")

        def close(self) -> None:
            raise Unavailable("gone")

    said: list[str] = []
    broken = Broken()
    cache = Fallible(broken, "X", said.append)
    cache.put([(A, b"va")])
    assert cache.get([A, B]) == {A: b"va"}
    assert cache.get([B]) == {}
    cache.close()
    assert broken.asked == 1
    assert len(said) == 1
    assert "X can't be read: gone" in said[0]


# Redis


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on this machine: apt-get install redis-server")
    client = pytest.importorskip("redis", reason="redis-py is not installed: pip install zpipe[redis]")
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    given = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *given], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                asked = client.Redis(port=port)
                asked.ping()
                asked.close()
                break
            except client.RedisError:
                assert time.monotonic() < until, "redis-server does not answer"
                assert server.poll() is None, "redis-server has ended"
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def test_redis_keeps_outcomes(redis_url: str) -> None:
    """For as long as was said."""
    shelf = RedisOutcomes(redis_url, ttl=60.0)
    shelf.write([(A, b"va"), (B, b"vb")])
    assert shelf.read([A, B, C]) == {A: b"va", B: b"vb"}
    impatient = RedisOutcomes(redis_url, ttl=1e-6)
    assert impatient.read([A]) == {}
    for made in (shelf, impatient):
        made.close()


def test_redis_is_not_believed_without_the_key(redis_url: str) -> None:
    """What others wrote, or put in another's place, is as good as not there; an older key of ours is good still."""
    import redis

    old, new = b"o" * 32, b"n" * 32
    ours, strange = RedisOutcomes(redis_url, secrets=[old]), RedisOutcomes(redis_url, secrets=[b"s" * 32])
    ours.write([(A, b"va")])
    strange.write([(B, b"vb")])
    client = redis.Redis.from_url(redis_url)
    client.set(b"zpipe:1:" + C, client.get(b"zpipe:1:" + A))
    client.close()
    rotated = RedisOutcomes(redis_url, secrets=[old, new])
    assert ours.read([A, B, C]) == rotated.read([A, B, C]) == {A: b"va"}
    for made in (ours, strange, rotated):
        made.close()


def test_addresses_of_redis_are_known() -> None:
    """And nothing else is taken for one."""
    assert [is_redis(text) for text in ("redis://h", "rediss://h/1", "a.cache", "redis", "./redis:/x")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="can't be reached"):
        RedisOutcomes("redis://127.0.0.1:1/0")
