"""How a ventilator whose job goes by a schedule reads ahead and shares chunks among lanes. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable

from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.lanes import Lanes
from zpipe.parked import load
from zpipe.parties import Tasks
from zpipe.supply import Supply

__all__ = ["Rota"]


class Rota:
    """Shares out by `plan`. `void(start, stop)` is told of items that turn out not to be wanted any more."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        director: Director,
        lanes: Lanes,
        supply: Supply,
        tasks: Tasks | None,
        void: Callable[[int, int], None],
        *,
        setup: bool,
    ) -> None:
        self._plan, self._ledger, self._director = plan, ledger, director
        self._lanes, self._supply, self._tasks, self._void = lanes, supply, tasks, void
        self._setup = setup

    def share(self, now: float) -> bool:
        """Share among all lanes that have room; return whether some got less than they could have."""
        if self._director.lifecycle.may_issue:
            self._read_ahead(now)
        if not self._director.lifecycle.may_issue:  # perhaps since the source has failed
            return False
        lanes, ledger = self._lanes.open, self._ledger
        self._plan.survey(self._supply.remaining())
        pairs = [(lanes[n], lane) for n, lane in ledger.lanes.items() if n in lanes and lane.credit > 0]
        if self._setup:
            pairs = [pair for pair in pairs if pair[0].introduce(0)]
        touched, hungry = [made for made, _ in pairs], False
        while pairs:
            pairs = [pair for pair in pairs if pair[1].credit > 0 and not pair[0].cut]
            pairs.sort(key=lambda pair: len(pair[1].held))
            served = []
            for pair in pairs:
                chunk = ledger.again(pair[0].number, now)
                if chunk is None:
                    hungry = True
                    continue
                served.append(pair)
                if self._is_wanted(chunk):
                    pair[0].put(chunk)
            pairs = served
        for made in touched:
            made.flush()
        return hungry

    def _is_wanted(self, chunk: Chunk) -> bool:
        """Give a chunk its payload; if there is nothing to run in it any more, let go of it."""
        if load(chunk):
            return True
        self._plan.on_void(chunk)
        self._void(chunk.start, chunk.stop)
        return False

    def _read_ahead(self, now: float) -> None:
        """Park what the source has, as far as there is room."""
        plan, ledger, tasks = self._plan, self._ledger, self._tasks
        first = True
        while True:
            if ledger.account.ahead.count and not self._supply.skip():
                return
            room = plan.room()
            if room < 1 or (first and plan.trickles and tasks is None):
                return
            current = (0, ledger.chunker) if tasks is None else tasks.current()
            if current is None:
                self._supply.wait()
                return
            batch = self._supply.take(room)
            if batch is None and tasks is None:
                return
            if batch is not None:
                task, chunker = current
                claim = batch.claim or PLAIN
                plan.admit(batch.count, batch.kind, batch.frames, now, claim, batch.size, task, chunker)
            first = False
