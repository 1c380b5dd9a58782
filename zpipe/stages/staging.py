"""How a job in stages is put together: its source, its tasks and what its sink writes to are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from zpipe import data, serialize
from zpipe.core.claim import Limits, Schedule
from zpipe.core.spec import Codec, JobSpec
from zpipe.errors import UsageError
from zpipe.input.sources import Source
from zpipe.net.loop import Loop
from zpipe.output.landing import Landing
from zpipe.report.summary import StageCount, Summary
from zpipe.stages.flow import Flow, StagePlan
from zpipe.stages.journal import StageTables
from zpipe.stages.outlet import StageOutlet

if TYPE_CHECKING:
    from zpipe.nodes.sifting import Plan
    from zpipe.output.journal import Journal

__all__ = ["Staging", "read_letters"]


class Staging:
    """The stages of a job, as `plans`. `again` are items that later stages begin with, by the stage's number."""

    scheduled = False
    """Whether what goes next is chosen; then so are items of all stages."""

    def __init__(self, plans: Sequence[StagePlan], again: Mapping[int, Sequence[Any]] | None = None) -> None:
        self._plans = plans
        self._again = again or {}

    @property
    def wants_schedule(self) -> bool:
        """Whether a stage has settings that take a schedule."""
        return any(plan.scheduled for plan in self._plans)

    @property
    def requires(self) -> frozenset[str]:
        """What some stage requires of workers."""
        return frozenset(label for plan in self._plans for label in plan.requires)

    def follow(self, schedule: Schedule) -> Schedule:
        """What goes next is chosen from now on; return by what. `schedule` has what the first stage is held to."""
        self.scheduled = True
        first = Limits(schedule.rate, schedule.max_in_flight)
        tasks = []
        for number, plan in enumerate(self._plans, 1):
            own, given = plan.limits, first if number == 1 else Limits()
            limits = Limits(own.rate or given.rate, own.max_in_flight or given.max_in_flight, plan.most or None)
            if limits != Limits():
                tasks.append((number, limits))
        return msgspec.structs.replace(schedule, rate=None, max_in_flight=None, tasks=tuple(tasks))

    @property
    def unique(self) -> list[bool]:
        """Of which stages equal items are run once."""
        return [plan.unique for plan in self._plans]

    @property
    def cached(self) -> list[bool]:
        """Which stages a cache is for, if the job has one."""
        return [plan.cached for plan in self._plans]

    @property
    def specs(self) -> list[JobSpec]:
        """What workers are told of each stage."""
        return [plan.spec for plan in self._plans]

    def outlet(
        self,
        loop: Loop,
        source: Source,
        landing: Landing,
        *,
        plan: Plan | None = None,
    ) -> StageOutlet:
        """Return what the sink writes to, with the `flow` of all stages' items; `source` gives the first one's.

        Raises UsageError for a journal that can't be gone on with.
        """
        plans, recorder = [], landing.recorder
        for number, stage in enumerate(self._plans, 1):
            spec = msgspec.structs.replace(
                stage.spec,
                encoding=landing.output.encoding if number == len(self._plans) else "packed",
                letters=landing.wants_letters,
                joblog=landing.wants_joblog,
                keep=stage.spec.max_result if plan is not None and plan.spares(number) else 0,
            )
            plans.append(msgspec.structs.replace(stage, spec=spec))
        flow = Flow(loop, plans, source, ordered=landing.ordered, scheduled=self.scheduled)
        fresh = recorder is None or not (recorder.journal.staged or recorder.journal.done.count)
        tables = StageTables(recorder.journal) if recorder is not None else None
        made = StageOutlet(flow, landing, tables)
        if fresh:  # else the journal has them
            codec = self._plans[0].spec.codec
            for number, items in self._again.items():
                outputs = [_dump(item, codec) for item in items]
                first = flow.preload(number, outputs)
                if tables is not None:
                    tables.begin_with(number, first, outputs)
        return made

    def finished(self, summary: Summary, journal: Journal) -> Summary:
        """Return the summary of a job that the journal has all of; `summary` is of its last stage."""
        failed = dict(journal.read("SELECT stage, failed FROM stage"))
        counts = [
            StageCount(plan.name, journal.staged.get(number, summary.done), failed.get(number, summary.failed))
            for number, plan in enumerate(self._plans, 1)
        ]
        done = counts[0].done
        every = sum(stage.failed for stage in counts)
        return msgspec.structs.replace(summary, done=done, before=done, total=done, failed=every, stages=counts)


def _dump(item: Any, codec: Codec) -> bytes:
    return serialize.dump_whole(item) if codec == "pickle" else data.dump(item, codec)


class _Letter(msgspec.Struct):
    item: Any
    stage: int = 1
    repr: str | None = None


def read_letters(path: str, stages: int) -> dict[int, list[Any]]:
    """Return the items of the dead letters in a file by the stage they failed in. Raises UsageError."""
    found: dict[int, list[Any]] = {number: [] for number in range(1, stages + 1)}
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                letter = _decoder.decode(line)
                if letter.repr is not None:
                    raise UsageError(
                        f"line {number} of {path} has an item that JSON can't hold; give it in another way"
                    )
                if letter.stage not in found:
                    raise UsageError(
                        f"line {number} of {path} is of stage {letter.stage}, and this job has {stages}: give the "
                        "stages of the job that wrote it"
                    )
                found[letter.stage].append(letter.item)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}; check the path") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"line {number} of {path} is no dead letter: {error}") from None
    return found


_decoder = msgspec.json.Decoder(_Letter)
