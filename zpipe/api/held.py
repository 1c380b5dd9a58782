"""Signals whose handlers are held back while the main thread does what must not be left half done.

Python runs a signal's handler in the main thread, between any two instructions of it, and handlers raise: the one for
Ctrl-C does. A thread of ours is spared that; a caller's that lends a hand is not. The rule: a handler is held back, not
lost. It runs, with its signal raised anew, as soon as what was under way is done.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module `signal` makes an enum of each handler, which takes ten times as long
import os
import signal
import threading
from collections.abc import Callable
from threading import get_ident
from types import FrameType, MethodType
from typing import Any

__all__ = ["Held", "is_main"]

_SIGNALS = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")]
"""Those that people write handlers for. One that raises out of any other ends the pipeline that it strikes."""


class Held:
    """Holds signals back, in the main thread, inside `with`. `ring` is called when one has come.

    Not to be entered again before it was left, by the same object. Who is struck while entering or leaving may leave
    some of its own handlers behind: outside, these do what the true ones do.
    """

    def __init__(self, ring: Callable[[], object] = lambda: None) -> None:
        self.came: list[int] = []
        """The signals that have come, and wait."""
        self._ring = ring
        self._handlers: dict[int, Any] = {}
        self._owner = 0
        """The main thread, while it is inside."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._owner == _main:
            self.came.append(number)
            self._ring()
        else:
            self._handlers[number](number, frame)

    def __enter__(self) -> Held:  # noqa: PYI034 - typing.Self is of Python 3.11
        if (me := get_ident()) == _main:
            try:
                for number, handler in zip(_SIGNALS, map(_signal.getsignal, _SIGNALS)):  # noqa: B905 - it takes time
                    if handler.__class__ is not int and callable(handler):
                        true = _true(handler, number) if handler.__class__ is MethodType else handler
                        _holding[number] = self._handlers[number] = true
                        _signal.signal(number, self._note)
            except BaseException:
                self._put_back()
                raise
            self._owner = me
        return self

    def __exit__(self, *_: object) -> None:
        if self._handlers:
            try:
                self._put_back()
            finally:
                if self.came:
                    self._raise()

    def _put_back(self) -> None:
        try:
            self._owner = 0
            for number, handler in self._handlers.items():
                if _signal.getsignal(number) == self._note:
                    _signal.signal(number, handler)
                _holding.pop(number, None)
        except BaseException:  # one that is back already has raised
            self._put_back()
            raise

    def _raise(self) -> None:
        came, self.came = self.came, []
        _raise_all(came)


def _true(handler: Any, number: int) -> Any:
    """Return what the user has set, if this is one of ours that was left behind."""
    while isinstance(handler, MethodType) and isinstance(held := handler.__self__, Held) and held._owner != _main:
        handler = held._handlers[number]
    return handler


def _raise_all(came: list[int]) -> None:
    while came:
        try:
            signal.raise_signal(came[-1])
        finally:
            del came[-1]
            _raise_all(came)


def is_main() -> bool:
    """Whether this is the thread in which Python runs handlers."""
    return get_ident() == _main


_holding: dict[int, Any] = {}
"""The handlers that are held back now."""

_main = threading.main_thread().ident


def _in_child() -> None:
    """A forked child has no thread that would put them back, and the one that forked is its main thread."""
    global _main  # noqa: PLW0603 - asking for it takes longer than all else
    _main = get_ident()
    for number, handler in _holding.items():
        _signal.signal(number, handler)
    _holding.clear()


os.register_at_fork(after_in_child=_in_child)
