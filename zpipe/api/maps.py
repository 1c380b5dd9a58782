"""A map that a script has asked for: many items of one function, whose results somebody takes, at that one's pace.

Shared by the script's threads and the pipeline's. The rule: the pipeline's thread runs nothing of the user's but
pickling. Whoever iterates pulls items from lazy iterables, and unpickles results, in its own thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as FuturesTimeoutError
from itertools import islice
from typing import TYPE_CHECKING, Any

from zpipe import serialize
from zpipe.api.condition import Condition
from zpipe.api.functions import Function
from zpipe.api.handover import Receiver
from zpipe.api.weighing import fitting, weight
from zpipe.api.zipped import Zipped
from zpipe.core.chunking import Chunker, Heft
from zpipe.core.foresight import Foresight
from zpipe.core.wire import Buffer

if TYPE_CHECKING:
    from zpipe.api.claimed import Claimed

__all__ = ["WEIGHT", "MapCall", "Part"]

BUFFERED_BYTES = 64 << 20
"""Results that wait to be taken, from which on a call's items are held back."""

WEIGHT = 512
"""Bytes that the outcomes of a chunk take here besides their own."""

LIGHT = WEIGHT + 1024
"""Bytes that a result has at most which is returned with others."""

TOGETHER = 2048
"""Items pulled at once, at most, unless chunks are of a fixed size: then one of them is weighed."""

BURST = 0.002
"""Seconds of pulling after which is looked again how much room there is."""


class MapCall:
    """Many items of one function. `wake` tells the pipeline's thread that there is more to take.

    Items are those of a list, tuple or range, sliced as they are needed; of anything else `pull` puts blocks in.
    `slots` says how many workers there are, each of which runs `width` items at a time. `bound`: items pulled, at most,
    beyond those whose results are taken (None: as many as keep the workers busy). `news`: what whoever takes results
    waits for.
    """

    claimed: Claimed | None = None
    """What its items claim of a schedule, if they do."""

    def __init__(
        self,
        function: Function,
        items: Iterable[Any],
        *,
        wake: Callable[[], None],
        chunker: Chunker,
        slots: Callable[[], int],
        ordered: bool = True,
        bound: int | None = None,
        width: int = 1,
        news: Condition | None = None,
    ) -> None:
        self._foresight = Foresight(bound, width)
        self.function, self.chunker = function, chunker
        self.heft = Heft() if chunker.fixed is None else None
        """What its items weigh, unless their number is fixed."""
        self._wake, self._slots, self.ordered, self._bound = wake, slots, ordered, bound
        self._sequence: Sequence[Any] | None = None
        self._iterator: Iterator[Any] | None = None
        if type(items) in (list, tuple, range) or isinstance(items, Zipped):
            self._sequence = items  # type: ignore[assignment]
        else:
            self._iterator = iter(items)
        self._at = 0
        self._blocks: deque[list[Any]] = deque()
        self._pulled = 0
        self._news = news or Condition()
        self._ready: deque[tuple[int, Sequence[Buffer] | BaseException, int]] = deque()
        self._early: dict[int, tuple[int, Sequence[Buffer] | BaseException, int]] = {}
        self._buffered = self._freed = 0
        self._next = 0
        self._taken = 0
        self._returned = 0
        self._closed = False
        self._lifted = False
        self._unread = False
        self.started = False
        """Whether somebody has asked for results."""
        self._error: BaseException | None = None
        self._cut: BaseException | None = None
        self._pulling = threading.RLock()

    # the pipeline's thread

    def ready(self) -> int:
        """How many items could be taken now."""
        sequence = self._sequence
        if self._closed or (self._buffered - self._freed > BUFFERED_BYTES and not self._lifted):
            return 0
        if sequence is None:
            return len(self._blocks)  # none is empty
        left = len(sequence) - self._at
        return left if self._bound is None or self._lifted else min(left, self._returned + self._bound - self._at)

    @property
    def left(self) -> int | None:
        """How many items have not been taken, if that is known."""
        sequence = self._sequence
        return len(sequence) - self._at if sequence is not None else None

    def draw(self, most: int) -> tuple[int, Sequence[Any]]:
        """Return where the next items start, and 1 to `most` of them; none if there are none now."""
        start = self._at
        sequence = self._sequence
        if sequence is not None:
            items: Any = sequence[start : start + min(most, self.ready())]
            if type(items) is range and len(items) < 64:
                items = list(items)  # smaller as a pickle, which names a range's class
        else:
            try:
                items = self._blocks.popleft()
                while len(items) < most and self._blocks:  # blocks are as small as the room there was
                    items += self._blocks.popleft()
            except IndexError:  # it was closed meanwhile
                return start, ()
            if len(items) > most:
                self._blocks.appendleft(items[most:])
                del items[most:]
        self._at = start + len(items)
        self.function.uses += len(items)
        return start, items

    def take(self, most: int) -> tuple[int, list[Buffer], Receiver] | None:
        """Return the next items."""
        heft = self.heft
        if heft is not None:
            most = min(most, heft.taken)
        start, items = self.draw(most)
        if heft is not None:
            items = self._fitting(start, items, heft)
        if not (count := len(items)):
            return None
        try:
            frames = serialize.dumps(items, owned=True)
        except BaseException as error:  # noqa: BLE001 - pickling runs the items' own code
            if count == 1:
                self.arrived(start, 1, error, 0)
                return None
            return self._apart(start, items)
        if heft is not None:
            heft.weigh(count, sum(map(len, frames)))
        return count, frames, Part(self, start)

    def _fitting(self, start: int, items: Sequence[Any], heft: Heft) -> Sequence[Any]:
        """Return of these, which were drawn last, those that go together; the others are to be drawn again."""
        count, many = len(items), 0
        try:
            many = fitting(heft, count, items.__getitem__)
        finally:  # an interrupt loses none of them
            if many < count:
                self.put_back(start + many, items[many:])
        return items[:many] if many < count else items

    def _apart(self, start: int, items: Sequence[Any]) -> tuple[int, list[Buffer], Receiver] | None:
        """Some of these items can't be pickled: go on one by one, those ahead of the first such one for now."""
        good = 0
        for item in items:
            try:
                serialize.dumps(item, owned=True)
            except BaseException:  # noqa: BLE001 - as above
                break
            good += 1
        self.put_back(start, items)
        return self.take(max(good, 1)) if good < len(items) else self.take(1)

    def put_back(self, start: int, items: Sequence[Any]) -> None:
        """These, which were drawn last, are to be drawn again."""
        self.function.uses -= len(items)
        self._at = start
        if self._sequence is None:
            self._blocks.appendleft(list(items))

    @property
    def closed(self) -> bool:
        """Whether nobody wants results any more."""
        return self._closed

    @property
    def sized(self) -> bool:
        """Whether the items are there, to be sliced, and nobody need pull them."""
        return self._sequence is not None

    @property
    def patient(self) -> bool:
        """Whether no more items are to be pulled than somebody asks for."""
        return self.started or self._bound is not None

    @property
    def given(self) -> bool:
        """Whether there is nothing more to take, now or later."""
        if self._closed:
            return True
        sequence = self._sequence
        return self._at >= len(sequence) if sequence is not None else self._dried and not self._blocks

    @property
    def _dried(self) -> bool:
        """Whether nothing more will be pulled."""
        return self._iterator is None or self._cut is not None

    def arrived(self, start: int, count: int, found: Sequence[Buffer] | BaseException, size: int) -> None:
        """The outcomes of items from the `start`-th on are here."""
        self.function.uses -= count
        with self._news:
            if self._closed or self._unread:
                self._taken += count
            elif not self.ordered:
                self._ready.append((count, found, size))
                self._buffered += size
                self._news.notify_all()
            else:
                self._early[start] = (count, found, size)
                self._buffered += size
                while (entry := self._early.pop(self._next, None)) is not None:
                    self._ready.append(entry)
                    self._next += entry[0]
                if self._ready:
                    self._news.notify_all()
            if self._unread:
                self._returned = self._taken

    def fail(self, error: BaseException) -> None:
        """Nothing more will come."""
        with self._news:
            if self._error is None:
                self._error = error
            self._news.notify_all()

    # whoever takes the results

    def pull(self, whole: bool = False) -> None:
        """Put as many items in as the bound allows, or all there are.

        What the iterable raises ends them, and is raised by `next` in its turn.
        """
        if self._iterator is None or self._closed:
            return
        pulling = False
        with self._pulling:
            while (iterator := self._iterator) is not None and not self._closed and self._cut is None:
                size = self.size
                room = size if whole else self._room(size, pulling)
                if self.heft is not None and not self.heft.known:
                    room = min(room, size)
                if room <= 0 or (pulling and self._ready and not whole):
                    break  # whoever waits for results is not to wait for all that a slow iterable has
                pulling = True
                self._pull_some(iterator, size, room)

    def _pull_some(self, iterator: Iterator[Any], size: int, room: int) -> None:
        """Put in blocks of `size` items until there is no room, or some time has passed."""
        until, most = time.monotonic() + BURST, size if self.heft is None else TOGETHER
        while room > 0 and not self._closed and self._cut is None:
            block: list[Any] = []
            try:
                block.extend(islice(iterator, min(size, room, most)))  # keeps what came before an exception
            except Exception as error:  # noqa: BLE001 - the iterable's own code
                self.put_in(block)
                self.cut(error)
                return
            except BaseException:  # an interrupt, after which more may be asked for
                self.put_in(block)
                raise
            if not block:
                self._iterator = None
                self._wake()  # this may have been all that was waited for
                return
            self.put_in(block)
            room -= len(block)
            if time.monotonic() >= until or (self.heft is not None and self.heft.most < size):
                return

    def put_in(self, block: list[Any]) -> None:
        """Put items in, unless no more are wanted."""
        try:
            if self.heft is not None and block and self.heft.wants(len(block)):
                self.heft.look(weight(block[-1]))
        finally:  # an interrupt loses none of them
            self._add(block)

    def _add(self, block: list[Any]) -> None:
        with self._news:
            if block and self._cut is None and not self._closed:
                self._pulled += len(block)
                if self.claimed is not None:
                    self.claimed.on_pulled(self._pulled, block)
                self._blocks.append(block)
        self._wake()

    @property
    def size(self) -> int:
        """How many items a chunk has that is made now, but for the end's."""
        size = self.chunker.size(None, 1)
        return size if self.heft is None else min(size, self.heft.most)

    def _room(self, size: int, pulling: bool = True) -> int:
        """Return how many items may be pulled now."""
        reach = 0 if self.claimed is None else self.claimed.reach
        self._foresight.look(size, self._slots, self.chunker, reach, self.heft)
        return self._foresight.room(self._returned, self._pulled, begun=pulling)

    @property
    def ended(self) -> bool:
        """Whether every result there will be has been taken."""
        sequence = self._sequence
        if sequence is not None:
            return self._returned >= len(sequence)
        return self._closed or (self._dried and self._returned >= self._pulled)

    def next(self, timeout: float | None = None) -> tuple[int, Sequence[Buffer] | BaseException] | None:
        """Return how many outcomes come next, and what they are; None at the end.

        Raises TimeoutError after `timeout` s, and what the call failed with. Items are pulled first.
        """
        self.started = True
        self.release()
        if not self._ready or self._foresight.room(self._returned, self._pulled):
            self.pull()
        if self._bound is not None:
            self._wake()
        return self._pop() if self._ready or self._await_any(timeout) else None

    @property
    def few(self) -> int:
        """How many results may be returned at a time, should they come in smaller chunks."""
        return self._foresight.few

    def another(self, most: int) -> tuple[int, Sequence[Buffer] | BaseException] | None:
        """As `next`, of what is there already, if it is `most` outcomes at most and they are small.

        They count as returned with those that `next` has returned.
        """
        ready = self._ready
        return self._pop() if ready and ready[0][0] <= most and ready[0][2] <= LIGHT else None

    def _pop(self) -> tuple[int, Sequence[Buffer] | BaseException] | None:
        try:
            count, found, size = self._ready[0]
        except IndexError:  # it was closed meanwhile
            return None
        held = self._buffered - self._freed > BUFFERED_BYTES
        self._freed += size
        self._taken += count
        self._ready.popleft()
        if held:
            self._wake()
        return count, found

    def _await_any(self, timeout: float | None) -> bool:
        """Wait for outcomes; return whether there are any, or else this is the end."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._news:
            while not self._ready:
                if self._error is not None and not self._closed:
                    raise self._error
                if self.ended:
                    if self._cut is not None and not self._closed:
                        raise self._cut
                    return False
                if not self._news.wait(end and end - time.monotonic()):
                    raise FuturesTimeoutError
        return True

    def release(self) -> None:
        """The results returned last have been used."""
        self._returned = self._taken

    def poll(self) -> bool:
        """Tell whether `next` would return at once."""
        return bool(self._ready) or self.ended or self._error is not None

    def close(self) -> None:
        """No result is wanted any more: what has not been sent is dropped."""
        with self._news:
            self._closed = True
            self._blocks.clear()
            self._ready.clear()
            self._early.clear()
            self._freed = self._buffered
            self._iterator = self._sequence = None
            self._news.notify_all()
        self._wake()

    def lift(self) -> None:
        """Have what there is run to its end, whether results are taken or not; whoever takes them may pull more."""
        self._lifted = True
        if self._unread:
            self.cut(RuntimeError("nobody is left to pull"))
        self._wake()

    def cut(self, error: BaseException) -> None:
        """Pull no more; if there was more to pull, that is an error once what was pulled has been taken.

        Does not wait for whoever pulls right now: what comes of that is dropped.
        """
        with self._news:
            if self._iterator is not None and self._cut is None and not self._closed:
                self._cut = error
            self._news.notify_all()
        self._wake()

    def abandon(self) -> None:
        """Nobody will ask for results, but the items are to be run: of a lazy iterable, those that `pull` puts in."""
        with self._news:
            self._ready.clear()
            self._early.clear()
            self._freed = self._buffered
            self._unread = True
        if self._lifted or self._bound is not None:
            self.cut(RuntimeError("nobody is left to pull"))
        self._lifted = True
        self._wake()

    def orphan(self, error: BaseException) -> None:
        """Nothing more will come, in a forked child, where whoever held a lock is no more."""
        self._news, self._pulling = Condition(), threading.RLock()
        self._ready.clear()
        self._error = error


class Part:
    """Items of a map that were sent together."""

    __slots__ = ("_call", "_start")

    def __init__(self, call: MapCall, start: int) -> None:
        self._call = call
        self._start = start

    def deliver(self, offset: int, count: int, frames: Sequence[Buffer]) -> None:
        self._call.arrived(self._start + offset, count, frames, sum(map(len, frames)) + WEIGHT)

    def settle(self, offset: int, count: int, found: Sequence[Buffer] | BaseException, size: int) -> None:
        self._call.arrived(self._start + offset, count, found, size)

    def fail(self, error: BaseException) -> None:
        self._call.fail(error)
