"""Single items that a script has submitted, a future each: pickled, unpickled and told in the pipeline's thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from itertools import islice
from typing import Any

from zpipe import serialize
from zpipe.api.functions import Function
from zpipe.api.futures import PipelineFuture
from zpipe.api.handover import Receiver
from zpipe.api.weighing import fitting
from zpipe.core.chunking import Chunker
from zpipe.core.wire import Buffer
from zpipe.running import outcomes

__all__ = ["Entry", "Submits", "Together", "begin"]

_LOG = logging.getLogger("concurrent.futures.zpipe")


class Together:
    """Futures whose items were sent together."""

    __slots__ = ("function", "futures", "submits")

    def __init__(self, submits: Submits, function: Function, futures: list[_Future]) -> None:
        self.submits = submits
        self.function = function
        self.futures: list[_Future | None] = [*futures]

    def deliver(self, offset: int, count: int, frames: Sequence[Buffer]) -> None:
        self.function.uses -= count
        values, errors = outcomes.decode(frames, count)
        values.reverse()
        for place in range(count):
            future, self.futures[offset + place] = self.futures[offset + place], None
            value, error = values.pop(), errors.pop(place, None)
            assert future is not None
            self.submits.settle(future, value, error)
            del future, value, error  # whoever waits for the next must not keep these alive

    def fail(self, error: BaseException) -> None:
        for future in self.futures:
            if future is not None:
                self.submits.settle(future, None, error)


def begin(future: Future[Any]) -> bool:
    """Tell whether what the future is for is still wanted."""
    try:
        return future.set_running_or_notify_cancel()
    except (RuntimeError, InvalidStateError):  # somebody else has settled it
        return False


def _settle(future: _Future, value: Any, error: BaseException | None) -> None:
    future.settled = True
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except BaseException:  # noqa: BLE001 - its callbacks are the script's own
        _LOG.exception("a future's callback failed")


_Future = PipelineFuture[Any]
Entry = tuple[Function, Any, _Future]


class Submits:
    """Single items in the order they were submitted, those of one function sent together as far as they follow."""

    def __init__(self) -> None:
        self.queue: deque[Entry] = deque()
        self.helped = False
        """Whether this is a thread of the script's, which is not to run callbacks."""
        self.aside: deque[Callable[[], None]] = deque()
        """What is to be done by the pipeline's thread then."""

    def settle(self, future: _Future, value: Any, error: BaseException | None) -> None:
        """Give a future its outcome."""
        if self.helped and future.heard:
            self.aside.append(partial(_settle, future, value, error))
        else:
            _settle(future, value, error)

    @property
    def function(self) -> Function:
        """What the next item is for."""
        return self.queue[0][0]

    @property
    def chunker(self) -> Chunker:
        """What sizes the next chunk."""
        return self.queue[0][0].quick

    def ready(self) -> int:
        """How many items wait."""
        return len(self.queue)

    @property
    def left(self) -> int:
        """How many items wait."""
        return len(self.queue)

    def take(self, most: int) -> tuple[int, list[Buffer], Receiver] | None:
        """Return the next items of one function. Those that were cancelled, or can't be pickled, end here."""
        queue = self.queue
        if not queue:
            return None
        function = queue[0][0]
        most = self._fitting(function, most)
        items: list[Any] = []
        futures: list[_Future] = []
        while queue and queue[0][0] is function and len(items) < most:
            _, item, future = queue.popleft()
            if begin(future):
                items.append(item)
                futures.append(future)
            else:
                function.uses -= 1
        frames = self._pickle(function, items, futures) if items else None
        if frames is None:
            return None
        if function.heft is not None:
            function.heft.weigh(len(items), sum(map(len, frames)))
        return len(futures), frames, Together(self, function, futures)

    def _fitting(self, function: Function, most: int) -> int:
        """Return how many of the next items, `most` at most, go together if they are all of this function."""
        queue = self.queue

        def at(place: int) -> Any:
            entry = queue[place]
            return entry[1] if entry[0] is function else queue[0][1]

        return fitting(function.heft, min(most, len(queue)), at)

    def take_one(self) -> tuple[Function, list[Buffer], Receiver] | None:
        """Return the next item, of which there is one, and whose it is: `take` in fewer steps."""
        function, item, future = self.queue.popleft()
        if not begin(future):
            function.uses -= 1
            return None
        try:
            frames = serialize.dumps([item], owned=True)
        except BaseException as error:  # noqa: BLE001 - as in `_pickle`
            function.uses -= 1
            self.settle(future, None, error)
            return None
        return function, frames, Together(self, function, [future])

    def _pickle(self, function: Function, items: list[Any], futures: list[_Future]) -> list[Buffer] | None:
        """Return the items' frames, those that can't be pickled taken out of both lists and their futures failed."""
        try:
            return serialize.dumps(items, owned=True)
        except BaseException as error:  # noqa: BLE001 - pickling runs the items' own code
            if len(items) == 1:
                function.uses -= 1
                self.settle(futures.pop(), None, error)
                return None
        whole = list(zip(items, futures, strict=True))
        items.clear()
        futures.clear()
        for item, future in whole:
            if self._pickle(function, [item], alone := [future]) is not None:
                items.append(item)
                futures += alone
        return serialize.dumps(items, owned=True) if items else None

    def cancel(self, spare: int) -> None:
        """Cancel what waits, but for the first `spare`."""
        kept = list(islice(self.queue, spare))
        dropped = list(islice(self.queue, spare, None))
        self.queue.clear()
        self.queue.extend(kept)
        self.drop(dropped)

    def drop(self, entries: Iterable[Entry]) -> None:
        """Cancel these, which are not to be sent."""
        for function, _, future in entries:
            function.uses -= 1
            try:
                future.cancel()
            except BaseException:  # noqa: BLE001 - as above
                _LOG.exception("a future's callback failed")
            if future.cancelled():
                begin(future)

    def fail(self, error: BaseException) -> None:
        """Fail what waits."""
        while self.queue:
            self.refuse(self.queue.popleft(), error)

    def refuse(self, entry: Entry, error: BaseException) -> None:
        """Fail this one, which is not to be sent."""
        function, _, future = entry
        function.uses -= 1
        if begin(future):
            self.settle(future, None, error)
