"""Chunks whose items run many at a time: which wait, which have ended, what of them is to be sent when.

The rule: a chunk's outcomes go out when the last is there; those that have waited for the others for a while go ahead,
as parts. Used by one thread. This file does not know what runs the items, nor where outcomes go.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from zpipe.core.wire import Buffer, Chunk
from zpipe.errors import ItemTimeout
from zpipe.running import records
from zpipe.running.awaitables import is_awaitable
from zpipe.running.runner import Runner
from zpipe.running.settling import Outcome, Raised

__all__ = ["Crowd", "Ended", "Run"]

PART = 0.05
"""Seconds for which outcomes wait at most for those of their chunk's other items."""


class Run:
    """A chunk to be begun, whose payload is `frames`. Raises WireError as a runner does.

    `rest`: the positions not begun, which another thread takes from the left. `shift`: by how much the numbers that
    items are shown by differ from the chunk's. `given`: what the task has returned already for some of them. `tag`:
    whatever whoever began it wants to know of it.
    """

    __slots__ = ("chunk", "found", "given", "items", "left", "rest", "runner", "sent", "shift", "tag")

    def __init__(
        self, runner: Runner, chunk: Chunk, frames: Sequence[Buffer], given: Sequence[Any] = (), tag: Any = None
    ) -> None:
        self.runner, self.chunk, self.tag = runner, chunk, tag
        self.items, unread, self.shift = runner.read(chunk, frames)
        self.given = {position: value for position, value in enumerate(given) if is_awaitable(value)}
        bad = {position for position, _ in unread}
        self.rest: deque[int] = deque(n for n in range(chunk.stop - chunk.start) if n not in bad)
        self.left = len(self.rest)
        """Items that have not ended."""
        self.found: dict[int, Ended] = {}
        """What has ended and is not settled."""
        for position, error in unread:
            self.found[position] = Ended(self, position, None, error, 0.0, 0.0, not isinstance(error, ItemTimeout))
        self.sent = time.monotonic()


class Ended(NamedTuple):
    """An item that has ended: with a value, or an error. It is charged `seconds`, and took longer.

    `final`: another try would not help.
    """

    run: Run
    position: int
    value: Any
    error: records.Error | BaseException | None
    seconds: float
    took: float
    final: bool = False


class Engine(Protocol):
    """What runs the items."""

    def begin(self, run: Run) -> None:
        """Have the items of a run begun as there is room."""

    def take(self) -> list[Ended]:
        """Return what has ended since the last call."""

    def cancel(self) -> None:
        """Cancel what runs; it has no outcome."""


Settled = tuple[Run, Outcome, float]
"""An outcome of a run, and the seconds that its items are charged."""


class Crowd:
    """The chunks under way on one `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._runs: dict[int, Run] = {}
        self._latest: Run | None = None
        self.left = 0
        """Items that have been taken on and not ended."""

    def begin(self, run: Run) -> None:
        """Take on another chunk."""
        self._runs[id(run)] = self._latest = run
        self.left += run.left
        if run.left:
            self._engine.begin(run)

    @property
    def full(self) -> bool:
        """Whether as many run, or wait to, as may run at a time."""
        return self._latest is not None and self.left >= self._latest.runner.width

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._runs)

    def has_others(self, tag: Any) -> bool:
        """Whether anything is under way that has another tag."""
        return any(run.tag is not tag for run in self._runs.values())

    def pass_on(self) -> None:
        """Another kind of chunk has been begun: the latest is not the crowd's any more."""
        self._latest = None

    def cut(self) -> int:
        """Leave those items of the latest chunk that have not been begun; return the first one's index, 0 if none."""
        run = self._latest
        first = self._leave(run, keep=True) if run is not None else 0
        return run.chunk.start + first if run is not None and first else 0

    def leave(self) -> None:
        """Begin nothing more of what is here."""
        for run in list(self._runs.values()):
            self._leave(run, keep=False)

    def _leave(self, run: Run, *, keep: bool) -> int:
        """Leave a run's items that have not been begun, but for its very first; return the first's position."""
        rest = run.rest
        kept = int(keep and bool(rest) and rest[0] == 0)  # a chunk without an item would have no outcome
        first = 0
        while len(rest) > kept:
            try:
                first = rest.pop()
            except IndexError:  # the last one was begun just now
                break
            run.left -= 1
            self.left -= 1
        if not (run.left or run.found):
            self._runs.pop(id(run), None)
        return first

    def drop(self) -> None:
        """Nobody wants what runs any more."""
        self._engine.cancel()
        self._engine.take()
        self._runs.clear()
        self._latest, self.left = None, 0

    def deadline(self) -> float | None:
        """When `gather` is next due for what has waited long enough."""
        return min((run.sent + PART for run in self._runs.values() if run.found), default=None)

    def gather(self, now: float) -> Iterator[Settled]:
        """Take what has ended; yield what is to be sent now."""
        for ended in self._engine.take():
            run = ended.run
            if id(run) in self._runs:  # else it was dropped
                run.found[ended.position] = ended
                run.left -= 1
                self.left -= 1
        for run in list(self._runs.values()):
            if not run.left:
                del self._runs[id(run)]
            elif not run.found or (now < run.sent + PART and not run.runner.seeks):
                continue
            run.sent = now
            for outcome, seconds in _settle(run):
                yield run, outcome, seconds


def _settle(run: Run) -> Iterator[tuple[Outcome, float]]:
    """Yield the outcomes of what has ended, row by row of items next to each other."""
    found, run.found = run.found, {}
    row: list[Ended] = []
    for position in sorted(found):
        if row and row[-1].position + 1 != position:
            yield from _settle_row(run, row)
            row = []
        row.append(found[position])
    if row:
        yield from _settle_row(run, row)


def _settle_row(run: Run, row: list[Ended]) -> Iterator[tuple[Outcome, float]]:
    runner, chunk = run.runner, run.chunk
    first, start = row[0].position, chunk.start + run.shift + row[0].position
    items = run.items[first : first + len(row)]
    raised: dict[int, Raised] = {}
    for index, ended in enumerate(row, start):
        if ended.error is not None:
            raised[index] = ended.error, ended.final
        if runner.clock is not None:
            runner.clock.note(index, time.time() - ended.took, ended.took, run.items[ended.position])
    batch = records.Batch(start, items, [ended.value for ended in row], attempt=chunk.attempt)
    seconds = [ended.seconds for ended in row]
    for outcome in runner.settle(chunk.tries, batch, raised):
        took = sum(seconds[outcome.start - start : outcome.stop - start])
        yield outcome.moved(-run.shift) if run.shift else outcome, took
