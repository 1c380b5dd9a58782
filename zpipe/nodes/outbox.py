"""Results on their way from a worker to the sink: small ones travel together, those that can't be brought are kept.

Decides nothing but when a message goes. Used by whoever holds the worker's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zpipe.core import coding, wire
from zpipe.core.intake import Intake
from zpipe.net import link
from zpipe.running.rowing import Row
from zpipe.running.settling import Outcome

__all__ = ["LOOK", "Outbox"]

LOOK = 0.005
"""Seconds that results are kept at most."""

KEPT, KEPT_BYTES = 64, 32_768
"""Results, and bytes of them, that are kept to travel together."""


class Outbox:
    """One worker's. `hurry` is called when a result is kept that somebody has to see to in time."""

    def __init__(self, intake: Intake, hurry: Callable[[], object]) -> None:
        self._intake, self._hurry = intake, hurry
        self.socket: Any = None
        """The one to the sink, while there is one."""
        self.kept: list[wire.Result] = []
        self._bytes = 0
        self._since = 0.0

    def look(self, row: Row | None, now: float) -> None:
        """Send what is done of a row under way, and what has been kept for long enough."""
        self.bring(row, now)
        if self.kept and now >= self._since + LOOK:
            self.flush()

    def put(self, result: wire.Result, frames: list[wire.Buffer], now: float, *, stands: bool, quick: bool) -> None:
        """Have a result sent: at once if no other is likely to follow soon (`quick`), else with those that do.

        Unless it `stands`, its lane was cut meanwhile and the chunk is another's; but if this comes first, it counts.
        """
        body = result.body
        if not stands:
            self.put_by(result.job, coding.encode(result, () if body is not None else frames))
        elif body is None:
            self.flush()
            self.send(coding.encode(result, frames), result.job)
        elif not (self.kept or self._intake.waiting):
            self.send(coding.encode(result), result.job)  # the only one, and likely waited for: no detour
        else:
            self.keep(result, len(body), now)
            full = len(self.kept) >= KEPT or self._bytes >= KEPT_BYTES or now >= self._since + LOOK
            if full or not quick or not self._intake.waiting:
                self.flush()
            else:
                self._hurry()

    def report(
        self, chunk: wire.Chunk, outcome: Outcome, seconds: float, welcome: wire.Welcome, now: float, *, quick: bool
    ) -> None:
        """Have sent what became of items of a chunk that came by the lane of this `welcome`, and took these seconds."""
        result = outcome.result(welcome, chunk.attempt, seconds, coding.inline(outcome.frames))
        self.put(result, outcome.frames, now, stands=self._intake.member.welcome is welcome, quick=quick)

    def bring(self, row: Row | None, now: float) -> None:
        """Send what is done of a row, which travels together."""
        for outcome, grains, seconds in row.take() if row is not None else ():
            assert row is not None
            welcome = row.tag
            if not grains:
                self.report(row.chunk, outcome, seconds, welcome, now, quick=True)
                continue
            result = outcome.result(welcome, row.chunk.attempt, seconds, None, grains)
            if self._intake.member.welcome is welcome:
                self.flush()
                self.send(coding.encode(result), result.job)
            else:
                self.put_by(result.job, coding.encode(result))

    def keep(self, result: wire.Result, size: int, now: float) -> None:
        """Have a small result, of `size` bytes, go with the next `flush`."""
        if not self.kept:
            self._since = now
        self.kept.append(result)
        self._bytes += size

    def flush(self) -> None:
        """Send the results that were kept."""
        if self.kept:
            kept, self.kept, self._bytes = self.kept, [], 0
            self.send(coding.encode(kept[0] if len(kept) == 1 else wire.Results(kept)), kept[0].job)

    def send(self, frames: list[wire.Buffer], job: str) -> None:
        """Send a message. Refused only when the sink's connection is gone, which its monitor is about to tell."""
        if self.socket is None or not link.send(self.socket, frames):
            self.put_by(job, frames)

    def put_by(self, job: str, frames: list[wire.Buffer]) -> None:
        """Keep a message to the sink until there is one."""
        self._intake.keep(job, frames, sum(memoryview(frame).nbytes for frame in frames))
