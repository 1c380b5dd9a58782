"""Many values by key, in bounded memory: beyond that they wait pickled in a temporary file that has no name.

Keys stay in memory, and so do values that are nearly all of different keys, or can't be pickled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any, Generic, TypeVar

from zpipe import serialize

__all__ = ["Spill"]

K = TypeVar("K")
T = TypeVar("T")

MOST_BYTES = 16 << 20
"""Bytes of pickled values that stay in memory at most, by what those have weighed that were looked at."""

FEW = 4
"""Values of a key, on the average, below which they stay."""


class Spill(Generic[K, T]):
    """Lists of values: `add` to them, then iterate once over all, in the order in which keys were first seen."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._here: dict[K, list[T]] = {}
        self._there: dict[K, list[tuple[int, int]]] = {}
        """Where in the file earlier values of a key are."""
        self._file: IO[bytes] | None = None
        self._count = self._weight = 0

    def add(self, key: K, value: T) -> None:
        """Have one more."""
        self._here.setdefault(key, []).append(value)
        self._count += 1
        if not self._count & (self._count - 1):  # now and then
            self._weight = max(self._weight, len(_packed([value]) or b""))
        if self._count * self._weight > self._most:
            self._spill()

    def _spill(self) -> None:
        before, self._count = self._count, 0
        if FEW * len(self._here) <= before:
            here, self._here = self._here, {}
            for key, values in here.items():
                spans = self._there.setdefault(key, [])
                packed = _packed(values)
                if packed is None or not self._write(packed, spans):
                    self._here[key] = values
                    self._count += len(values)
        else:
            self._count = before
        if 2 * self._count > before:
            self._most *= 2  # it is not worth while to look again soon

    def _write(self, packed: bytes, spans: list[tuple[int, int]]) -> bool:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nobody has this any more
            at = self._file.seek(0, 2)
            self._file.write(packed)
            self._file.flush()
        except OSError:  # no room: then memory has to do
            return False
        spans.append((at, len(packed)))
        return True

    def __iter__(self) -> Iterator[tuple[K, list[T]]]:
        for key in [*self._there, *(key for key in self._here if key not in self._there)]:
            values: list[T] = []
            for at, size in self._there.pop(key, ()):
                assert self._file is not None
                self._file.seek(at)
                values += serialize.loads([self._file.read(size)])
            yield key, values + self._here.pop(key, [])

    def __del__(self) -> None:
        """Close the file, which is then gone."""
        if self._file is not None:
            self._file.close()


def _packed(values: list[Any]) -> bytes | None:
    try:
        return serialize.dump_whole(values)
    except Exception:  # noqa: BLE001 - whatever a value's own methods raise
        return None
