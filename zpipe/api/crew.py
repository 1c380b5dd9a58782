"""The worker processes of a script's pipeline: as many as it wants at the time. Must not know what they run."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from zpipe.net.keys import Keys
from zpipe.net.loop import Loop
from zpipe.nodes.config import Config
from zpipe.nodes.local import LocalSlots
from zpipe.nodes.started import Started, stdout

__all__ = ["Crew"]

GRACE = 1.0
"""Seconds they have to leave at the end before they are killed."""


class Crew:
    """None at first; `wanted` of them, with these labels, once it is started, or told of another number."""

    def __init__(
        self,
        wanted: int,
        heartbeat: float,
        keys: Keys | None,
        say: Callable[[str, bool], None],
        labels: Sequence[str] = (),
        started: Started | None = None,
    ) -> None:
        self.wanted, self._started = wanted, started
        self._labels = list(labels)
        self._heartbeat, self._keys, self._say = heartbeat, keys, say
        self._slots: LocalSlots | None = None
        self._orders: deque[int] = deque()

    def start(self, loop: Loop, url: str) -> None:
        """Have them connect to the ventilator at this address, and be looked after by this loop."""
        self._loop, self._url = loop, url
        self._set(self.wanted)

    def resize(self, workers: int) -> None:
        """Have another number of them from the next `obey` on; from any thread."""
        self._orders.append(workers)
        self.wanted = workers

    def obey(self) -> None:
        """Do what was ordered meanwhile."""
        while self._orders:
            self._set(self._orders.popleft())

    def _set(self, workers: int) -> None:
        if self._slots is not None:
            self._slots.resize(workers)
        elif workers:
            self._slots = LocalSlots(self._loop, self._config(workers), self._say, self._started)
            self._started = None

    def _config(self, workers: int) -> Config:
        authkey = b""
        if "multiprocessing.process" in sys.modules:
            authkey = bytes(sys.modules["multiprocessing.process"].current_process().authkey)
        return Config(
            self._url,
            workers,
            self._heartbeat,
            terse=True,
            stdout=stdout(),
            path=[entry or str(Path.cwd()) for entry in sys.path if isinstance(entry, str)],
            authkey=authkey,
            steady=True,
            keys=self._keys,
            labels=self._labels,
        )

    @property
    def ended(self) -> bool:
        """Whether some are wanted, and none will come any more."""
        return self._slots is not None and self._slots.ended and self.wanted > 0

    def stop(self, *, now: bool = False) -> None:
        """Have them leave, and wait until they have."""
        if self._slots is not None:
            self._slots.stop(0.0 if now else GRACE)

    def let_go(self) -> None:
        """In a forked child, let go of what keeps the parent's workers alive."""
        if self._slots is not None:
            self._slots.let_go()
