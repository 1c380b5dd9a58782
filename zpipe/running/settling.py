"""What becomes of items that were run: outcomes to be sent home, or another try.

The rule: an item that fails, fails alone, whatever it raised. On the way where nothing fails no Python of ours runs
per item. This file does not know what runs the task.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from zpipe.core import wire
from zpipe.core.spec import JobSpec
from zpipe.core.wire import Buffer, Chunk, Failure
from zpipe.errors import Expired, ItemTimeout, TaskError
from zpipe.running import keepsakes, outcomes, packing, records, tasks
from zpipe.running.awaitables import Awaiting, is_async, is_awaitable
from zpipe.running.failures import explain, spelled, too_long
from zpipe.running.joblog import Clock
from zpipe.running.retries import Rule

__all__ = ["Outcome", "Raised", "Settling"]

Raised = tuple[records.Error | BaseException, bool]
"""What an item failed with, and whether another try would not help."""

_NONE: list[bytes] = []


class Outcome(msgspec.Struct, frozen=True):
    """What became of items `[start, stop)` of a chunk.

    `frames` are the records or values, `failures` the failed items in order of index, `hit` the index of the item
    that ended the job. A failure's traceback is empty where the records have it. With `again` there is no outcome: the
    items failed, and are to be tried again in so many seconds. `log` are lines for the job log, if there is one, `kept`
    the outcomes one by one, if others may need them.
    """

    start: int
    stop: int
    frames: list[Buffer]
    failures: list[Failure] = []
    hit: int | None = None
    again: float | None = None
    log: bytes = b""
    kept: list[bytes] = []

    def moved(self, by: int) -> Outcome:
        """Return it with other numbers for its items, so much higher."""
        failures = [msgspec.structs.replace(failure, index=failure.index + by) for failure in self.failures]
        hit = None if self.hit is None else self.hit + by
        return msgspec.structs.replace(self, start=self.start + by, stop=self.stop + by, failures=failures, hit=hit)

    @property
    def plain(self) -> bool:
        """Whether its frames are all there is to tell."""
        return not (self.failures or self.log or self.kept) and self.hit is None and self.again is None

    def result(
        self, welcome: wire.Welcome, attempt: int, seconds: float, body: Any, grains: list[bytes] = _NONE
    ) -> wire.Result:
        """Return it as a sink is told of it, its frames inside if they are a `body`; the items took so many seconds.

        If it is of a row the frames are `grains`.
        """
        return wire.Result(
            welcome.job,
            welcome.lane,
            self.start,
            self.stop,
            attempt,
            seconds,
            self.failures,
            self.hit,
            self.again,
            body,
            self.log,
            self.kept,
            grains,
        )


class Settling:
    """Settles the items of a job. `worker` is who ran them. Raises TaskError.

    What was raised of the types `through` is nobody's failure, and is raised again.
    """

    through: tuple[type[BaseException], ...] = (Awaiting,)
    box: Callable[[list[Buffer], dict[int, BaseException]], list[Buffer]] | None = None
    """Puts exceptions beside the frames that tell of them, where they need not travel."""

    def __init__(self, spec: JobSpec, worker: str) -> None:
        self.spec = spec
        self._worker = worker
        self._whole = spec.encoding == "outcomes"
        self.clock = Clock(spec.task.name) if spec.joblog else None
        self._until: Callable[[Any], Any] | None = None
        if spec.until is not None:
            self._until = tasks.load(spec.until)
            if is_async(self._until):
                raise TaskError(f"--until {spec.until.name} is a coroutine function: name one that answers at once")
        elif spec.first:
            self._until = operator.truth
        self._rule = Rule(spec)
        self._tries = 0
        self._again: dict[int, float] = {}
        self._flat = False
        """Whether an item may have any number of results."""
        self._untried = True
        """Whether the task has not returned a value yet."""

    @property
    def seeks(self) -> bool:
        """Whether one of the values may end the job, and is waited for."""
        return self._until is not None

    def settle(self, tries: int, part: records.Batch, raised: dict[int, Raised]) -> list[Outcome]:
        """Return what became of items that ran elsewhere: `part` has their values, `raised` by index what failed.

        `tries` of them had failed before. Outcomes end behind an item that ends the job.
        """
        self._tries, self._again = tries, {}
        make: Callable[[records.Batch], Outcome] = self._packed if self._whole else partial(self._written, hit=None)
        if not raised and self._until is None:
            return self._parted(part, part.start + len(part.values), make)
        settled: list[Outcome] = []
        batch = records.Batch(part.start, part.items, attempt=part.attempt)
        for position, value in enumerate(part.values):
            index = part.start + position
            if index in raised:
                error, final = raised[index]
                self._fail(batch, error, final=final)
            elif self._ends(batch, value):
                settled += self._parted(batch, index + 1, partial(self._written, hit=index))
                batch = records.Batch(index + 1, part.items[position + 1 :], attempt=part.attempt)
                self._again = {}
        return settled + (self._parted(batch, batch.start + len(batch.values), make) if batch.values else [])

    def _ends(self, batch: records.Batch, value: Any) -> bool:
        """Add a value to a batch; return whether it ends the job."""
        if self._until is None:
            batch.values.append(value)
            return False
        try:
            ends = self._search([value], batch.values, self._until)
        except BaseException as error:  # noqa: BLE001 - the user's own function
            self._fail(batch, error)
            return False
        index = batch.start + len(batch.values) - 1
        if ends:
            self._encode(batch.only(index), index)
        return ends and index not in batch.errors

    def _fail(self, batch: records.Batch, error: records.Error | BaseException, *, final: bool = False) -> None:
        """Record that the item after those whose outcomes are known failed. `final`: another try would not help."""
        if isinstance(error, self.through):
            raise error
        if not final and isinstance(error, BaseException):
            after = self._rule.after(error, self._tries)
            if after is not None:
                self._again[batch.start + len(batch.values)] = after
        if isinstance(error, BaseException) and not self._whole:
            error = explain(error)
        batch.errors[batch.start + len(batch.values)] = error
        batch.values.append(None)

    def _try(self, values: list[Any]) -> None:
        """See by the first values of all whether they are to be awaited. Raises Awaiting if so."""
        self._untried = False
        if is_awaitable(values[-1]):
            raise Awaiting(values)

    def _search(self, results: Iterable[Any], values: list[Any], until: Callable[[Any], Any]) -> bool:
        """Gather results up to the first that satisfies `until`. True: there was one."""
        drop = self.spec.first and not self.spec.keep
        for value in results:
            if self._untried:
                self._try([*values, value])
            if until(value):
                values.append(value)
                return True
            values.append(None if drop else value)
        return False

    def _encode(self, batch: records.Batch, hit: int | None) -> list[Buffer]:
        shown = batch.only(hit) if self.spec.first else batch
        spec = self.spec
        wanted = (spec.encoding, spec.max_result, spec.task.kind == "command", spec.codec)
        if self._flat or spec.encoding == "packed":
            return packing.encode(shown, *wanted, flat=self._flat)
        return records.encode(shown, *wanted)

    def _written(self, part: records.Batch, hit: int | None) -> Outcome:
        stop = part.start + len(part.values)
        mine = hit if hit is not None and part.start <= hit < stop else None
        frames = self._encode(part, mine)
        log = self.clock.lines(part) if self.clock is not None else b""
        if why := too_long(frames, part):
            for index in range(part.start, stop):
                part.fail(index, explain(ValueError(why)))
            frames, mine = self._encode(part, None), None
        kept = self._kept(part) if self.spec.keep else []
        return Outcome(part.start, stop, frames, self._failures(part), mine, log=log, kept=kept)

    def _kept(self, part: records.Batch, pack: Callable[[Any], Any] | None = None) -> list[bytes]:
        errors = {index - part.start: error for index, error in part.errors.items()}
        return keepsakes.keep(part.values, errors, self.spec.keep, self.spec.codec, pack, flat=self._flat)

    def _parted(self, batch: records.Batch, stop: int, outcome: Callable[[records.Batch], Outcome]) -> list[Outcome]:
        """Return the outcomes of the items up to `stop`: those between any that are to be tried again, and these."""
        if not self._again:
            return [outcome(batch)]
        parted, at = [], batch.start
        for index in [*sorted(index for index in self._again if index < stop), stop]:
            if index > at:
                parted.append(outcome(batch.part(at, index)))
            if index < stop:
                parted.append(Outcome(index, index + 1, [b""], again=self._again[index]))
            at = index + 1
        return parted

    def _packed(self, part: records.Batch) -> Outcome:
        start, stop = part.start, part.start + len(part.values)
        errors = {index - start: error for index, error in part.errors.items()}
        if type(part.items) is list:
            part.items.clear()  # what a task hands back unchanged is then nobody's but the result's
        kept = self._kept(part, outcomes.pack) if self.spec.keep else []
        frames, failures = outcomes.encode(part.values, errors, start, self.spec.max_result, part.attempt)
        if why := too_long(frames, part):
            count = stop - start
            frames, failures = outcomes.encode([None] * count, dict.fromkeys(range(count), ValueError(why)), start)
        for failure in failures if kept else ():
            if failure.index - start not in errors:  # it can't be carried
                kept[failure.index - start] = b""
        return Outcome(start, stop, frames if self.box is None else self.box(frames, errors), failures, kept=kept)

    def _failures(self, batch: records.Batch) -> list[Failure]:
        if not batch.errors:
            return []
        spell = self.spec.first or self.spec.encoding not in {"json", "pickle"}  # else the record has it
        letters = self.spec.letters
        worker = batch.fate.worker if batch.fate is not None else self._worker
        return [
            Failure(
                index,
                error["type"],
                error["message"],
                spelled(error) if spell else "",
                records.letter(batch, index, error, worker, self.spec.stage) if letters else b"",
            )
            for index, error in sorted(batch.errors.items())
        ]

    def _doomed(self, chunk: Chunk) -> records.Error | BaseException:
        """Why a chunk's items are not to be run."""
        why = chunk.doom
        if chunk.late or chunk.expired:
            return ItemTimeout(why) if chunk.late else Expired(why)
        if not self._whole:
            return {"type": "WorkerLost", "message": why, "traceback": ""}
        from zpipe.broken import WorkerLost

        return WorkerLost(why)
