"""`Pool`: multiprocessing.Pool's interface on a pipeline, for code that moves over by changing an import.

What differs: items of `imap` are pulled as results are taken, some way ahead, so that an endless iterable is fine;
chunks are sized by the workers' own timings unless `chunksize` is given; functions need not be importable; and what is
pending when a pool is terminated fails with `zpipe.BrokenPipeline`, where a `get` would otherwise wait for ever.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeoutError
from functools import partial
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import Any, cast

from zpipe.api.condition import Flag
from zpipe.api.exits import INTERRUPTED
from zpipe.api.maps import MapCall
from zpipe.api.pipeline import Pipeline
from zpipe.api.results import unpacked
from zpipe.core.spec import Call
from zpipe.core.wire import Buffer

__all__ = ["AsyncResult", "IMapIterator", "Pool"]

_LOG = logging.getLogger("concurrent.futures.zpipe")

_Callback = Callable[[Any], object]


class Pool:
    """Runs functions in `processes` worker processes (None: one a core), as multiprocessing.Pool does.

    initializer, initargs: called once in each worker. maxtasksperchild: items (not chunks, as there) after which a
    process is replaced by a fresh one. Leaving it as a context manager terminates it. Raises ValueError for numbers
    below one.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._pipe = Pipeline(
            processes, initializer=initializer, initargs=tuple(initargs), max_tasks_per_worker=maxtasksperchild
        )
        self._closed = False
        self._streams: weakref.WeakSet[MapCall] = weakref.WeakSet()

    # single calls

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> Any:
        """Return `func(*args, **kwds)`, called in a worker."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: _Callback | None = None,
        error_callback: _Callback | None = None,
    ) -> AsyncResult:
        """Have `func(*args, **kwds)` called in a worker. One of the callbacks is then called."""
        self._check()
        result = AsyncResult(callback, error_callback)
        self._pipe.submit(func, *args, **(kwds or {})).add_done_callback(result.settle_by)
        return result

    # many calls

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Return the list of `func`'s results. All items are run; then the first failed one's exception is raised."""
        return cast("list[Any]", self.map_async(func, iterable, chunksize).get())

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: _Callback | None = None,
        error_callback: _Callback | None = None,
    ) -> AsyncResult:
        """As `map`, without waiting: the result's `get` gives the list."""
        return self._gather(func, iterable, "one", chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with each item the arguments of a call."""
        return cast("list[Any]", self.starmap_async(func, iterable, chunksize).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: _Callback | None = None,
        error_callback: _Callback | None = None,
    ) -> AsyncResult:
        """As `starmap`, without waiting: the result's `get` gives the list."""
        return self._gather(func, iterable, "star", chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> IMapIterator:
        """Return an iterator of `func`'s results in the items' order, which may be endless."""
        return self._stream(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> IMapIterator:
        """As `imap`, the results in the order they come."""
        return self._stream(func, iterable, chunksize, ordered=False)

    def _gather(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        call: Call,
        chunksize: int | None,
        callback: _Callback | None,
        error_callback: _Callback | None,
    ) -> AsyncResult:
        self._check()
        items: Any = iterable if type(iterable) in (list, tuple, range) else list(iterable)
        result = AsyncResult(callback, error_callback)
        self._pipe.start_map(
            func, items, call, chunksize=chunksize, pull=False, kind=partial(_Gathering, result, len(items))
        )
        if not items:
            result.settle([], None)
        return result

    def _stream(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None, *, ordered: bool
    ) -> IMapIterator:
        self._check()
        call = self._pipe.start_map(func, iterable, chunksize=chunksize, ordered=ordered)
        self._streams.add(call)
        return IMapIterator(self, call)

    # the end

    def close(self) -> None:
        """Take nothing more; what was given is run. The processes end once that is done and `join` is called."""
        self._closed = True

    def terminate(self) -> None:
        """End the processes, whatever they run, and fail what is pending."""
        self._closed = True
        for call in list(self._streams):
            call.close()
        self._pipe._engine.abort(INTERRUPTED)
        self._pipe.shutdown(wait=True)

    def join(self) -> None:
        """Wait until everything has been run and the processes have ended. Raises ValueError before `close`."""
        if not self._closed:
            raise ValueError("Pool is still running")
        for call in list(self._streams):  # somebody may take their results later
            call.pull(whole=True)
        self._pipe.shutdown(wait=True)

    def _check(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def __enter__(self) -> Pool:  # noqa: PYI034 - typing.Self is of Python 3.11
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


class AsyncResult:
    """What becomes of a call. `callback` or `error_callback` is called ahead of `get`'s return, by any thread."""

    def __init__(self, callback: _Callback | None, error_callback: _Callback | None) -> None:
        self._callback, self._error_callback = callback, error_callback
        self._there = Flag()
        self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Take the outcome, the first one there is."""
        if self._settled:
            return
        self._settled = True
        self._value, self._error = value, error
        call = self._callback if error is None else self._error_callback
        self._callback = self._error_callback = None
        try:
            if call is not None:
                call(value if error is None else error)
        except BaseException:  # noqa: BLE001 - the script's own code
            _LOG.exception("a result's callback failed")
        finally:
            self._there.set()

    def settle_by(self, future: Future[Any]) -> None:
        """Take the outcome of a future that is done."""
        error = future.exception()
        self.settle(None if error is not None else future.result(), error)

    def ready(self) -> bool:
        """Tell whether the outcome is there."""
        return self._there.is_set()

    def successful(self) -> bool:
        """Tell whether nothing was raised. Raises ValueError while that is not known."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the outcome, `timeout` seconds at most."""
        self._there.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, or raise what was raised. After `timeout` seconds raises multiprocessing.TimeoutError."""
        if not self._there.wait(timeout):
            raise PoolTimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class IMapIterator:
    """The results of an `imap`, in which `next` takes a timeout."""

    def __init__(self, pool: Pool, call: MapCall) -> None:
        self._pool = pool  # which lives as long as it is iterated
        self._call = call
        self._values: Iterator[Any] = iter(())

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result. After `timeout` seconds raises multiprocessing.TimeoutError."""
        while True:
            for value in self._values:
                return value
            try:
                entry = self._call.next(timeout)
            except FuturesTimeoutError:
                if timeout is None:
                    raise
                raise PoolTimeoutError from None
            if entry is None:
                raise StopIteration
            self._values = unpacked(*entry, "raise")

    def __del__(self) -> None:
        if self._call.started:
            self._call.close()
        else:
            self._call.abandon()


class _Gathering(MapCall):
    """A map whose results end up in one list: the pipeline's thread puts them there."""

    def __init__(self, result: AsyncResult, count: int, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._result, self._left = result, count
        self._values: list[Any] = []
        self._failed: BaseException | None = None

    def arrived(self, start: int, count: int, found: Sequence[Buffer] | BaseException, size: int) -> None:
        """The outcomes of items from the `start`-th on are here."""
        super().arrived(start, count, found, size)
        while self._ready and self._left:
            entry = self.next(0)
            assert entry is not None
            self._gather(*entry)
            if not self._left:
                self._result.settle(self._values, self._failed)

    def _gather(self, count: int, found: Sequence[Buffer] | BaseException) -> None:
        self._left -= count
        if self._failed is None:
            try:
                self._values.extend(unpacked(count, found, "raise"))
            except BaseException as error:  # noqa: BLE001 - the item's own
                self._failed = error

    def fail(self, error: BaseException) -> None:
        """Nothing more will come."""
        super().fail(error)
        self._result.settle(None, error)
