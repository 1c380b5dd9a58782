"""Whose fault it is when workers end: what each ran at its end, and the halving that leaves one item alone.

Chunks that workers ended over by their own fault are suspects. Each is halved, and its parts are run with nothing else
on their lane, until the item whose fault it is is alone. Must not know of lanes' credit or receipts.
"""

from __future__ import annotations

from heapq import heappop, heappush

from zpipe.core.chunk import Chunk

__all__ = ["Suspects"]

VERDICTS = 10_000
"""Lost lanes of which it is remembered what they ran; how a worker ended is heard only when its slot joins again."""


class Suspects:
    """The suspects among a ledger's `outstanding` chunks.

    An item is given up when `max_crashes` workers have ended while they ran it.
    """

    def __init__(self, outstanding: dict[int, Chunk], max_crashes: int) -> None:
        self.max_crashes = max_crashes
        self.pending: list[int] = []
        """A heap of where those start that may wait to be run, and of some that do no more."""
        self._outstanding = outstanding
        self._running: dict[int, tuple[Chunk, bool]] = {}

    def on_lost(self, number: int, chunk: Chunk, *, alone: bool) -> None:
        """The worker of a lane is gone, which ran this chunk; `alone`: one item, with nothing else on the lane."""
        self._running[number] = chunk, alone
        if len(self._running) > VERDICTS:
            del self._running[next(iter(self._running))]
        chunk.losses += 1

    def on_verdict(self, number: int, *, crashed: bool) -> Chunk | None:
        """How the worker of a lost lane ended is known: return the chunk it is charged to, if by its own fault."""
        chunk, proof = self._running.pop(number, (None, False))
        if chunk is None or not crashed:
            return None
        chunk.losses -= 1
        chunk.crashes += 1
        chunk.proven += proof
        return chunk

    def add(self, chunk: Chunk) -> None:
        """Workers ended by running this pending chunk: halve it, until the item whose fault it is is alone."""
        if len(chunk) > 1:
            rest = chunk.cut((chunk.start + chunk.stop) // 2)
            self._outstanding[rest.start] = rest
            heappush(self.pending, rest.start)
        elif chunk.proven and chunk.crashes >= self.max_crashes:
            chunk.doom = f"it was given up: {chunk.crashes} workers ended while they ran it"
        self.put_back(chunk)

    def put_back(self, chunk: Chunk) -> None:
        """Have a suspect wait as it is."""
        heappush(self.pending, chunk.start)

    def take(self) -> Chunk | None:
        """Return the first suspect that is to be run, if any; it waits no more."""
        while self.pending:
            chunk = self._outstanding.get(heappop(self.pending))
            if chunk is not None and not chunk.lane:
                return chunk
        return None
