"""Of chunks that are about to go down a lane, where that is chosen: those that need not be run are set aside.

An item is looked up in its turn, not when it is parked: so nothing waits for an equal one that is not yet to be run.
What is done with each is the sieve's to say, and how that is told the sifted supply's.
"""

from __future__ import annotations

from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.core.sieve import Answer, Loaded, Sieve
from zpipe.nodes.sifting import SiftedSupply
from zpipe.schedule.parked import Parked

__all__ = ["Sparing"]


class Sparing:
    """Looks at chunks of a ledger's `plan`, by the `supply` of a script's pipeline."""

    def __init__(self, plan: Plan, ledger: Ledger, supply: SiftedSupply) -> None:
        self._plan, self._ledger, self._supply = plan, ledger, supply
        self._sieve: Sieve = supply.sieve

    def hand_over(self, now: float) -> bool:
        """Park what was read before what goes next was chosen; return whether that is all of it."""
        sieve, supply = self._sieve, self._supply
        while sieve.waiting:
            loaded = sieve.loaded
            assert loaded is not None
            found = sieve.take(sieve.waiting)
            if found is not None:
                count, kind, frames = found
                made = self._plan.admit(
                    count, kind, frames, now, PLAIN, supply.weight * count, loaded.task, loaded.chunker
                )
                made.skip = loaded.cut.skip(loaded.at - count)
            elif not sieve.set_aside(sieve.waiting):
                return False
        return True

    def set_aside(self, chunk: Chunk) -> bool:
        """Whether nothing of this chunk is run now, which was just given to a lane: it is set aside.

        Else it is cut to what is.
        """
        lot = chunk.payload
        if not isinstance(lot, Parked) or chunk.doom:
            return False
        loaded = self._supply.look_up(lot.items[chunk.skip : chunk.skip + len(chunk)], chunk.task, chunk.start)
        if loaded is None:
            return False
        count = self._to_be_run(chunk, loaded)
        if count:
            if count < len(chunk):
                self._plan.split(chunk, chunk.start + count)
            return False
        digest = loaded.digests[0]
        leads = digest is not None and self._sieve.leader(digest) is not None
        count, left = lot.waive(chunk.skip, 1 if leads else self._known(chunk, loaded))
        if left is None:
            return False  # nobody wants it: whoever makes its payload finds that
        if count < len(chunk):
            self._plan.split(chunk, chunk.start + count)
        self._plan.set_aside(chunk, left)
        items = loaded.items[:count]
        if leads and digest is not None:
            self._sieve.follow(digest, chunk, items)
            return True
        outcomes = [outcome for outcome in map(loaded.outcome, range(count)) if outcome is not None]
        hits = sum(digest not in loaded.known for digest in loaded.digests[:count])
        marks = list(zip(loaded.digests, loaded.marks, strict=True))[:count]
        self._sieve.answer(Answer(chunk, items, outcomes, hits, None, marks))
        return True

    def _to_be_run(self, chunk: Chunk, loaded: Loaded) -> int:
        """Return how many of a chunk's first items are run, by which others like them go from now on."""
        for position, digest in enumerate(loaded.digests):
            if digest is None:
                continue
            index = chunk.start + position
            leader = self._sieve.leader(digest)
            if leader is None and loaded.outcome(position) is None:
                self._sieve.lead(index, digest, loaded.marks[position])
            elif leader != index:
                return position
        return len(chunk)

    def _known(self, chunk: Chunk, loaded: Loaded) -> int:
        """Return of how many of a chunk's first items the outcomes are known."""
        for position in range(len(chunk)):
            digest = loaded.digests[position]
            if loaded.outcome(position) is None or (digest is not None and self._sieve.leader(digest) is not None):
                return position
        return len(chunk)
