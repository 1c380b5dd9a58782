"""How far a file was written, so that a later process can go on there. This file does not know who keeps that."""

from __future__ import annotations

import os
import zlib

import msgspec

__all__ = ["Mark"]


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How far a file was written: its `size` in bytes, and a checksum of the last ones, by which it is known again."""

    size: int
    tail: int

    TAIL = 4096

    @classmethod
    def of(cls, fd: int, size: int) -> Mark:
        """Return the mark of the first `size` bytes of an open file."""
        start = max(0, size - cls.TAIL)
        return cls(size, zlib.crc32(os.pread(fd, size - start, start)))
