"""Runs a stage's task: a runner whose items are told of, and shown, by the numbers they have in their stage.

On the wire items have the numbers they have in the job.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zpipe.allowed import Allowed
from zpipe.core.wire import Buffer, Chunk, JobSpec
from zpipe.packing import take_number
from zpipe.runner import Outcome, Runner
from zpipe.stopwatch import Stopwatch

__all__ = ["StageRunner"]


class StageRunner(Runner):
    """A stage's task, loaded. As any runner otherwise. Raises TaskError."""

    def __init__(
        self,
        spec: JobSpec,
        worker: str = "",
        job: str = "",
        state: dict[str, object] | None = None,
        stopwatch: Stopwatch | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        super().__init__(spec, worker, job, state, stopwatch, allowed)
        self._stopwatch = stopwatch
        self._shift = 0

    def run(self, chunk: Chunk, frames: Sequence[Buffer]) -> list[Outcome]:
        """Run a chunk, ahead of whose payload is the number that the payload's first item has in its stage.

        Raises WireError when the frames don't hold that number and those items.
        """
        first, frames = take_number(frames)
        shift = self._shift = first + chunk.skip - chunk.start
        if self._stopwatch is not None:
            self._stopwatch.shift = shift
        shown = msgspec.structs.replace(chunk, start=chunk.start + shift, stop=chunk.stop + shift)
        return [_moved(outcome, -shift) for outcome in super().run(shown, frames)]

    def cut(self) -> int:
        """Leave what has not been started; return the first such item's index in the job, 0 if there is none."""
        found = super().cut()
        return found and found - self._shift


def _moved(outcome: Outcome, by: int) -> Outcome:
    failures = [msgspec.structs.replace(failure, index=failure.index + by) for failure in outcome.failures]
    hit = None if outcome.hit is None else outcome.hit + by
    return msgspec.structs.replace(
        outcome, start=outcome.start + by, stop=outcome.stop + by, failures=failures, hit=hit
    )
