"""How the items of a job in stages are parked where it goes by a schedule: of each stage as they are wanted.

The first stage's are read ahead, for the best of them to go first. What is behind it stays on its belt until lanes have
room, so that belts fill, and a stage waits that they are full behind.
"""

from __future__ import annotations

from collections import Counter

from zpipe.core.agenda import AHEAD
from zpipe.core.chunking import Chunker
from zpipe.core.claim import PLAIN
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.nodes.sifting import SiftedSupply
from zpipe.nodes.supply import Supply
from zpipe.stages.flow import Flow

__all__ = ["StageReader"]


class StageReader:
    """Reads a `flow` by way of its `supply`."""

    frugal = True

    def __init__(self, flow: Flow, plan: Plan, ledger: Ledger, supply: Supply) -> None:
        self._flow, self._plan, self._ledger, self._supply = flow, plan, ledger, supply
        self._sifted = supply if isinstance(supply, SiftedSupply) else None
        plan.agenda.gate([plan.number for plan in flow.stages.stages])

    def read(self, now: float) -> None:
        """Park what there is and is wanted."""
        flow, ledger, supply, sifted = self._flow, self._ledger, self._supply, self._sifted
        parked = self._parked()
        rooms: dict[int, int] = {}
        flow.unwanted.clear()
        while not (ledger.closed or ledger.retries.crowded) and (current := flow.current()) is not None:
            task, chunker = current
            if task not in rooms:
                rooms[task] = self._plan.room() if task == 1 else self._room_behind(chunker, parked[task])
            batch = supply.take(rooms[task]) if rooms[task] > 0 else None
            if batch is not None:
                if sifted is not None:
                    task, chunker = sifted.taken
                claim = batch.claim or PLAIN
                made = self._plan.admit(batch.count, batch.kind, batch.frames, now, claim, batch.size, task, chunker)
                made.skip = batch.skip
                rooms[task] -= batch.count
            elif sifted is not None and sifted.held_up:
                break
            if batch is None or rooms[task] < 1:
                flow.unwanted.add(task)
        flow.unwanted.clear()
        self._plan.agenda.shut(flow.stages.brimming())
        supply.wait()

    def _parked(self) -> Counter[int]:
        """Return how many items are parked, by stage."""
        found: Counter[int] = Counter()
        agenda = self._plan.agenda
        for chunk in agenda.parked.values():
            if chunk.task > 1 and agenda.is_parked(chunk):
                found[chunk.task] += len(chunk)
        return found

    def _room_behind(self, chunker: Chunker, parked: int) -> int:
        """Return how many more items of a stage may be parked, which has so many: twice what lanes can take."""
        lanes = self._ledger.lanes.values()
        credit = sum(lane.credit for lane in lanes if lane.credit > 0)
        wanted = max(1, min(AHEAD // 2, chunker.size(None, len(lanes)) * credit))
        return 2 * wanted - parked if parked < wanted else 0

    def left(self) -> None:
        """Return None: how many items are to come of all stages, nobody knows."""

    def on_void(self, start: int, stop: int) -> None:
        """Every item of a stage is wanted."""
        raise AssertionError((start, stop))
