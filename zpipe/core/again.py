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


class Retries:
    """What is to be tried again of a ledger's chunks, once it is time; till then it is not `outstanding`."""

    def __init__(self, outstanding: dict[int, Chunk]) -> None:
        self.chunks: dict[int, Chunk] = {}
        """Those that wait for their time, by where they start."""
        self.count = 0
        """How many items failed and had another try, or will have."""
        self._outstanding = outstanding
        self._later: list[tuple[float, int]] = []
        self._behind: list[int] = []
        """Those that are due, and wait for the rest of their chunk, which still goes by the same start."""

    def deadline(self) -> float:
        """When `due` is next worth asking."""
        if any(start not in self._outstanding for start in self._behind):
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
            self.chunks[start] = part
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
            chunk = self.chunks.pop(start, None)
            if chunk is not None:
                self._outstanding[start] = chunk
                chunk.until = now + CHOOSY
                heappush(self._later, (chunk.until, start))
                found.append(chunk)
        return found

    def on_limit(self, limit: int) -> None:
        """Nothing from this index on is wanted."""
        for index in [index for index in self.chunks if index >= limit]:
            del self.chunks[index]
