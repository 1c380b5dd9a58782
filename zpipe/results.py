"""The iterator that a script takes a map's results from, at C speed: its chunks, unpickled in the script's own thread.

The rule: no result is held once it has been handed out, except of many small ones, which are let go of chunk by chunk;
and a failed item fails where it stands, the others after it can still be taken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FuturesTimeoutError
from itertools import chain, repeat
from typing import Any, Literal, TypeVar

from zpipe import outcomes
from zpipe.maps import MapCall

__all__ = ["OnError", "Results"]

MANY = 1_000
"""So many results of one chunk are handed out as they are, which takes half the time."""

SMALL = 1 << 20
"""Bytes up to which their pickle weighs nothing that anybody would want back before the last is handed out."""

OnError = Literal["raise", "skip", "collect"]
"""What becomes of a failed item: its exception is raised, it is left out, or its exception stands for its value."""

T = TypeVar("T")


class Results(chain[T]):
    """The results of a map. Each `next` waits for the next one; see `Pipeline.map`.

    `close()` drops what has not been run; so does leaving it as a context manager, and letting go of one from which
    something was taken. One from which nothing was ever taken runs to its end unseen. One thread may take from it at a
    time.
    """

    _chunks: _Chunks

    @classmethod
    def of(cls, call: MapCall, on_error: OnError, timeout: float | None) -> Results[T]:
        """Return the results of a call; `timeout`: seconds from now in which they must come."""
        chunks = _Chunks(call, on_error, timeout)
        made: Any = cls.from_iterable(chunks)
        made._chunks = chunks
        results: Results[T] = made
        return results

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

    def __init__(self, call: MapCall, on_error: OnError, timeout: float | None) -> None:
        self.call = call
        self._on_error = on_error
        self._end = None if timeout is None else time.monotonic() + timeout
        self._inner: Iterator[Any] = iter(())
        self._busy = threading.Lock()

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Iterator[Any]:
        if not self._busy.acquire(blocking=False):
            return _BUSY  # raised here, it would end the iteration for the one who waits, too
        try:
            entry = self.call.next(None if self._end is None else max(0.0, self._end - time.monotonic()))
        except FuturesTimeoutError:
            self.call.close()
            raise
        finally:
            self._busy.release()
        if entry is None:
            raise StopIteration
        self._inner = unpacked(*entry, self._on_error)
        return self._inner

    def close(self) -> None:
        self.call.close()
        if isinstance(self._inner, _Raising):
            self._inner.close()
        deque(self._inner, maxlen=0)

    def let_go(self) -> None:
        if self.call.started:
            self.call.close()
        else:
            self.call.abandon()


class _Busy:
    """Turns away whoever asks for results while another thread waits for them."""

    def __iter__(self) -> _Busy:
        return self

    def __next__(self) -> Any:
        raise ValueError("these results are being waited for already: let one thread take them")


_BUSY = _Busy()


def unpacked(count: int, found: Any, on_error: OnError) -> Iterator[Any]:
    """Return the outcomes of a chunk as an iterator that lets go of each as it hands it out, unless they are small."""
    values: list[Any]
    if isinstance(found, BaseException):
        values, errors = [None] * count, dict.fromkeys(range(count), found)
    else:
        values, errors = outcomes.decode(found, count)
    if errors:
        if on_error == "raise":
            return _Raising(values, errors)
        for position, error in errors.items():
            values[position] = error
        if on_error == "skip":
            values = [value for position, value in enumerate(values) if position not in errors]
    if not errors and count >= MANY and len(found) == 1 and len(found[0]) <= SMALL:
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
            raise error
        finally:
            del error  # or its traceback would hold it in a cycle
