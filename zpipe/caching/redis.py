"""Outcomes in Redis, which many hosts and jobs share, for as long as they are fresh.

The rule: no pickle from strangers. Redis itself tells nobody who wrote a value, so with a pipeline's key each carries a
keyed hash (BLAKE2b) of it and of its digest, and one without the right one is as good as not there. With no key a job
that pickles is refused, unless it is said by name that everybody who can write there is trusted; data needs none.

Redis drops what has expired by itself, and the oldest where it is told how much it may hold (`maxmemory`).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from zpipe.caching.cache import Entry, Unavailable
from zpipe.errors import UsageError

__all__ = ["RedisOutcomes", "is_redis"]

PREFIX = b"zpipe:1:"

SEAL = 32
"""Bytes of the keyed hash."""

WAIT = 5.0
"""Seconds that Redis has to answer."""

_BORN = struct.Struct(">d")


def is_redis(url: str) -> bool:
    """Whether a cache is meant that is in Redis."""
    return url.partition("://")[0] in ("redis", "rediss", "unix") and "://" in url


class RedisOutcomes:
    """A shelf in the Redis at `url`; an outcome is fresh for `ttl` seconds (None: as long as Redis has it).

    `secrets` are those of the pipeline's key, of which the last one seals. Raises UsageError.
    """

    def __init__(self, url: str, ttl: float | None = None, secrets: Sequence[bytes] = ()) -> None:
        self._ttl = ttl
        self._keys = [hashlib.blake2b(b"cache", key=secret, digest_size=32).digest() for secret in secrets]
        self.name = _shown(url)
        try:
            import redis
        except ImportError:
            raise UsageError(f"the cache {self.name} takes a package: pip install 'zpipe[redis]'") from None
        self._failure: tuple[type[BaseException], ...] = (redis.RedisError, OSError)
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=WAIT, socket_connect_timeout=WAIT)
            self._redis.ping()
        except (*self._failure, ValueError) as error:
            raise UsageError(f"the cache {self.name} can't be reached: {error}; is Redis running there?") from None

    def read(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return those of the outcomes that are there, fresh, and sealed by who has the key."""
        try:
            values = self._redis.mget([PREFIX + digest for digest in digests])
        except self._failure as error:
            raise Unavailable(str(error)) from None
        oldest = time.time() - self._ttl if self._ttl is not None else -1.0
        found = {}
        for digest, value in zip(digests, values, strict=True):
            outcome = self._opened(digest, value, oldest) if value is not None else None
            if outcome is not None:
                found[digest] = outcome
        return found

    def write(self, entries: Sequence[Entry]) -> None:
        """Have these from now on."""
        born = _BORN.pack(time.time())
        milliseconds = None if self._ttl is None else max(1, int(self._ttl * 1000))
        try:
            pipe = self._redis.pipeline(transaction=False)
            for digest, outcome in entries:
                body = born + outcome
                pipe.set(PREFIX + digest, self._seal(digest, body) + body, px=milliseconds)
            pipe.execute()
        except self._failure as error:
            raise Unavailable(str(error)) from None

    def entitle(self, mark: bytes, name: str) -> None:
        """Do nothing: Redis tells itself what it has."""

    def _seal(self, digest: bytes, body: bytes) -> bytes:
        return _hash(self._keys[-1], digest, body) if self._keys else b""

    def _opened(self, digest: bytes, value: bytes, oldest: float) -> bytes | None:
        body = value
        if self._keys:
            seal, body = value[:SEAL], value[SEAL:]
            if not any(hmac.compare_digest(seal, _hash(key, digest, body)) for key in self._keys):
                return None
        if len(body) <= _BORN.size or _BORN.unpack_from(body)[0] <= oldest:
            return None
        return body[_BORN.size :]

    def close(self) -> None:
        """Let go of the connections."""
        try:
            self._redis.close()
        except self._failure as error:
            raise Unavailable(str(error)) from None


def _hash(key: bytes, digest: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(digest + body, key=key, digest_size=SEAL).digest()


def _shown(url: str) -> str:
    """Return the address without the password that may be in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
