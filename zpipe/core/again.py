"""When items that failed are tried again. Must not know of lanes, nor why or how often an item may fail."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf

from zpipe.core.chunk import Chunk
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Receipt

__all__ = ["Retries"]

CHOOSY = 1.0
"""Seconds for which an item that failed waits for another worker than the one it failed on."""

MOST, MOST_BYTES = 100_000, 256 << 20
"""With so many chunks waiting, or so many bytes of what they came in, nothing new is issued: a job all of whose items
fail must not end in memory."""


class Retries:
    """What is to be tried again of a ledger's chunks, once it is time; till then it is not `outstanding`."""

    def __init__(self, outstanding: dict[int, Chunk]) -> None:
        self.chunks: dict[int, Chunk] = {}
        """Those that wait for their time, by where they start."""
        self.crowded = False
        """Whether so much waits that nothing new is to be issued."""
        self.count = 0
        """How many items failed and had another try, or will have."""
        self._outstanding = outstanding
        self._later: list[tuple[float, int]] = []
        self._behind: list[int] = []
        """Those that are due, and wait for the rest of their chunk, which still goes by the same start."""
        self._pinned: dict[int, int] = {}
        self._bytes = 0

    def deadline(self) -> float:
        """When `due` is next worth asking."""
        if self._behind and any(start not in self._outstanding for start in self._behind):
            return 0.0
        return self._later[0][0] if self._later else inf

    def put_off(self, receipt: Receipt, chunk: Chunk, now: float) -> bool:
        """These items of a chunk failed in its present attempt, and are to be tried again; False if that is no news."""
        got = chunk.got or RangeSet()
        new = got.gaps(max(chunk.start, receipt.start), min(chunk.stop, receipt.stop))
        if not new:
            return False
        chunk.got = got
        for start, stop in new:
            part = chunk.part(start, stop)
            if not receipt.void:
                part.tries, part.avoid = chunk.tries + 1, receipt.lane
                self.count += 1
            part.until = now + (receipt.again or 0.0)
            self._add(part)
            heappush(self._later, (part.until, start))
            got.add(start, stop)
        return True

    def due(self, now: float) -> list[Chunk] | None:
        """Return the chunks to be tried again from now on, which are outstanding now; None if there is no news.

        There may be news without any: that one which is pending need not wait for another lane any longer.
        """
        found: list[Chunk] | None = None
        behind, self._behind = self._behind, []
        for start in behind:
            heappush(self._later, (now, start))
        while self._later and self._later[0][0] <= now:
            when, start = heappop(self._later)
            if start in self.chunks and self.chunks[start].until > when:
                continue  # that was the time of an earlier try
            if start in self._outstanding and start in self.chunks:
                self._behind.append(start)
                continue
            found = found or []
            chunk = self.chunks.get(start)
            if chunk is not None:
                self.drop(chunk)
                self._outstanding[start] = chunk
                chunk.until = now + CHOOSY
                heappush(self._later, (chunk.until, start))
                found.append(chunk)
        return found

    def on_limit(self, limit: int) -> None:
        """Nothing from this index on is wanted."""
        for chunk in [chunk for chunk in self.chunks.values() if chunk.start >= limit]:
            self.drop(chunk)

    def _add(self, chunk: Chunk) -> None:
        before = self.chunks.get(chunk.start)
        if before is not None:
            self.drop(before)
        self.chunks[chunk.start] = chunk
        key = id(chunk.payload)  # the same for all parts of what was sent together, and kept whole for any
        pins = self._pinned.get(key, 0)
        self._bytes += 0 if pins else chunk.size
        self._pinned[key] = pins + 1
        self._count()

    def drop(self, chunk: Chunk) -> None:
        """A chunk waits no more."""
        del self.chunks[chunk.start]
        key = id(chunk.payload)
        pins = self._pinned.pop(key) - 1
        if pins:
            self._pinned[key] = pins
        else:
            self._bytes -= chunk.size
        self._count()

    def _count(self) -> None:
        self.crowded = len(self.chunks) >= MOST or self._bytes >= MOST_BYTES

    def check(self) -> None:
        """Assert that what is pinned is what the chunks came in."""
        if not self.chunks:
            assert not self._pinned
            assert not self._bytes
            return
        sizes = {id(chunk.payload): chunk.size for chunk in self.chunks.values()}
        assert self._pinned.keys() == sizes.keys()
        assert self._bytes == sum(sizes.values())
