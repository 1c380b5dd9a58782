"""A map over the results of another: what a stage of a script's chain takes, as it comes, from the stage before.

The rule: whoever takes the last stage's results carries those of all others on, in the same thread and without waiting
for any one stage: a result that is there goes on at once, as far as there is room behind it. All stages have the same
workers. An item that fails goes past the later stages and comes out at its place.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FuturesTimeoutError
from itertools import chain
from typing import Any, Protocol

from zpipe.api.maps import WEIGHT, MapCall
from zpipe.core.wire import Buffer
from zpipe.running import outcomes

__all__ = ["LinkedCall", "Upstream", "decoded", "runs"]


class Upstream(Protocol):
    """The results that a stage takes its items from."""

    call: MapCall
    flat: bool

    def parts(self, count: int, found: Sequence[Buffer] | BaseException) -> Iterator[list[Any] | BaseException]:
        """Yield what has come, as runs of values and the exceptions between them."""

    def rest(self) -> Iterator[list[Any] | BaseException]:
        """Yield what was begun to be handed out, and has not been."""


class LinkedCall(MapCall):
    """A map whose items are the results that `upstream` would hand out, whose owner is `items`, which this keeps."""

    def __init__(self, upstream: Upstream, function: Any, items: Any, **more: Any) -> None:
        super().__init__(function, items, **more)
        self._owner = items  # once let go of, it would drop what is to come
        self._upstream = upstream
        self._faults: deque[tuple[int, BaseException]] = deque()
        self._news = upstream.call._news  # one condition tells of all stages
        self._begun = False

    # the pipeline's thread

    def ready(self) -> int:
        """How many items could be taken now, or are there to be settled as failed before."""
        return super().ready() or (0 if self._closed else len(self._faults))

    @property
    def given(self) -> bool:
        """Whether there is nothing more to take, now or later."""
        return super().given and not self._faults

    def draw(self, most: int) -> tuple[int, Sequence[Any]]:
        """As any map; those that failed before have their outcome."""
        while self._faults and self._faults[0][0] == self._at:
            _, error = self._faults.popleft()
            start = self._at
            self._at += 1
            self.function.uses += 1
            self.arrived(start, 1, error, WEIGHT)
        if self._faults:
            most = min(most, self._faults[0][0] - self._at)
        return super().draw(most)

    # whoever takes the results

    def pull(self, whole: bool = False) -> None:
        """Carry on what the stage before has, as far as there is room; `whole`: wait for all of it."""
        before = self._upstream.call
        with self._pulling:
            if not self._begun:
                self._begun = True
                for part in self._upstream.rest():
                    self._put(part)
                before.release()  # that may have been its last
            pulling = False
            while self._iterator is not None and not self._closed and self._cut is None:
                if not whole and self._room(self.size, pulling) <= 0:
                    return
                pulling = True
                before.pull(whole)
                if not whole and not before.poll():
                    return
                self._carry(before)

    def _carry(self, before: MapCall) -> None:
        """Take the stage's next results."""
        asked = before.started
        try:
            entry = before.next()
        except Exception as error:  # noqa: BLE001 - what its own source raised, or the pipeline ended with
            self.cut(error)
            return
        finally:
            before.started = asked
        if entry is None:
            self._iterator = None
            self._wake()
            return
        for part in self._upstream.parts(*entry):
            self._put(part)
        before.release()

    def _put(self, part: list[Any] | BaseException) -> None:
        if isinstance(part, list):
            self.put_in(part)
            return
        with self._news:
            if self._cut is None and not self._closed:
                self._faults.append((self._pulled, part))
                self._pulled += 1
        self._wake()

    def fed(self) -> bool:
        """Whether there is something to carry on, here or in a stage before, and room for it."""
        if self._iterator is None or self._closed or self._cut is not None:
            return False
        if self._room(self.size, pulling=False) <= 0:
            return False
        before = self._upstream.call
        return before.poll() or (isinstance(before, LinkedCall) and before.fed())

    def next(self, timeout: float | None = None) -> tuple[int, Sequence[Buffer] | BaseException] | None:
        """As that of any map, but that other stages' results are carried on while it waits."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        self.started = True
        self.release()
        while True:
            self.pull()
            with self._news:
                while not self.poll() and not self.fed():
                    left = end - time.monotonic()
                    if left <= 0 or not self._news.wait(None if end == math.inf else left):
                        raise FuturesTimeoutError
            if self.poll():
                return super().next(max(0.0, end - time.monotonic()) if timeout is not None else None)

    def close(self) -> None:
        """No result is wanted any more, of the stages before neither."""
        super().close()
        self._faults.clear()
        self._upstream.call.close()


def _spread(values: list[Any], errors: dict[int, BaseException]) -> tuple[list[Any], dict[int, BaseException]]:
    """Return lists of values as one list of them, with the exceptions at their new positions."""
    if not errors:
        return list(chain.from_iterable(values)), {}
    flat: list[Any] = []
    moved = {}
    for position, value in enumerate(values):
        if position in errors:
            moved[len(flat)] = errors[position]
            flat.append(None)
        else:
            flat += value
    return flat, moved


def runs(values: list[Any], errors: dict[int, BaseException]) -> Iterator[list[Any] | BaseException]:
    """Yield the values in runs, and the exceptions between them."""
    at = 0
    for position in sorted(errors):
        if position > at:
            yield values[at:position]
        yield errors[position]
        at = position + 1
    if at < len(values):
        yield values[at:] if at else values


def decoded(
    count: int, found: Sequence[Buffer] | BaseException, *, flat: bool
) -> tuple[list[Any], dict[int, BaseException]]:
    """Return a chunk's values, and its exceptions by position. `flat`: each value is a list of them."""
    if isinstance(found, BaseException):
        return [None] * count, dict.fromkeys(range(count), found)
    values, errors = outcomes.decode(found, count)
    return _spread(values, errors) if flat else (values, errors)
