"""How a job ended: the counts, as a line for a person, an object for a program, and an exit status.

One rule: everything that is told about a finished job is told from here, so that the three never disagree.
This file must not know how the counts came about, nor where the line is shown.
"""

from __future__ import annotations

import msgspec

from zpipe.report.progress import rate_text

__all__ = ["StageCount", "Summary"]

DONE, FAILED, INTERRUPTED = 0, 1, 130


class StageCount(msgspec.Struct, frozen=True):
    """Of one stage: what to call it, how many items are done, and how many of them failed."""

    name: str
    done: int
    failed: int

    @property
    def text(self) -> str:
        """What a person is told of it."""
        return f"{self.name} {self.done:,}{f' ({self.failed:,} failed)' if self.failed else ''}"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    `done` counts the items whose outcome was received, `failed` those of them that are dead letters, `total` all
    items of the job (None: the source was not read to its end). `seconds` is how long it took, `items_per_second`
    the mean; `before` of those done were so when it was resumed. `workers` ever joined and `lost` of them went without
    leave; `requeued` chunks were sent again, `retried` tries of items failed and were made again, and `duplicates`
    results were dropped. So were `strays`, of other jobs or of what was never sent. `unowned` results counted although
    another worker had their chunk by then. `cached` items had their outcome from the cache, `repeated` from another
    item of the job. `copies` of slow chunks were run, and `copies_won` of them were done first. `hit` is the index
    of the item that ended the job, `error` why it could not be done ("" when it could) and `status` that error's exit
    status. `closed`: whoever read the results has gone. `note` says where the output is.
    In a job of `stages` the items are those of the first one, and `failed` counts those of all.
    """

    done: int
    before: int = 0
    failed: int = 0
    total: int | None = None
    seconds: float = 0.0
    items_per_second: float = 0.0
    workers: int = 0
    lost: int = 0
    requeued: int = 0
    retried: int = 0
    duplicates: int = 0
    strays: int = 0
    unowned: int = 0
    cached: int = 0
    repeated: int = 0
    copies: int = 0
    copies_won: int = 0
    hit: int | None = None
    interrupted: bool = False
    error: str = ""
    status: int = FAILED
    closed: bool = False
    note: str = ""
    stages: list[StageCount] = []

    @property
    def exit_status(self) -> int:
        """130 when interrupted, 1 when an item failed, is missing, or the job did; 0 when all is done."""
        if self.interrupted:
            return INTERRUPTED
        missing = self.hit is None and self.total is not None and self.done < self.total
        if self.error:
            return self.status
        return FAILED if self.failed or missing else DONE

    def line(self) -> str:
        """Return the one line that tells a person all this, "zpipe: " ahead of it and no newline behind."""
        if self.before == self.done > 0 and not self.error:
            failed = f", {self.failed:,} failed" if self.failed else ""
            return f"zpipe: {self._count()}, all of them before{failed}"
        parts = [f"{self._count()} in {self.seconds:,.1f} s ({rate_text(self.items_per_second)} items/s)"]
        if self.before:
            parts.append(f"{self.before:,} of them before")
        if self.cached:
            parts.append(f"{self.cached:,} from the cache")
        if self.repeated:
            parts.append(f"{self.repeated:,} like another")
        if self.hit is not None:
            parts.append(f"ended by item {self.hit:,}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.retried:
            parts.append(f"{self.retried:,} tried again")
        mishaps = [
            (self.lost, "worker", "lost"),
            (self.requeued, "chunk", "sent again"),
            (self.strays, "stray result", "dropped"),
            (self.copies, "slow chunk", "run twice"),
        ]
        parts += [f"{count:,} {what}{'s' * (count != 1)} {befell}" for count, what, befell in mishaps if count]
        parts += [stage.text for stage in self.stages]
        text = ", ".join(parts)
        if self.error:
            text = f"{text}: {self.error.splitlines()[0]}"
        return f"zpipe: {self._verdict()}{text}{f'; {self.note}' if self.note else ''}"

    def json(self) -> bytes:
        """Return one JSON object of what became of the job, and `exit_status`, on one line with no newline behind."""
        told = msgspec.structs.asdict(self)
        del told["status"], told["closed"]  # what they are for, exit_status says
        if not self.stages:
            del told["stages"]
        return msgspec.json.encode({**told, "exit_status": self.exit_status})

    def _verdict(self) -> str:
        if self.interrupted:
            return "interrupted: "
        return "failed: " if self.error else ""

    def _count(self) -> str:
        whole = self.total is None or self.done >= self.total
        of = "" if whole else f" of {self.total:,}"
        one = (self.done if whole else self.total) == 1
        return f"{self.done:,}{of} item{'' if one else 's'} done"
