"""Whose fault it is when workers end: what each ran at its end, and the halving that leaves one item alone.

Chunks that workers ended over by their own fault are suspects. Each is halved, and its parts are run with nothing else
on their lane, until the item whose fault it is is alone; unless the slot's next process says which item it was. In a
job with limits what a lost worker had waits a little for that word. Must not know of lanes' credit or receipts.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

import msgspec

from zpipe.core.chunk import Chunk
from zpipe.core.wire import Fate

__all__ = ["Suspects", "Verdict"]

VERDICTS = 10_000
"""Lost lanes of which it is remembered what they ran; how a worker ended is heard only when its slot joins again."""

HEARING = 3.0
"""Seconds for which a lost worker's chunks wait for that in a job with limits; a slot's next process takes 0.1 s."""

KILLS = 6
"""How often an unknown hand may kill the worker that runs a chunk, but not its supervisor, and it is taken for chance.
"""


class Verdict(msgspec.Struct, frozen=True):
    """How a lost worker ended: by its own fault (`crashed`), while it ran an `item`, if that is known, and in words.

    `late`: it was killed because that item ran too long. `killed`: by an unknown hand, which its supervisor saw, and
    survived. `fate` is what else there is to tell.
    """

    crashed: bool = False
    item: int | None = None
    late: bool = False
    how: str = ""
    killed: bool = False
    fate: Fate | None = None


class Suspects:
    """The suspects among a ledger's `outstanding` chunks.

    An item is given up when `max_crashes` workers have ended while they ran it.
    """

    def __init__(self, outstanding: dict[int, Chunk], max_crashes: int) -> None:
        self.max_crashes = max_crashes
        self.pending: list[int] = []
        """A heap of where those start that may wait to be run, and of some that do no more."""
        self.may_go: Callable[[Chunk], bool] = lambda _: True
        """Whether a schedule lets a chunk go now."""
        self._outstanding = outstanding
        self._running: dict[int, tuple[list[Chunk], bool, bool]] = {}
        self._heard: dict[int, list[Chunk]] = {}
        self._until: dict[int, float] = {}

    def on_lost(self, number: int, chunks: list[Chunk], *, alone: bool, many: bool) -> None:
        """The worker of a lane is gone, which ran these chunks, `many` items at a time, perhaps.

        `alone`: one item, with nothing else on the lane.
        """
        chunks = [chunk for chunk in chunks if not chunk.expired]  # those are told of, not run: it can't be they
        self._running[number] = chunks, alone, many
        if len(self._running) > VERDICTS:
            del self._running[next(iter(self._running))]
        for chunk in chunks:
            chunk.losses += 1

    def ran_many(self, number: int) -> bool:
        """Whether the worker of a lost lane ran many items at a time."""
        return number in self._running and self._running[number][2]

    def on_verdict(self, number: int, verdict: Verdict) -> list[Chunk]:
        """How the worker of a lost lane ended is known: return the chunks it is charged to, if by its own fault.

        So it is taken to be if that has happened to a chunk too often for chance. Where many ran at a time it is any
        of them, and each is to be run by itself.
        """
        chunks, proof, _ = self._running.pop(number, ([], False, False))
        charged = []
        for chunk in chunks:
            chunk.kills += verdict.killed
            if not verdict.crashed and not (verdict.killed and chunk.kills > KILLS):
                continue
            chunk.losses -= 1
            chunk.crashes += 1
            chunk.proven += proof
            chunk.fate = verdict.fate
            charged.append(chunk)
        return charged

    def acquit(self, number: int) -> None:
        """What the worker of a lost lane ran is known otherwise: no chunk of it is charged."""
        self._running.pop(number, None)

    # suspects

    def add(self, chunk: Chunk, how: str = "") -> None:
        """Workers ended by running this pending chunk, the last one so: halve it, until its guilty item is alone."""
        if len(chunk) > 1:
            rest = chunk.cut((chunk.start + chunk.stop) // 2)
            self._outstanding[rest.start] = rest
            heappush(self.pending, rest.start)
        elif self._is_guilty(chunk) and not chunk.doom:
            count = chunk.crashes + min(chunk.kills, KILLS)
            many = f"{count} workers ended while they" if count > 1 else "a worker ended while it"
            chunk.attempt -= 1  # telling of it is none
            chunk.doom = f"it was given up: {many} ran it{how and f'; the last one: {how}'}"
        self.put_back(chunk)

    def _is_guilty(self, chunk: Chunk) -> bool:
        """Whether enough is known of a chunk of one item: of unknown hands, each time must have been over it alone."""
        proof = self.max_crashes if chunk.kills > KILLS else 1
        return chunk.proven >= proof and chunk.crashes >= self.max_crashes

    def put_back(self, chunk: Chunk) -> None:
        """Have a suspect wait as it is."""
        heappush(self.pending, chunk.start)

    def take(self, labels: frozenset[str] = frozenset()) -> Chunk | None:
        """Return the first suspect that a worker with these labels is to run, if any; it waits no more."""
        found, aside = None, []
        while self.pending and found is None:
            start = heappop(self.pending)
            chunk = self._outstanding.get(start)
            if chunk is None or chunk.lane:
                continue
            if chunk.claim is None or chunk.doom or (chunk.claim.requires <= labels and self.may_go(chunk)):
                found = chunk
            else:
                aside.append(start)
        for start in aside:
            heappush(self.pending, start)
        return found

    def resting(self) -> list[Chunk]:
        """Return the chunks that wait to be run, or for a verdict."""
        starts = {*self.pending, *self.waiting()}
        return [chunk for start in starts if (chunk := self._outstanding.get(start)) is not None and not chunk.lane]

    # what waits to hear how a worker ended

    def hear(self, number: int, chunks: list[Chunk]) -> None:
        """Have these wait for the verdict on their lane, `HEARING` seconds from the next `late` on at most."""
        self._heard[number] = chunks

    def waits(self, number: int) -> bool:
        """Whether chunks wait for the verdict on a lane."""
        return number in self._heard

    def release(self, number: int) -> list[Chunk]:
        """Return those of the chunks which waited for the verdict on this lane that are still to be had."""
        self._until.pop(number, None)
        found = self._heard.pop(number, ())
        return [chunk for chunk in found if not chunk.lane and self._outstanding.get(chunk.start) is chunk]

    def late(self, now: float) -> list[int]:
        """Return the lanes on which there has been no verdict in time."""
        for number in self._heard:
            self._until.setdefault(number, now + HEARING)
        return [number for number, until in self._until.items() if until <= now]

    def deadline(self) -> float:
        """When `late` is next worth asking."""
        if len(self._until) < len(self._heard):
            return 0.0
        if not self._until:
            return inf
        return min(self._until.values())

    def waiting(self) -> set[int]:
        """Where the chunks start that wait for a verdict, and some that do no more."""
        return {chunk.start for chunks in self._heard.values() for chunk in chunks}
