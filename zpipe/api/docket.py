"""What a script's calls give to a schedule: parked as they come, each with what it claims, and pickled in its turn.

The rule: what is in memory anyway is parked as soon as it is there, for a later one may go ahead of it: every submitted
item. Of a map as many as go ahead of each other, or where they go in their order only as many as lanes take at once; so
maps of equal claims go by turns. What nobody wants any more is let go of at once, not when its time has come.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from zpipe.api.claimed import AHEAD_BYTES, UNKNOWN, Run, gathered
from zpipe.api.functions import Function
from zpipe.api.futures import PipelineFuture
from zpipe.api.handover import Receiver
from zpipe.api.lots import Map, MapLot, SubmitLot
from zpipe.api.maps import WEIGHT, MapCall
from zpipe.api.submits import Entry, Submits, Together, begin
from zpipe.core.agenda import AHEAD
from zpipe.core.chunking import Chunker
from zpipe.core.claim import PLAIN, Claim
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.errors import UsageError
from zpipe.schedule.parked import Parked

__all__ = ["Books", "Docket"]

TOGETHER = 256
"""Submitted items that are parked as one at most."""

TOGETHER_MAPPED = 1_000
"""Items of a map that are read at once."""

TRICKLE = 8
"""Reading a map goes on once there is room for such a part of what may be parked of it."""

BOUNDLESS = 1 << 62

_LOG = logging.getLogger("concurrent.futures.zpipe")


Calls = tuple[Function, Chunker]
"""What items are for, and what sizes their chunks."""


class Books(Protocol):
    """What a script has asked for, and who waits for what."""

    submits: Submits
    maps: deque[MapCall]
    booked: deque[MapCall | Entry]
    """Calls that claim something, as they were made."""

    def known(self, function: Function) -> int:
        """Return a function's number, of which it is then known what it stands for."""

    def book(self, count: int, receiver: Receiver) -> int:
        """So many items go under the next numbers; return the first."""

    def lapse(self, start: int, stop: int) -> None:
        """These have no outcome: nobody waits for any."""


class Docket:
    """Parks what is in the `books` of a pipeline, by a ledger's `plan`.

    `rest` is called when there is nothing more to read for now, `wake` from any thread when there is. `void(start,
    stop)` is told of items that nobody wants any more. `labels` are what workers can be asked for, if there will be no
    others.
    """

    frugal = True

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        books: Books,
        *,
        rest: Callable[[], None],
        wake: Callable[[], None],
        void: Callable[[int, int], None],
        labels: frozenset[str] | None = None,
    ) -> None:
        self._plan, self._ledger, self._books = plan, ledger, books
        self._rest, self._wake, self._void, self._labels = rest, wake, void, labels
        self._maps: dict[MapCall, Map] = {}
        """Those of which items are parked, or were a moment ago."""
        self._cancelled: deque[PipelineFuture[Any]] = deque()

    # as a reader

    def read(self, now: float) -> None:
        """Park what there is, as far as there is room; and let go of what nobody wants any more."""
        self._strike()
        books = self._books
        while books.booked:
            entry = books.booked.popleft()
            if isinstance(entry, MapCall):
                books.maps.append(entry)
            else:
                books.submits.queue.append(entry)
        if self._plan.room(BOUNDLESS) > 0 and not self._ledger.retries.crowded:
            while books.submits.queue:
                self._park_submitted(now)
            books.maps.rotate(-1)
            for call in list(books.maps):
                self._park_mapped(call, now)
        self._rest()

    def left(self) -> int | None:
        """How many items are to be read yet, if that is known."""
        known = [call.left for call in list(self._books.maps)]
        return None if None in known else sum(left for left in known if left is not None)

    def on_void(self, start: int, stop: int) -> None:
        """These, which were parked, turned out not to be wanted any more."""
        self._books.lapse(start, stop)
        self._void(start, stop)

    # what is read

    def _admit(self, lot: Parked, receiver: Receiver, calls: Calls, claim: Claim, since: float) -> int:
        """Park these items; return the first one's number."""
        function, chunker = calls
        count = len(lot.items)
        start = self._books.book(count, receiver)
        self._plan.admit(count, "pickle", lot, since, claim, 0, self._books.known(function), chunker)
        return start

    def _park_submitted(self, now: float) -> None:
        """Park the next of the submitted items that claim the same, and are of one function."""
        submits = self._books.submits
        queue = submits.queue
        function, _, first = queue[0]
        items: list[Any] = []
        futures: list[PipelineFuture[Any]] = []
        while queue and len(items) < TOGETHER:
            entry = queue[0]
            if entry[0] is not function or entry[2].claim != first.claim:
                break
            queue.popleft()
            claim = entry[2].claim or PLAIN
            if (why := self._unfit(claim)) is not None:
                submits.refuse(entry, why)
                continue
            entry[2].waits = self  # first: whoever cancels it now either is seen here, or sees this
            items.append(entry[1])
            futures.append(entry[2])
        if not items:
            return
        claim = first.claim or PLAIN
        lot = SubmitLot(Together(submits, function, futures), items)
        lot.start = self._admit(lot, lot.together, (function, function.quick), claim, first.since or now)
        for place, future in enumerate(futures):
            future.number = lot.start + place
        self._cancelled.extend(future for future in futures if future.cancelled())
        if self._cancelled:
            self._strike()

    def _park_mapped(self, call: MapCall, now: float) -> None:
        """Park the next items of a map, as far as there is room for them."""
        made = self._maps.get(call) or Map(call)
        while call.ready() and (room := self._room(made)) > 0:
            start, items = call.draw(min(room, TOGETHER_MAPPED))
            if not items:
                return
            self._maps[call] = made
            runs: list[Run] = [(len(items), now, PLAIN)]
            if made.claimed is not None:
                runs = made.claimed.of(start, items, time.time() - time.monotonic())
                if not call.ordered and len(runs) > 1:
                    items, runs = gathered(items, runs)
            at = 0
            for count, since, claim in runs:
                why = claim if isinstance(claim, BaseException) else self._unfit(claim)
                if why is not None:
                    for place in range(at, at + count):
                        call.arrived(start + place, 1, why, WEIGHT)
                else:
                    assert isinstance(claim, Claim)
                    lot = MapLot(made, start + at, items[at : at + count] if count < len(items) else items)
                    made.parked += count
                    self._admit(lot, lot.receiver, (call.function, call.chunker), claim, since)
                at += count

    def _room(self, made: Map) -> int:
        """How many more items of a map may be parked now."""
        call, claimed = made.call, made.claimed
        if claimed is not None and claimed.claims.varied:
            most = min(AHEAD, call.chunker.within(inf, AHEAD_BYTES) or UNKNOWN)
            room = most - made.parked
            return room if not made.parked or room * TRICKLE >= most else 0
        # As many as lanes can take before this is asked again, so that nothing of a lower priority goes ahead of them.
        lanes = self._ledger.lanes.values()
        size = min(call.chunker.size(None, len(lanes)), max(1, AHEAD // (2 * max(1, len(lanes)))))
        wanted = max(1, size * sum(lane.credit for lane in lanes if lane.credit > 0))
        return 2 * wanted - made.parked if made.parked < wanted else 0

    def _unfit(self, claim: Claim) -> Exception | None:
        """Why no worker will ever be asked for what this requires."""
        if self._labels is None or claim.requires <= self._labels:
            return None
        lacking = ", ".join(sorted(claim.requires - self._labels))
        return UsageError(f"it requires {lacking}, which a pipeline without workers lacks: give labels=[...]")

    # what nobody wants any more

    def on_cancelled(self, future: PipelineFuture[Any]) -> None:
        """A future was cancelled whose call waits here. From any thread."""
        self._cancelled.append(future)
        self._wake()

    def cancel(self) -> None:
        """Cancel every submitted item that was not sent."""
        for chunk in list(self._plan.agenda.parked.values()):
            lot = chunk.payload
            if isinstance(lot, SubmitLot):
                for future in lot.together.futures[chunk.skip : chunk.skip + len(chunk)]:
                    if future is not None:
                        _cancel(future)
        self._strike()

    def _strike(self) -> None:
        """Let go of what is parked and nobody wants any more."""
        while self._cancelled:
            self._strike_out(self._cancelled.popleft())
        closed = {made for call, made in self._maps.items() if call.closed}
        if closed:
            for chunk in list(self._plan.agenda.parked.values()):
                lot = chunk.payload
                if isinstance(lot, MapLot) and lot.map in closed:
                    start, stop = chunk.start, chunk.stop
                    if self._plan.lapse(chunk, start, stop):
                        lot.drop(stop - start)
                        self.on_void(start, stop)
        for call in [call for call, made in self._maps.items() if not made.parked]:
            del self._maps[call]

    def _strike_out(self, future: PipelineFuture[Any]) -> None:
        """Let go of one submitted item."""
        number = future.number
        parked = self._plan.agenda.parked
        for start in range(number, number - TOGETHER, -1):
            chunk = parked.get(start)
            if chunk is None:
                continue
            lot = chunk.payload
            if number < chunk.stop and isinstance(lot, SubmitLot):
                place = number - lot.start
                if lot.together.futures[place] is future and self._plan.lapse(chunk, number, number + 1):
                    begin(future)
                    lot.together.futures[place] = None
                    lot.together.function.uses -= 1
                    self.on_void(number, number + 1)
            return


def _cancel(future: PipelineFuture[Any]) -> None:
    try:
        future.cancel()
    except BaseException:  # noqa: BLE001 - its callbacks are the script's own
        _LOG.exception("a future's callback failed")
