"""Runs a stage's task: a runner whose items are told of, and shown, by the numbers they have in their stage.

On the wire items have the numbers they have in the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from zpipe.core.spec import JobSpec
from zpipe.core.wire import Buffer, Chunk
from zpipe.running.allowed import Allowed
from zpipe.running.packing import take_number
from zpipe.running.reading import Unread
from zpipe.running.runner import Outcome, Runner
from zpipe.running.stopwatch import Stopwatch

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
        task: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(spec, worker, job, state, stopwatch, allowed, task)
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
        return [outcome.moved(-shift) for outcome in super().run(shown, frames)]

    def read(self, chunk: Chunk, frames: Sequence[Buffer]) -> tuple[Any, Unread, int]:
        """Return the items, which can't be read, and how far their numbers in the stage are from the chunk's."""
        first, frames = take_number(frames)
        shift = first + chunk.skip - chunk.start
        shown = msgspec.structs.replace(chunk, start=chunk.start + shift, stop=chunk.stop + shift)
        items, unread, _ = super().read(shown, frames)
        return items, unread, shift

    def cut(self) -> int:
        """Leave what has not been started; return the first such item's index in the job, 0 if there is none."""
        found = super().cut()
        return found and found - self._shift
