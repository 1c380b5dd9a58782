"""A source whose items claim something: each is looked at as it is read, and goes on with what it claims.

Knows no chunks and no workers. What is behind it is any source.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from zpipe import data, serialize
from zpipe.core import wire
from zpipe.core.claim import PLAIN, Claim
from zpipe.core.spec import ItemKind, JobSpec
from zpipe.core.wire import Buffer
from zpipe.errors import SourceError, WireError
from zpipe.input.sources import Batch, Source
from zpipe.running import reading
from zpipe.running.traces import message_text
from zpipe.schedule.claims import Claims
from zpipe.schedule.parked import Parked

__all__ = ["PlannedSource"]

TOGETHER = 1_000
"""Items that are looked at at once."""


class PlannedSource:
    """The items of `source`, for a job of this `spec`, those that follow each other with equal claims together."""

    def __init__(self, source: Source, claims: Claims, spec: JobSpec) -> None:
        self._source, self._claims, self._spec = source, claims, spec
        self._runs: deque[Batch] = deque()
        self._taken = 0
        self._error = ""

    @property
    def exhausted(self) -> bool:
        """Whether no item will ever come any more."""
        return not self._runs and not self._error and self._source.exhausted

    @property
    def exact(self) -> bool:
        """Whether `remaining()` is exact."""
        return self._source.exact

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        self._source.start(wake)

    def fileno(self) -> int | None:
        """Return the descriptor to wait on."""
        return self._source.fileno()

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` items with one claim, None if there is none now. Raises SourceError."""
        if not self._runs:
            if self._error:
                raise SourceError(self._error)
            batch = self._source.take(min(most, TOGETHER))
            if batch is None:
                return None
            self._look_at(batch)
            return self.take(most)
        run = self._runs.popleft()
        if run.count > most:
            assert isinstance(run.frames, Parked)
            items, pack = run.frames.items, run.frames.pack
            size = run.size * most // run.count
            self._runs.appendleft(_run(run.kind, items[most:], pack, run.claim, run.size - size))
            run = _run(run.kind, items[:most], pack, run.claim, size)
        self._taken += run.count
        return run

    def _look_at(self, batch: Batch) -> None:
        """Part a batch where claims differ."""
        spec, count = self._spec, batch.count
        items, pack = _opened(batch, spec)
        size = sum(map(len, batch.frames))
        now, wall = time.monotonic(), time.time()
        if not self._claims.varied:
            self._runs.append(_run(batch.kind, items, pack, self._claims.of(None, now, wall), size))
            return
        whole = wire.Chunk(self._taken, self._taken + count, 1, batch.kind)
        try:
            shown, unread = reading.read(spec, whole, batch.frames)
        except WireError as error:
            raise SourceError(str(error)) from error
        odd = {position for position, _ in unread}
        claims: list[Claim] = []
        try:
            claims.extend(PLAIN if n in odd else self._claims.of(item, now, wall) for n, item in enumerate(shown))
        except Exception as error:  # noqa: BLE001 - the user's own functions
            self._error = (
                f"what item {self._taken + len(claims)} claims can't be told: {type(error).__name__}: "
                f"{message_text(error)}. The items before it were taken: mend that, and run the job again"
            )
            self._source.close()
        at = 0
        for claim, same in groupby(claims):
            many = sum(1 for _ in same)
            self._runs.append(_run(batch.kind, items[at : at + many], pack, claim, size * many // count))
            at += many

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` items; return how many. Raises SourceError."""
        if self._runs or self._error:
            batch = self.take(most)
            return batch.count if batch is not None else 0
        skipped = self._source.skip(most)
        self._taken += skipped
        return skipped

    def remaining(self) -> int | None:
        """Return how many items were not taken yet, as far as known."""
        left = self._source.remaining()
        return None if left is None else left + sum(run.count for run in self._runs)

    def close(self) -> None:
        """Let go of the source."""
        self._runs.clear()
        self._error = ""
        self._source.close()


_Pack = Callable[[Sequence[Any]], list[Buffer]]


def _run(kind: ItemKind, items: Sequence[Any], pack: _Pack, claim: Claim | None, size: int) -> Batch:
    return Batch(len(items), kind, Parked(items, pack), claim=claim, size=size)


def _opened(batch: Batch, spec: JobSpec) -> tuple[Sequence[Any], _Pack]:
    """Return the items of a batch as they travel, and what makes a payload of some of them."""
    if batch.kind == "pickle":
        return serialize.loads(batch.frames), serialize.dumps
    if batch.kind == "msgpack":
        return data.load(batch.frames[0], "msgpack"), lambda items: [data.dump(list(items), "msgpack")]
    return bytes(batch.frames[0]).split(spec.separator), partial(_joined, spec.separator)


def _joined(separator: bytes, lines: Sequence[bytes]) -> list[Buffer]:
    return [separator.join(lines)]
