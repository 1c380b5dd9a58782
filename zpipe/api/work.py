"""The source of a pipeline that a script embeds: what its calls have to give, in turn, and who gets the outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from zpipe.api.functions import Function
from zpipe.api.handover import Call, Receiver
from zpipe.api.maps import MapCall
from zpipe.api.rows import take_row
from zpipe.api.submits import Entry, Submits
from zpipe.core import wire
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Schedule
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.core.spec import JobSpec
from zpipe.input.sources import Batch
from zpipe.nodes.parties import Reader

if TYPE_CHECKING:
    from zpipe.api.docket import Docket

__all__ = ["Work"]


class Work:
    """The source of a pipeline: what its calls have to give, in turn. It has an end once it is `closing`."""

    exact = True

    def __init__(self, setup: JobSpec | None, terms: JobSpec) -> None:
        self.setup = setup
        self.terms = terms
        """What workers are told of each function, but for the function."""
        self.submits = Submits()
        self.maps: deque[MapCall] = deque()
        self.closing = False
        self.cancelling = -1
        """How many of the waiting items are spared, once the others are to be cancelled."""
        self.tickets: dict[int, tuple[int, Receiver]] = {}
        self._parts: dict[int, int] = {}
        self.issued = 0
        self._chosen: Call | None = None
        self._specs: dict[int, JobSpec] = {}
        self.identities: dict[int, bytes] = {}
        """What functions are known by elsewhere, by their numbers."""
        self._turn = False
        self.schedule: Schedule | None = None
        """What goes next is chosen by this, once it is there."""
        self.booked: deque[MapCall | Entry] = deque()
        """Calls that claim something of the schedule, as they were made."""
        self.labels: frozenset[str] | None = None
        """What workers can be asked for, if there will be no others."""
        self.docket: Docket | None = None
        """What parks them, and all others, by the schedule."""

    # as Tasks

    def current(self) -> tuple[int, Chunker] | None:
        """Choose the call that gives the next items: single ones and maps by turns."""
        self._chosen = None
        self._turn = not self._turn
        if self._turn or not (chosen := self._next_map()):
            chosen = self.submits if self.submits.queue else self._next_map()
        if chosen is None:
            return None
        self._chosen = chosen
        function = chosen.function
        return function.number if function.number in self._specs else self.known(function), chosen.chunker

    def known(self, function: Function) -> int:
        """Return a function's number, of which it is then known what it stands for."""
        if function.number not in self._specs:
            self._specs[function.number] = msgspec.structs.replace(self.terms, task=function.spec)
            self.identities[function.number] = function.identity
        return function.number

    def single(self) -> tuple[int, Chunker, Batch] | None:
        """Return the first of the submitted items, with its function and what sizes its chunks."""
        taken = self.submits.take_one() if self.submits.queue else None
        if taken is None:
            return None
        function, frames, receiver = taken
        self.book(1, receiver)
        return self.known(function), function.quick, Batch(1, "pickle", frames)

    def _next_map(self) -> Call | None:
        for _ in range(len(self.maps)):
            self.maps.rotate(-1)
            if self.maps[0].ready():
                return self.maps[0]
        return None

    def read_by(
        self,
        plan: Plan,
        ledger: Ledger,
        rest: Callable[[], None],
        wake: Callable[[], None],
        void: Callable[[int, int], None],
    ) -> Reader:
        """From now on all items are parked by this plan; return what does."""
        from zpipe.api.docket import Docket

        self.docket = Docket(plan, ledger, self, rest=rest, wake=wake, void=void, labels=self.labels)
        return self.docket

    def spec(self, number: int) -> JobSpec:
        """The function of this number, or what sets workers up."""
        if number == 0:
            assert self.setup is not None
            return self.setup
        return self._specs[number]

    def forget(self, number: int) -> None:
        """No item is for this function any more."""
        self._specs.pop(number, None)
        self.identities.pop(number, None)

    # as Source

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        if not self.closing or self.submits.queue or self.booked:
            return False
        return all(call.given for call in list(self.maps))

    def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: whoever hands work over wakes the loop."""

    def fileno(self) -> None:
        """Return None: the loop is woken."""

    def take(self, most: int) -> Batch | None:
        """Return the chosen call's next items."""
        taken = self._chosen.take(most) if self._chosen is not None else None
        if taken is None:
            return None
        count, frames, receiver = taken
        self.book(count, receiver)
        return Batch(count, "pickle", frames)

    def take_row(self, size: int, most: int) -> Batch | None:
        """Return the chosen call's next items as up to `most` chunks of `size`, if it is a map; None: `take` them."""
        call = self._chosen
        taken = take_row(call, size, most) if isinstance(call, MapCall) else None
        if taken is None:
            return None
        count, bodies, receiver = taken
        self.book(count, receiver)
        return Batch(count, "pickle", bodies)

    def book(self, count: int, receiver: Receiver) -> int:
        """So many items go under the next numbers; return the first."""
        start = self.issued
        self.issued += count
        self.tickets[start] = (self.issued, receiver)
        return start

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` of the chosen call's next items."""
        batch = self.take(most)
        return 0 if batch is None else batch.count

    def remaining(self) -> int | None:
        """Return how many items the chosen call has left, if it knows."""
        return self._chosen.left if self._chosen is not None else None

    def close(self) -> None:
        """Let go of what was handed over."""
        self.maps.clear()

    def cancel(self, spare: int) -> None:
        """Cancel the submitted items that were not sent, but for `spare` of those that claim nothing."""
        self.submits.cancel(spare)
        while self.booked:
            entry = self.booked.popleft()
            if isinstance(entry, MapCall):
                self.maps.append(entry)  # it was closed
            else:
                self.submits.drop([entry])
        if self.docket is not None:
            self.docket.cancel()

    # outcomes

    def together(self, start: int, stop: int) -> bool:
        """Whether these items, which are issued and not done, were taken together."""
        ticket = self.tickets.get(start)
        return stop <= (ticket if ticket is not None else self.tickets[self._first(start)])[0]

    def _first(self, item: int) -> int:
        """Return the first of those that were taken together with an item. Raises KeyError if none is waited for."""
        for first in range(item, -1, -1):
            if first in self.tickets:
                return first
        raise KeyError(item)

    def deliver(self, result: wire.Result, frames: Sequence[wire.Buffer]) -> None:
        """Hand outcomes to whoever the items were taken from."""
        start, stop = result.start, result.stop
        ticket = self.tickets.pop(start, None)
        if ticket is not None and ticket[0] == stop:
            ticket[1].deliver(0, stop - start, frames)
            return
        if ticket is not None:
            self.tickets[start] = ticket
        self._deliver_part(start, stop, frames)

    def _deliver_part(self, start: int, stop: int, frames: Sequence[wire.Buffer]) -> None:
        """Hand on the outcomes of a part of what was taken together."""
        first, receiver = self._count(start, stop)
        receiver.deliver(start - first, stop - start, frames)

    def lapse(self, start: int, stop: int) -> None:
        """These have no outcome: nobody waits for any."""
        self._count(start, stop)

    def _count(self, start: int, stop: int) -> tuple[int, Receiver]:
        """These are done. Return whom they were taken from, and where what was taken with them starts."""
        first = self._first(start)
        whole, receiver = self.tickets[first]
        left = self._parts.pop(first, whole - first) - (stop - start)
        if left:
            self._parts[first] = left
        else:
            del self.tickets[first]
        return first, receiver

    def fail(self, error: BaseException) -> None:
        """Nothing more will have an outcome."""
        self.submits.fail(error)
        while self.booked:
            entry = self.booked.popleft()
            if isinstance(entry, MapCall):
                entry.fail(error)
            else:
                self.submits.refuse(entry, error)
        for _, receiver in list(self.tickets.values()):
            receiver.fail(error)
        self.tickets.clear()
        for call in list(self.maps):
            call.fail(error)
