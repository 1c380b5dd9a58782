"""How a ventilator whose job goes by a schedule reads ahead and shares chunks among lanes. Decides nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.nodes.lanes import Lane, Lanes
from zpipe.nodes.parties import Reader
from zpipe.nodes.supply import Supply
from zpipe.schedule.parked import load

if TYPE_CHECKING:
    from zpipe.nodes.sifting import SiftedSupply
    from zpipe.nodes.sparing import Sparing

__all__ = ["Rota", "SourceReader"]


TURNS = 64
"""Batches that are read before it is looked again how much room there is: that counts what all lanes hold."""


class Rota:
    """Shares out by `plan` what `reader` parks. `setup`: workers are set up before they get anything.

    `sifted` tells what need not be run, if that is to be looked up as it is about to be sent.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        director: Director,
        lanes: Lanes,
        reader: Reader,
        *,
        setup: bool,
        sifted: SiftedSupply | None = None,
    ) -> None:
        self._plan, self._ledger, self._director, self._lanes = plan, ledger, director, lanes
        self._reader, self._setup = reader, setup
        self._sparing: Sparing | None = None
        if sifted is not None:
            from zpipe.nodes.sparing import Sparing

            self._sparing = Sparing(plan, ledger, sifted)
        self._voided = False

    def share(self, now: float) -> bool:
        """Share among all lanes that have room; return whether some got less than they could have."""
        touched: dict[int, Lane] = {}
        hungry, again = False, True
        while again:
            if self._director.lifecycle.may_issue and (self._sparing is None or self._sparing.hand_over(now)):
                self._reader.read(now)
            if not self._director.lifecycle.may_issue:  # perhaps since the source has failed
                hungry = False
                break
            self._plan.agenda.tick(now)
            self._plan.survey(self._reader.left())
            self._voided = False
            sent, hungry = self._fill(touched, now)
            again = self._voided or (sent and hungry and self._reader.frugal)
        for made in touched.values():
            made.flush()
        return hungry

    def _fill(self, touched: dict[int, Lane], now: float) -> tuple[bool, bool]:
        """Give lanes what they have room for; return whether any got some, and whether any could have had more."""
        lanes, ledger = self._lanes.open, self._ledger
        pairs = [(lanes[n], lane) for n, lane in ledger.lanes.items() if n in lanes and lane.credit > 0]
        if self._setup:
            pairs = [pair for pair in pairs if pair[0].introduce(0)]
        touched.update((made.number, made) for made, _ in pairs)
        sent = hungry = False
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
                    sent = True
                    pair[0].put(chunk)
            pairs = served
        return sent, hungry

    def _is_wanted(self, chunk: Chunk) -> bool:
        """Give a chunk its payload; if there is nothing to run in it any more, or as yet, let go of it."""
        if self._sparing is not None and self._sparing.set_aside(chunk):
            self._voided = True
            return False
        if load(chunk, self._plan.split):
            return True
        self._plan.on_void(chunk)
        self._reader.on_void(chunk.start, chunk.stop)
        self._voided = True
        return False


class SourceReader:
    """Reads a job's source some way ahead."""

    frugal = False

    def __init__(self, plan: Plan, ledger: Ledger, supply: Supply) -> None:
        self._plan, self._ledger, self._supply = plan, ledger, supply

    def read(self, now: float) -> None:
        """Park what the source has, as far as there is room."""
        plan, ledger = self._plan, self._ledger
        first, room, turns = True, 0, 0
        while True:
            if ledger.account.ahead.count and not self._supply.skip():
                return
            if room < 1 or turns % TURNS == 0:
                room = plan.room()
            turns += 1
            if room < 1 or (first and plan.trickles):
                return
            batch = self._supply.take(room)
            if batch is None:
                return
            claim = batch.claim or PLAIN
            made = plan.admit(batch.count, batch.kind, batch.frames, now, claim, batch.size)
            made.skip = batch.skip
            room -= batch.count
            first = False

    def left(self) -> int | None:
        """How many items are to be read yet, if that is known."""
        return self._supply.remaining()

    def on_void(self, start: int, stop: int) -> None:
        """Every item of a source is wanted."""
        raise AssertionError((start, stop))
