"""What `submit` returns: the standard's future, whose waiting thread may lend the pipeline a hand meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from typing import Any, Protocol, TypeVar

from zpipe.api.condition import Condition, Flag

__all__ = ["Hand", "PipelineFuture", "Waits"]

T = TypeVar("T")

_PENDING = Future[Any]()._state
_FINISHED = "FINISHED"
_OVER = frozenset({"CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"})


class Hand(Protocol):
    """Somebody to whom a thread that would only wait can be of help."""

    def lend(self, future: PipelineFuture[Any], timeout: float | None) -> None:
        """Help until the future is done, `timeout` seconds at most; or return at once, if no help is wanted."""

    def look(self) -> None:
        """Somebody wants to know of a future, and does not help."""

    def on_done(self, future: Future[Any]) -> object:
        """A future that somebody has helped for is done."""


class Waits(Protocol):
    """Where a future's call waits for its turn."""

    def on_cancelled(self, future: Any) -> None:
        """It is not wanted any more."""


class _Waiters(list[Any]):
    """Those that wait for several futures at once, as `concurrent.futures` has it: each by a flag of ours."""

    __slots__ = ()

    def append(self, waiter: Any) -> None:
        if type(waiter.event) is Event:
            waiter.event = Flag()
        super().append(waiter)


class PipelineFuture(Future[T]):
    """A future of the standard's. Its `hand`, to be set, is asked before a thread waits for it."""

    hand: Hand
    settled = False
    """Whether its outcome is about to be there, or is."""
    heard = False
    """Whether somebody's callback is to be called."""
    claim: Any = None
    """What it claims of a schedule, if it does."""
    since = 0.0
    """And since when."""
    waits: Waits | None = None
    """Where it waits for its turn, to be told if it is cancelled."""
    number = 0
    """Its call's, there."""
    _told = False
    _state: str

    def __init__(self) -> None:
        # What the standard's does, but for the condition: a script may have a million of these.
        self._condition = Condition()
        self._state = _PENDING
        self._result = None
        self._exception = None
        self._waiters = _Waiters()
        self._done_callbacks: list[Any] = []

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have `fn` called with the future once it is done."""
        self.heard = True
        super().add_done_callback(fn)
        self.hand.look()

    def done(self) -> bool:
        """Tell whether it has been cancelled or is finished."""
        if self.is_over():
            return True
        self.hand.look()
        return False

    def is_over(self) -> bool:
        """As `done`, for a hand to ask: it does not wait for whoever is just about to settle it."""
        return self._state in _OVER

    def cancel(self) -> bool:
        """Cancel the call unless a worker has it, or had it; return whether it is cancelled."""
        cancelled = super().cancel()
        if cancelled and self.waits is not None:
            self.waits.on_cancelled(self)
        return cancelled

    def tell(self) -> None:
        """Have the hand told once it is done."""
        if not self._told:
            self._told = True

    def _invoke_callbacks(self) -> None:
        if self._told:
            self.hand.on_done(self)
        if self._done_callbacks:
            super()._invoke_callbacks()  # type: ignore[misc]

    def result(self, timeout: float | None = None) -> T:
        """Return the result, waiting for it."""
        if not self.settled:
            timeout = self._help(timeout)
            if self._state == _FINISHED and self._exception is None:
                return self._result  # type: ignore[return-value]
        value = super().result(timeout)
        if self._exception is not None:  # one that is false: Python before 3.13.4 takes it for none
            try:
                raise self._exception
            finally:
                del self, value  # which the exception's traceback would keep
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what was raised, waiting for it."""
        return super().exception(timeout if self.settled else self._help(timeout))

    def _help(self, timeout: float | None) -> float | None:
        """Lend a hand for `timeout` seconds at most; return how many are left."""
        if timeout is None:
            self.hand.lend(self, None)
            return None
        if timeout <= 0:
            self.hand.look()
            return timeout
        end = time.monotonic() + timeout
        self.hand.lend(self, timeout)
        return max(0.0, end - time.monotonic())
