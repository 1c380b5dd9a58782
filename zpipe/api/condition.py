"""A condition and a flag that whoever waits for them leaves whole, wherever a signal's handler strikes that thread.

Python runs handlers between two instructions of the main thread, and they raise. The standard's condition is entered
and left by functions of Python's: struck in there, the lock stays taken for ever, and whoever is to tell waits for it.

The rule: a lock is taken, or given up, by a call of C's that is itself the `with`, or the first in a `try`. Handlers
run after such a call, never between it and the block; what undoes it is one as well.
"""

from __future__ import annotations

import contextlib
import threading
from _thread import allocate_lock
from threading import get_ident
from typing import Any

from zpipe.api.held import Held, is_main

__all__ = ["Condition", "Flag"]

_Lock: Any = type(threading.RLock())


class Condition(_Lock, threading.Condition):  # type: ignore[misc]
    """A condition that is its own lock, a third as large as one that has one. To be entered once before `wait`.

    `acquire` and `release` are for those who take many at once, as `concurrent.futures.wait` does: signals are held
    back meanwhile.
    """

    _lock = property(lambda self: self)

    def __init__(self) -> None:
        self._waiters: list[Any] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until somebody notifies, `timeout` s at most; return whether somebody did."""
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        let_go, take, seconds = self._release_save, self._acquire_restore, -1 if timeout is None else max(0.0, timeout)
        mine = 1, get_ident()
        told = False
        try:
            let_go()
            told = waiter.acquire(True, seconds)
        finally:
            take(mine)
            if not told:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
        return told

    def notify_all(self) -> None:
        """Wake all who wait."""
        if self._waiters:
            super().notify_all()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, with signals held back until what was so taken is released."""
        _many.add()
        taken: bool = super().acquire(blocking, timeout)
        if not taken:
            _many.drop()
        return taken

    def release(self) -> None:
        """Give up what `acquire` has taken."""
        super().release()
        _many.drop()


class _Many:
    """Holds signals back in the main thread while that has locks which it took one by one."""

    def __init__(self) -> None:
        self._held, self._count = Held(), 0

    def add(self) -> None:
        """There is about to be one more."""
        if is_main():
            if not self._count:
                self._held = Held()
                self._held.__enter__()
            self._count += 1

    def drop(self) -> None:
        """There is one less."""
        if is_main() and self._count:
            self._count -= 1
            if not self._count:
                self._held.__exit__()


_many = _Many()


class Flag:
    """As `threading.Event`."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._is_set = False

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Have it set."""
        with self._condition:
            self._is_set = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Have it set no more."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, `timeout` s at most; return whether it is."""
        with self._condition:
            if not self._is_set:
                self._condition.wait(timeout)
            return self._is_set
