"""What coroutines can ask of a pipeline, or of one as it is seen by calls that claim something: awaited in a loop.

The rule: the loop never waits. The pipeline's thread rings when something is there, once however much it is, and the
loop then takes what there is.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from contextlib import aclosing
from functools import partial, reduce
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zpipe.api.calls import MISSING
from zpipe.api.maps import MapCall
from zpipe.api.results import OnError, check_on_error, unpacked
from zpipe.core.wire import Buffer
from zpipe.running.probing import probe

if TYPE_CHECKING:
    from zpipe.api.options import Options
    from zpipe.api.pipeline import Pipeline

__all__ = ["AsyncCalls", "Door"]

T = TypeVar("T")

BREATH = 512
"""Items handed out, or pulled, in one go at most: then other tasks of the loop have their turn."""

_Chunk = tuple[int, "Sequence[Buffer] | BaseException"]


class AsyncCalls(ABC):
    """What is asked of `_pipe`, in the event loop behind `_door`."""

    _door: Door

    @property
    @abstractmethod
    def _pipe(self) -> Pipeline | Options:
        """Whose workers run it."""

    async def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Have `fn(*args, **kwargs)` called in a worker and return its result.

        Cancelling whoever awaits it cancels the call, if no worker has it yet. Raises what the call raises, and what
        `Pipeline.submit` does.
        """
        future = self._pipe.submit(fn, *args, **kwargs)
        if not future.done():
            there: asyncio.Future[None] = self._door.loop.create_future()
            future.add_done_callback(lambda _: self._door.ring(partial(_arrive, there)))
            try:
                await there
            except asyncio.CancelledError:
                future.cancel()
                raise
        try:
            return future.result()
        except FutureCancelled:
            raise asyncio.CancelledError from None
        finally:
            del future  # its exception's traceback holds this frame

    async def map(
        self,
        fn: Callable[[Any], T],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        on_error: OnError = "raise",
    ) -> AsyncGenerator[T, None]:
        """Give `fn`'s results over the items of a plain or an asynchronous iterable, which may be endless.

        It begins with the first `anext`. Items are pulled in the event loop, some way ahead: `buffersize` at most
        beyond those whose results were taken, else as many as keep the workers busy. `aclose()`, or breaking out of
        the loop over it, drops what has not been sent, and so does an item's exception, unless `on_error` has it
        skipped or collected. The other arguments, and what is raised, are those of `Pipeline.map`.
        """
        check_on_error(on_error)
        async with aclosing(self._chunks(fn, items, chunksize, buffersize, ordered)) as chunks:
            async for count, found in chunks:
                values = unpacked(count, found, on_error)
                for value in islice(values, BREATH):
                    yield value
                for _ in range(BREATH, count, BREATH):
                    await asyncio.sleep(0)
                    for value in islice(values, BREATH):
                        yield value

    async def reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any] | AsyncIterable[Any],
        op: Callable[[Any, Any], Any],
        initial: Any = MISSING,
        *,
        ordered: bool = True,
        chunksize: int | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Fold `fn`'s results with `op`, a plain function that is called in the event loop; see `Pipeline.reduce`."""
        check_on_error(on_error)
        folded = initial
        async with aclosing(self._chunks(fn, items, chunksize, None, ordered)) as chunks:
            async for count, found in chunks:
                values = unpacked(count, found, on_error)
                folded = reduce(op, values, next(values, MISSING) if folded is MISSING else folded)
        if folded is MISSING:
            raise TypeError("reduce() of no results with no initial value")
        return folded

    async def first(
        self,
        fn: Callable[[Any], T],
        items: Iterable[Any] | AsyncIterable[Any],
        predicate: Callable[[T], object] = bool,
        *,
        default: Any = MISSING,
        ordered: bool = False,
        chunksize: int | None = None,
    ) -> T:
        """Return the first of `fn`'s results that satisfies `predicate`, called in a worker; see `Pipeline.first`."""
        async with aclosing(self._chunks(partial(probe, fn, predicate), items, chunksize, None, ordered)) as chunks:
            async for count, found in chunks:
                for value in chain.from_iterable(unpacked(count, found, "raise")):
                    return cast("T", value)
        if default is MISSING:
            raise LookupError("no result satisfies the predicate; give a default to have that instead")
        return cast("T", default)

    async def _chunks(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> AsyncGenerator[_Chunk, None]:
        """Give the chunks' outcomes as they come."""
        source = items if isinstance(items, AsyncIterable) else None
        call = cast(
            "_Call",
            self._pipe.start_map(
                fn,
                iter(()) if source is not None else cast("Iterable[Any]", items),
                chunksize=chunksize,
                buffersize=buffersize,
                ordered=ordered,
                pull=False,
                kind=partial(_Call, door=self._door, fed=source is not None),
            ),
        )
        feeding = asyncio.ensure_future(call.feed(source)) if source is not None else None
        handed = 0
        try:
            while True:
                while not call.look():
                    handed = 0
                    await call.bell.wait()
                entry = call.next()
                if entry is None:
                    return
                yield entry
                handed += entry[0]
                if handed >= BREATH:
                    handed = 0
                    await asyncio.sleep(0)
        finally:
            call.close()
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


class Door:
    """Where the pipeline's thread rings for the event loop: however often it rings, the loop is woken once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._rung = False

    def ring(self, call: Callable[[], object]) -> None:
        """Have this called in the event loop; nothing is once the loop has been closed. From any thread."""
        self._calls.append(call)
        if not self._rung:
            self._rung = True
            try:
                self.loop.call_soon_threadsafe(self._open)
            except RuntimeError:  # the loop was closed, and with it whoever waited
                self._calls.clear()

    def _open(self) -> None:
        self._rung = False
        for _ in range(len(self._calls)):
            self._calls.popleft()()


class _Call(MapCall):
    """A map whose results a coroutine takes. `fed`: items are put in by `feed`, as they come."""

    def __init__(self, *given: Any, door: Door, fed: bool, **options: Any) -> None:
        super().__init__(*given, **options)
        self.started = True
        self._door, self._fed = door, fed
        self.bell = asyncio.Event()
        self._room_again = asyncio.Event()

    # the pipeline's thread

    def arrived(self, start: int, count: int, found: Sequence[Buffer] | BaseException, size: int) -> None:
        """The outcomes of items from the `start`-th on are here."""
        super().arrived(start, count, found, size)
        if self._ready:
            self._door.ring(self.bell.set)

    def fail(self, error: BaseException) -> None:
        """Nothing more will come."""
        super().fail(error)
        self._door.ring(self.bell.set)

    # the event loop's thread

    def look(self) -> bool:
        """Pull items, and tell whether `next` would return at once."""
        self.bell.clear()
        self._returned = self._taken
        if self._fed:
            self._room_again.set()
        else:
            self.pull()
        if self._bound is not None:
            self._wake()
        return self.poll()

    def pull(self, whole: bool = False) -> None:
        """Put items in, unless they are fed."""
        if not self._fed:
            super().pull(whole)

    def cut(self, error: BaseException) -> None:
        """Pull no more."""
        super().cut(error)
        self._door.ring(self.bell.set)

    async def feed(self, source: AsyncIterable[Any]) -> None:
        """Put in what `source` gives, as soon as it has no more at once, and no more than there is room for."""
        block: list[Any] = []
        loop, space = self._door.loop, 0
        try:
            async for item in source:
                if not block:
                    loop.call_soon(self._put, block)  # it has its turn when the source waits, at the latest
                    space = self._space()
                block.append(item)
                if len(block) >= space:
                    self._put(block)
                    await asyncio.sleep(0)
                    while self._space() <= 0:
                        self._room_again.clear()
                        await self._room_again.wait()
            self._put(block)
            self._iterator = None
        except BaseException as error:
            self._put(block)
            self.cut(error)
            raise
        finally:
            self._wake()
            self.bell.set()

    def _space(self) -> int:
        return min(BREATH, self._room(self.size))

    def _put(self, block: list[Any]) -> None:
        self.put_in(block.copy())
        block.clear()


def _arrive(there: asyncio.Future[None]) -> None:
    if not there.done():
        there.set_result(None)
