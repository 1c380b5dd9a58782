"""Items of a script's calls that wait for their turn: pickled in it, unless nobody wants them any more by then.

An item that can't be pickled fails alone. Must not know when their turn is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zpipe import serialize
from zpipe.api.handover import Receiver
from zpipe.api.maps import WEIGHT, MapCall, Part
from zpipe.api.submits import Together, begin
from zpipe.api.weighing import fitting
from zpipe.core.chunking import Heft
from zpipe.core.wire import Buffer
from zpipe.schedule.parked import Parked

__all__ = ["Map", "MapLot", "SubmitLot"]

SMALL = 64
"""Fewer numbers of a range are smaller as a list."""


class Map:
    """A map of which items are parked."""

    __slots__ = ("call", "claimed", "parked")

    def __init__(self, call: MapCall) -> None:
        self.call, self.claimed = call, call.claimed
        self.parked = 0


class MapLot(Parked):
    """Items of a map, from the `start`-th on."""

    __slots__ = ("_part", "map")

    def __init__(self, made: Map, start: int, items: Sequence[Any]) -> None:
        super().__init__(items, serialize.dumps)
        self.map = made
        self._part = Part(made.call, start)

    @property
    def receiver(self) -> Receiver:
        return self._part

    def drop(self, count: int) -> None:
        """So many are not parked any more, nor run."""
        self.map.parked -= count
        self.map.call.function.uses -= count

    def frames(self, skip: int, count: int) -> tuple[int, list[Buffer] | None]:
        """Return the payload of these items, or of those up to the first that can't be pickled."""
        call = self.map.call
        if call.closed:
            self.drop(count)
            return count, None
        count = _fitting(call.heft, self.items, skip, count)
        count, frames, error = _pickled(self.items[skip : skip + count], call.heft)
        self.map.parked -= count
        if error is not None:
            self._part.settle(skip, 1, error, WEIGHT)
        return count, frames

    def waive(self, skip: int, count: int) -> tuple[int, Parked | None]:
        """As `frames`; if they are to be sent after all, they are whether anybody wants them or not."""
        if self.map.call.closed:
            return count, None
        self.map.parked -= count
        items, heft = self.items[skip : skip + count], self.map.call.heft
        return count, _Waived(items, heft, lambda place, error: self._fail(skip + place, error))

    def _fail(self, place: int, error: BaseException) -> None:
        self._part.settle(place, 1, error, WEIGHT)


class SubmitLot(Parked):
    """Items that were submitted, each with its future, which go by the numbers from `start` on."""

    __slots__ = ("_begun", "start", "together")

    def __init__(self, together: Together, items: list[Any]) -> None:
        super().__init__(items, serialize.dumps)
        self.together = together
        self.start = 0
        self._begun: set[int] = set()
        """Those that have begun, as far as their futures know, and are still here."""

    def frames(self, skip: int, count: int) -> tuple[int, list[Buffer] | None]:
        """Return the payload of these items, up to the first that is cancelled or can't be pickled; or let go of it."""
        futures, function = self.together.futures, self.together.function
        ready = 0
        count = _fitting(function.heft, self.items, skip, count)
        for place in range(skip, skip + count):
            future = futures[place]
            if future is None or not (place in self._begun or begin(future)):
                futures[place] = None
                break
            ready += 1
        if not ready:
            function.uses -= 1
            return 1, None
        many, frames, error = _pickled(self.items[skip : skip + ready], function.heft)
        self._begun.difference_update(range(skip, skip + many))
        self._begun.update(range(skip + many, skip + ready))
        if error is not None:
            self._fail(skip, error)
        return many, frames

    def waive(self, skip: int, count: int) -> tuple[int, Parked | None]:
        """As `frames`: they have begun."""
        futures, ready = self.together.futures, 0
        for place in range(skip, skip + count):
            future = futures[place]
            if future is None or not (place in self._begun or begin(future)):
                break
            ready += 1
        if not ready:
            return 1, None
        items, heft = self.items[skip : skip + ready], self.together.function.heft
        return ready, _Waived(items, heft, lambda place, error: self._fail(skip + place, error))

    def _fail(self, place: int, error: BaseException) -> None:
        future, self.together.futures[place] = self.together.futures[place], None
        self.together.function.uses -= 1
        assert future is not None
        self.together.submits.settle(future, None, error)


class _Waived(Parked):
    """Items that need not be sent, as it seemed, and are now. `fail(place, error)`: one of them can't be pickled."""

    __slots__ = ("_fail", "_heft")

    def __init__(self, items: Sequence[Any], heft: Heft | None, fail: Callable[[int, BaseException], None]) -> None:
        super().__init__(items, serialize.dumps)
        self._heft, self._fail = heft, fail

    def frames(self, skip: int, count: int) -> tuple[int, list[Buffer] | None]:
        count = _fitting(self._heft, self.items, skip, count)
        count, frames, error = _pickled(self.items[skip : skip + count], self._heft)
        if error is not None:
            self._fail(skip, error)
        return count, frames


def _fitting(heft: Heft | None, items: Sequence[Any], skip: int, count: int) -> int:
    return fitting(heft, count, lambda place: items[skip + place])


def _pickled(items: Sequence[Any], heft: Heft | None) -> tuple[int, list[Buffer] | None, BaseException | None]:
    """Return how many of these items go together, and their payload; or of the first alone why it can't be pickled."""
    count = len(items)
    try:
        frames = serialize.dumps(list(items) if count < SMALL else items, owned=True)
    except BaseException as error:  # noqa: BLE001 - pickling runs the items' own code
        if count == 1:
            return 1, None, error
    else:
        if heft is not None:
            heft.weigh(count, sum(map(len, frames)))
        return count, frames, None
    good = 0
    for item in items[:-1]:
        try:
            serialize.dumps([item], owned=True)
        except BaseException:  # noqa: BLE001 - as above
            break
        good += 1
    return _pickled(items[: max(good, 1)], heft)
