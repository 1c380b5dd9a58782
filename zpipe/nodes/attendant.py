"""The thread that is there while another runs the user's code: it hears what comes meanwhile. Knows no messages.

It is woken by what can be read from one descriptor, and by `ring`; and while it has something to see to, every now and
then. The other thread holds the one lock, but for the time in which the user's code runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable

__all__ = ["Attendant"]


class Attendant:
    """Calls `attend` with the `lock` held; for as long as that returns True, `every` so many seconds at least."""

    def __init__(self, lock: threading.Lock, attend: Callable[[], bool], every: float) -> None:
        self._lock, self._attend, self._every = lock, attend, every
        self._over = False
        self._hears, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._drowsy = True
        self._thread = threading.Thread(target=self._run, name="zpipe attendant", daemon=True)

    def start(self, fd: int) -> None:
        """Begin; `fd` is what comes by."""
        self._fd = fd
        self._thread.start()

    def ring(self) -> None:
        """Have it look at once. Safe from a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._bell, b"\0")

    def rouse(self) -> None:
        """Have it look from now and then, unless it does; the lock is held."""
        if self._drowsy:
            self._drowsy = False
            self.ring()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._hears, select.POLLIN)
        poll.register(self._fd, select.POLLIN)
        while not self._over:
            for fd, _ in poll.poll(None if self._drowsy else self._every * 1000):
                if fd == self._hears:
                    os.read(self._hears, 4096)
            with self._lock:
                self._drowsy = not self._attend()

    def close(self) -> None:
        """End it."""
        self._over = True
        self.ring()
        self._thread.join()
        os.close(self._hears)
        os.close(self._bell)
