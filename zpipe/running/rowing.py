"""Runs a row: chunks of one size that came together, each as if it had come alone.

One thread runs them; another may meanwhile take what is done, and leave what has not been begun. This file does not
know where rows come from, nor where outcomes go.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from zpipe.core import coding, wire
from zpipe.core.grains import grains_of
from zpipe.running.runner import Outcome, Runner

__all__ = ["Row"]


class Row:
    """A row under way, which came by the lane of `tag`."""

    def __init__(self, chunk: wire.Chunk, tag: Any) -> None:
        self.chunk, self.tag = chunk, tag
        self._left = deque(grains_of(chunk))
        self._first = self._left.popleft()
        self._now = self._first
        self._done: deque[bytes | list[Outcome]] = deque()
        """What has become of each grain run, until it is taken: where all went well and is small, the frame alone."""
        self._at = chunk.start
        self._since = self._ended = time.monotonic()

    def run(self, runner: Runner) -> list[Outcome]:
        """Run one after another; return nothing, it is for `take`. Raises what `Runner.run` does, `rest` not run."""
        chunk, left, done, clock, grain = self.chunk, self._left, self._done, time.monotonic, self._first
        single = chunk.grain == 1 and runner.takes_single(chunk)
        while True:
            self._now = grain
            start, stop, skip, body = grain
            outcome = runner.run_single(start, chunk, body) if single else None
            if outcome is None:
                outcome = self._run(runner, start, stop, skip, body)
            done.append(outcome)
            del outcome  # it may be large, and gone home while the next is run
            self._ended = clock()
            try:
                grain = left.popleft()
            except IndexError:
                return []

    def _run(self, runner: Runner, start: int, stop: int, skip: int, body: bytes) -> bytes | list[Outcome]:
        chunk = self.chunk
        alone = wire.Chunk(start, stop, chunk.attempt, chunk.items, chunk.task, skip, tries=chunk.tries)
        outcomes = runner.run(alone, (body,))
        first = outcomes[0]
        whole = len(outcomes) == 1 and first.stop - first.start == chunk.grain
        frame = coding.inline(first.frames) if whole and first.plain else None
        return outcomes if frame is None else bytes(frame)

    @property
    def rest(self) -> wire.Chunk:
        """What was being run, and what has not been begun, as a row."""
        grains = [self._now, *self._left]
        bodies = [body for _, _, _, body in grains]
        start, _, skip, _ = self._now
        return msgspec.structs.replace(self.chunk, start=start, stop=grains[-1][1], skip=skip, grains=bodies)

    def cut(self) -> int:
        """Leave what has not been begun, but the very first; return the index of its first item, 0 if there is none."""
        left, first = self._left, 0
        with contextlib.suppress(IndexError):  # the last one may be begun at any moment
            while True:
                first = left.pop()[0]
        return first

    def take(self) -> Iterator[tuple[Outcome, list[bytes], float]]:
        """Yield what is done and has not been taken, and the seconds that it took.

        Outcomes of grains that follow each other are one, with a frame for each; of any other there are no frames.
        """
        done = self._done
        new = deque(done.popleft() for _ in range(len(done)))  # one by one, as more may come meanwhile
        each = (self._ended - self._since) / len(new) if new else 0.0
        self._since = self._ended
        bodies: list[bytes] = []
        while new:
            found = new.popleft()  # and nobody's once it is sent: it may be large
            if type(found) is bytes:
                bodies.append(found)
                continue
            assert not isinstance(found, bytes)
            yield from self._gathered(bodies, each)
            bodies = []
            for outcome in found:
                yield outcome, [], each / len(found)
            self._at = found[-1].stop
        yield from self._gathered(bodies, each)

    def _gathered(self, bodies: list[bytes], each: float) -> Iterator[tuple[Outcome, list[bytes], float]]:
        if bodies:
            start, self._at = self._at, self._at + self.chunk.grain * len(bodies)
            yield Outcome(start, self._at, []), bodies, each * len(bodies)
