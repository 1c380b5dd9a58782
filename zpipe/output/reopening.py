"""A finished job's failed items become ones that are not done, and what was written of them goes.

The output itself stays as it is until the new one is whole: what it has of the others is copied next to it first.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import msgspec

from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Buffer, Result
from zpipe.errors import UsageError
from zpipe.output import deadletters
from zpipe.output.journal import Journal
from zpipe.output.mark import Mark
from zpipe.output.outputs import FileOutput, is_stdout
from zpipe.output.partials import is_direct

__all__ = ["reopen"]


class _Record(msgspec.Struct):
    index: int
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_record = msgspec.json.Decoder(_Record)


def reopen(path: str) -> None:
    """Have the dead letters of the finished job whose journal is at `path` run again when it is gone on with.

    This process is in the job's folder. Raises UsageError when there are none, or their places can't be found again.
    """
    with contextlib.closing(Journal(path)) as journal:
        given, marks = journal.origin.given, dict(journal.state.marks)
        stages = 1 + len(given.get("then") or ())
        by_stage = deadletters.by_stage((number for number, _ in journal.letters), stages)
        _check(journal, sum(map(len, by_stage.values())))
        failed = by_stage.pop(stages, [])
        lines = given["format_"] == "json" and not given["raw"] and not _is_fold(given)
        if "output" in marks:
            marks["output"] = _copy(given["output"], failed if lines else [])
        if "letters" in marks:
            marks["letters"] = Mark(0, 0)
        state = msgspec.structs.replace(journal.state, failed=0, marks=marks, stage="open")
        if by_stage:
            state = msgspec.structs.replace(state, total=None)  # what comes of them is the last one's, too
        moves = {}
        for result, payload in journal.kept():
            mine = failed[bisect_left(failed, result.start) : bisect_left(failed, result.stop)]
            if mine:
                moves[result.start] = _without(result, payload, mine, lines)
        staged = {number: _less(_done(journal, number), items) for number, items in by_stage.items()}

        def also(run: Callable[..., Any], many: Callable[..., Any]) -> None:
            for number, ranges in staged.items():
                run("DELETE FROM stage_done WHERE stage = ?", (number,))
                many("INSERT INTO stage_done VALUES (?, ?, ?)", [(number, *pair) for pair in ranges])
                run("UPDATE stage SET failed = 0 WHERE stage = ?", (number,))

        journal.reopen(state, _less(journal.done, failed), moves, also)


def _done(journal: Journal, stage: int) -> RangeSet:
    return RangeSet(journal.read("SELECT start, stop FROM stage_done WHERE stage = ? ORDER BY start", (stage,)))


def _check(journal: Journal, failed: int) -> None:
    given, path = journal.origin.given, shlex.quote(journal.path)
    if not journal.finished:
        raise UsageError(f"the job of {path} is not finished: go on with it first (zpipe resume {path})")
    if not failed:
        raise UsageError(f"no item of {path} has failed: there is nothing to run again")
    if journal.origin.command != "run":
        _refuse(path, "its items are read elsewhere, by a ventilator")
    if given["ordered"]:
        _refuse(path, "its results are in order, and those of the failed items would come behind all others")
    if given["format_"] == "pickle":
        _refuse(path, "what is in an output of pickles of which item can't be told without loading them")
    if journal.state.hit is not None:
        _refuse(path, "it was a search, which has found what it looked for")
    output = given["output"]
    if output is not None and not _is_fold(given) and not is_stdout(output) and not is_direct(output):
        mark = journal.state.marks["output"]
        with contextlib.suppress(OSError), open(output, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == mark.size and Mark.of(file.fileno(), size) == mark:
                return
        raise UsageError(f"{output} is not what the job of {path} wrote: it is gone, or was changed since; put it back")


def _is_fold(given: dict[str, Any]) -> bool:
    return given["reduce_"] is not None or given["group_by"] is not None


def _refuse(path: str, why: str) -> NoReturn:
    raise UsageError(
        f"the failed items of {path} can't be run again in place: {why}. Run them as a job of their own: "
        f"zpipe journal export --failed {path} > failed.jsonl, then the job's command with --resubmit failed.jsonl "
        "and another --output"
    )


def _copy(path: str, failed: list[int]) -> Mark:
    """Begin a file's successor with its records but those of the failed items; return how far that is."""
    made = FileOutput(path, "raw")
    with open(path, "rb") as file:
        if failed:
            for line in _others(file, failed):
                made.write([line])
        else:
            while data := file.read(1 << 20):
                made.write([data])
    found = made.mark()
    made.sync()
    made.abandon()
    return found


def _others(lines: Any, failed: list[int]) -> Iterator[bytes]:
    """Yield the lines that are not the error of one of these items."""
    gone = set(failed)
    for line in lines:
        if b'"error":' in line:
            record = _record.decode(line)
            if record.error is not msgspec.UNSET and record.index in gone:
                continue
        yield line


def _without(
    result: Result, payload: Sequence[Buffer], failed: list[int], lines: bool
) -> tuple[Result, Sequence[Buffer]] | None:
    """Return a kept result as one of its first item that did not fail, None if there is none."""
    gone = set(failed)
    start = next((index for index in range(result.start, result.stop) if index not in gone), None)
    if start is None:
        return None
    if lines:
        payload = [b"".join(_others(b"".join(payload).splitlines(keepends=True), failed))]
    return msgspec.structs.replace(result, start=start, failures=[]), payload


def _less(done: RangeSet, failed: list[int]) -> RangeSet:
    """Return what is done but for these items."""
    left = RangeSet()
    for start, stop in done:
        edges = [start - 1, *failed[bisect_left(failed, start) : bisect_left(failed, stop)], stop]
        for before, after in pairwise(edges):
            if before + 1 < after:
                left.add(before + 1, after)
    return left
