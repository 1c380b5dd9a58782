"""The iterator that a script takes a map's results from, at C speed: its chunks, unpickled in the script's own thread.

The rule: no result is held once it has been handed out, except of many small ones, which are let go of chunk by chunk;
and a failed item fails where it stands, the others after it can still be taken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FuturesTimeoutError
from functools import partial
from itertools import chain, repeat
from typing import Any, Literal, TypeVar

from zpipe.api.chains import LinkedCall, decoded, runs
from zpipe.api.groups import Groups
from zpipe.api.maps import MapCall
from zpipe.running.listed import Chosen, Listed

__all__ = ["OnError", "Results", "check_on_error"]

MANY = 1_000
"""So many results of one chunk are handed out as they are, which takes half the time."""

SMALL = 1 << 20
"""Bytes up to which their pickle weighs nothing that anybody would want back before the last is handed out."""

OnError = Literal["raise", "skip", "collect"]
"""What becomes of a failed item: its exception is raised, it is left out, or its exception stands for its value."""

T = TypeVar("T")
U = TypeVar("U")
K = TypeVar("K")

Start = Callable[..., MapCall]
"""Begins a map over results, as `Pipeline.start_map` does."""


class Results(chain[T]):
    """The results of a map. Each `next` waits for the next one; see `Pipeline.map`.

    `close()` drops what has not been run; so does leaving it as a context manager, and letting go of one from which
    something was taken. One from which nothing was ever taken runs to its end unseen. One thread may take from it at a
    time.
    """

    _chunks: _Chunks

    @staticmethod
    def _chain(*_: Any) -> Any:
        raise TypeError("there is no stage behind these results: call map of a pipeline's own")

    @classmethod
    def of(
        cls,
        call: MapCall,
        on_error: OnError,
        timeout: float | None,
        start: Start | None = None,
        *,
        ordered: bool = True,
        flat: bool = False,
    ) -> Results[T]:
        """Return the results of a call; `timeout`: seconds from now in which they must come.

        `start` begins a map over them, `ordered` unless that one is told otherwise. `flat`: each value is a list of
        results.
        """
        chunks = _Chunks(call, on_error, timeout, flat)
        made: Any = cls.from_iterable(chunks)
        made._chunks = chunks
        if start is not None:
            made._chain = partial(_chained, chunks, start, ordered)
        results: Results[T] = made
        return results

    def map(
        self,
        fn: Callable[[T], U],
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool | None = None,
        on_error: OnError | None = None,
    ) -> Results[U]:
        """Return `fn`'s results over these, which nobody else takes from then on: the next stage, as they come.

        All stages have the same workers, by turns. Each goes as far ahead of the next one as `Pipeline.map` does of
        whoever takes its results, so memory is bounded. What is not given is as it was for these results. An item that
        fails here or before is passed over by later stages, and comes out at its place as `on_error` has it.
        """
        made: Results[U] = self._chain(self, fn, False, timeout, chunksize, buffersize, ordered, on_error)
        return made

    def flat_map(
        self,
        fn: Callable[[T], Iterable[U]],
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool | None = None,
        on_error: OnError | None = None,
    ) -> Results[U]:
        """As `map`, with all that `fn` returns or yields for an item, in its place: none, one or many.

        If `fn` raises, what it had yielded for that item is dropped.
        """
        made: Results[U] = self._chain(self, Listed(fn), True, timeout, chunksize, buffersize, ordered, on_error)
        return made

    def filter(
        self,
        fn: Callable[[T], object],
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool | None = None,
        on_error: OnError | None = None,
    ) -> Results[T]:
        """Return those of these results for which `fn`, called in the workers, is true; else as `map`."""
        made: Results[T] = self._chain(self, Chosen(fn), True, timeout, chunksize, buffersize, ordered, on_error)
        return made

    def group_by(self, key: Callable[[T], K]) -> Groups[K, T]:
        """Return these results by what `key`, called here, returns for each: to be reduced, or as lists."""
        return Groups(self, key)

    def close(self) -> None:
        """Drop what has not been run; nothing more comes."""
        self._chunks.close()

    def __enter__(self) -> Results[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        chunks = getattr(self, "_chunks", None)
        if chunks is not None:
            chunks.let_go()


class _Chunks:
    """The chunks' values, an iterator each."""

    def __init__(self, call: MapCall, on_error: OnError, timeout: float | None, flat: bool = False) -> None:
        self.call, self.flat = call, flat
        self.on_error = on_error
        self.passed_on = False
        """Whether a later stage takes them."""
        self._end = None if timeout is None else time.monotonic() + timeout
        self._inner: Iterator[Any] = iter(())
        self._busy = threading.Lock()

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Iterator[Any]:
        if self.passed_on:
            return _PASSED_ON
        if not self._busy.acquire(blocking=False):
            return _BUSY  # raised here, it would end the iteration for the one who waits, too
        try:
            entry = self.call.next(self.left)
        except FuturesTimeoutError:
            self.call.close()
            raise
        finally:
            self._busy.release()
        if entry is None:
            raise StopIteration
        count, found = entry
        values, errors = decoded(count, found, flat=self.flat)
        if count < self.call.few:
            self._add_more(values, errors)
        self._inner = handed_out(values, errors, self.on_error, held=_is_light(count, found))
        return self._inner

    def _add_more(self, values: list[Any], errors: dict[int, BaseException]) -> None:
        """Add what else is there, if that came in small chunks: each by itself takes much longer."""
        call = self.call
        while (left := call.few - len(values)) > 0 and (entry := call.another(left)) is not None:
            more, faults = decoded(*entry, flat=self.flat)
            for position, error in faults.items():
                errors[len(values) + position] = error
            values += more

    @property
    def left(self) -> float | None:
        """Seconds in which the results must come, from now; None: any number."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def parts(self, count: int, found: Any) -> Iterator[list[Any] | BaseException]:
        """Yield what has come, as runs of values and the exceptions between them: for the next stage."""
        values, errors = decoded(count, found, flat=self.flat)
        if errors and self.on_error == "skip":
            values, errors = [value for position, value in enumerate(values) if position not in errors], {}
        return runs(values, errors)

    def rest(self) -> Iterator[list[Any] | BaseException]:
        """Yield what is left of the chunk from which somebody has taken some."""
        while True:
            values: list[Any] = []
            try:
                values.extend(self._inner)
            except Exception as error:  # noqa: BLE001 - that of an item
                yield values
                yield error
            else:
                yield values
                return

    def close(self) -> None:
        if self.passed_on:
            return
        self.call.close()
        if isinstance(self._inner, _Raising):
            self._inner.close()
        deque(self._inner, maxlen=0)

    def let_go(self) -> None:
        if self.passed_on:
            return
        if self.call.started:
            self.call.close()
        else:
            self.call.abandon()


class _Refusal:
    """Turns away whoever asks for results that are another's."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __iter__(self) -> _Refusal:
        return self

    def __next__(self) -> Any:
        raise ValueError(self._why)


_BUSY = _Refusal("these results are being waited for already: let one thread take them")
_PASSED_ON = _Refusal("these results go to a later stage: take that one's")


def _chained(
    chunks: _Chunks,
    start: Start,
    ordered: bool,
    made: Results[Any],
    fn: Callable[..., Any],
    flat: bool,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    in_order: bool | None,
    on_error: OnError | None,
) -> Results[Any]:
    """Return the results of `fn` over the results `made` of a stage."""
    if on_error is not None:
        check_on_error(on_error)
    if chunks.passed_on:
        raise ValueError("these results go to a later stage already: go on from that one's")
    in_order = ordered if in_order is None else in_order
    kind = partial(LinkedCall, chunks)
    if timeout is None:
        timeout = chunks.left
    call = start(fn, made, chunksize=chunksize, buffersize=buffersize, ordered=in_order, kind=kind)
    chunks.passed_on = True
    return Results.of(call, on_error or chunks.on_error, timeout, start, ordered=in_order, flat=flat)


def check_on_error(on_error: str) -> None:
    """Raise ValueError unless it is one of the three."""
    if on_error not in ("raise", "skip", "collect"):
        raise ValueError(f"on_error must be 'raise', 'skip' or 'collect', not {on_error!r}")


def unpacked(count: int, found: Any, on_error: OnError, *, flat: bool = False) -> Iterator[Any]:
    """Return the outcomes of a chunk as an iterator that lets go of each as it hands it out, unless they are small."""
    return handed_out(*decoded(count, found, flat=flat), on_error, held=_is_light(count, found))


def _is_light(count: int, found: Any) -> bool:
    return count >= MANY and not isinstance(found, BaseException) and len(found) == 1 and len(found[0]) <= SMALL


def handed_out(
    values: list[Any], errors: dict[int, BaseException], on_error: OnError, *, held: bool = False
) -> Iterator[Any]:
    """Return an iterator of values with exceptions among them. It lets go of each value, unless all may be `held`."""
    if errors:
        if on_error == "raise":
            return _Raising(values, errors)
        for position, error in errors.items():
            values[position] = error
        if on_error == "skip":
            values = [value for position, value in enumerate(values) if position not in errors]
    elif held:
        return iter(values)
    values.reverse()
    pop: Callable[[list[Any]], Any] = list.pop
    return map(pop, repeat(values, len(values)))


class _Raising:
    """Values with exceptions among them, which are raised at their place."""

    def __init__(self, values: list[Any], errors: dict[int, BaseException]) -> None:
        self._at = 0
        self._count = len(values)
        values.reverse()
        self._values, self._errors = values, errors

    def close(self) -> None:
        self._count = 0
        self._values.clear()

    def __iter__(self) -> _Raising:
        return self

    def __next__(self) -> Any:
        if self._at >= self._count:
            raise StopIteration
        position = self._at
        self._at += 1
        value, error = self._values.pop(), self._errors.pop(position, None)
        if error is None:
            return value
        try:
            if isinstance(error, StopIteration):  # which would be the end of all results
                raise RuntimeError("pickling an item or its result raised StopIteration") from error
            raise error
        finally:
            del error  # or its traceback would hold it in a cycle
