"""What a command's nodes run in: one loop with all that they share, the person's interrupts, and progress.

What a node decides is not known here.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from zpipe.net import link
from zpipe.net.access import Access
from zpipe.net.loop import Loop
from zpipe.net.security import Guard
from zpipe.report.progress import Progress, Snapshot

__all__ = ["Foreground"]

DRAINING = "finishing what is in flight; once more to stop now"


class _Interrupts:
    """Counts SIGINT, SIGTERM and SIGHUP while it is entered in the main thread; elsewhere signals are the caller's."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.count = 0
        self.handled = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:  # noqa: PYI034 - typing.Self came with Python 3.11
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            wanted = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]  # as nohup has it
            self._before = {n: signal.signal(n, self._on_signal) for n in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        self._loop.wake()
        if self.count - self.handled > 1:
            # The loop did not come round since the last one: it is held up in a write that nobody reads.
            raise KeyboardInterrupt


class Foreground:
    """The loop around one node or two, with what they share, until `stack` is unwound."""

    def __init__(self, stack: contextlib.ExitStack, progress: Progress, access: Access) -> None:
        self.progress, self.access = progress, access
        self.loop = Loop()
        stack.callback(self.loop.close)
        self.interrupts = stack.enter_context(_Interrupts(self.loop))
        self.context = link.make_context()
        stack.callback(self.context.destroy, 1000)
        self.guard = Guard(self.loop, self.context, access.keys, self.say)
        stack.callback(self.guard.close)
        self.began = time.monotonic()

    def begin(self) -> None:
        """The nodes are set up: time counts from here."""
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.began

    def say(self, text: str, error: bool) -> None:
        """Tell the person."""
        self.progress.say(text, error=error)

    def caution(self, bound: str) -> None:
        """Tell what a person should know who had a socket bound at `bound`."""
        text = self.access.caution(bound)
        if text:
            self.say(text, True)

    @property
    def key_note(self) -> str:
        """What is to be said behind command lines for other hosts; empty if nothing."""
        keys = self.access.keys
        return f" (on hosts that have the key, {keys.origin})" if keys is not None else ""

    @contextlib.contextmanager
    def shown(self, snapshot: Callable[[], Snapshot]) -> Iterator[None]:
        """Leave the terminal as it was, whatever happens in between."""
        try:
            yield
        finally:
            self.progress.close(snapshot())

    def turn(self, deadline: float | None, snapshot: Callable[[], Snapshot]) -> float:
        """Wait for the next event or deadline, show progress if due; return the time."""
        now = time.monotonic()
        show = self.progress.deadline(now)
        if show <= now:
            self.progress.update(snapshot(), now)
            show = self.progress.deadline(now)
        due = show if deadline is None else min(show, deadline)
        self.loop.turn(min(60.0, max(0.0, due - now)))
        return time.monotonic()

    def interrupted(self, drain: Callable[[], None], abort: Callable[[], None], told: str = DRAINING) -> None:
        """Act on the person's interrupts since the last call: the first drains, the second stops."""
        while self.interrupts.handled < self.interrupts.count:
            self.interrupts.handled += 1
            if self.interrupts.handled == 1:
                self.progress.say(f"interrupted: {told}", error=True)
                drain()
            else:
                abort()
