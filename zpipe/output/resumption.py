"""What a journal means to a command: whether it is of the very job that was asked for, and where its files are.

One rule: a job is gone on with exactly, or not at all. Whatever differs in a way that would show in the output is
refused, by name; how many workers there are, how large chunks are, or how often an item is tried again does not.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable
from typing import Any

import msgspec

import zpipe
from zpipe.core.fingerprint import differences
from zpipe.errors import UsageError
from zpipe.output import outputs, partials
from zpipe.output.folds import Fold, FoldOutput
from zpipe.output.journal import Journal, Origin
from zpipe.output.mark import Mark

__all__ = ["export", "open_journal", "open_output", "origin_of", "recorded", "shown"]


def open_journal(
    path: str, fingerprint: dict[str, str], shown: dict[str, str], command: str, given: dict[str, Any], line: list[str]
) -> Journal:
    """Return the journal at `path` for a job, which it begins unless it is of that job already.

    `fingerprint` tells the job from others (empty: it is not known yet), `shown` how and where results go, option by
    option. `command` with its options `given`, typed as `line`, is what goes on with it. Raises UsageError when it is
    of another job, in use, or no journal.
    """
    journal = Journal(path)
    try:
        origin = journal.origin
        if origin.command and (journal.done.count or journal.staged or journal.state.stage != "open"):
            _check_same(journal, fingerprint, shown)
            return journal
        typed = origin.line if origin.command and line[1:2] == ["resume"] else shlex.join(line)
        journal.begin(
            Origin(
                fingerprint=fingerprint,
                outputs=shown,
                command=command,
                given=given,
                folder=os.getcwd(),  # noqa: PTH109 - a text, as it is told and kept
                line=typed,
                version=zpipe.__version__,
                began=time.time(),
            )
        )
    except UnicodeEncodeError as error:
        journal.close()
        raise UsageError(
            f"the journal {path} can't hold the name {error.object!a}, whose bytes are no UTF-8: rename that file"
        ) from None
    except BaseException:
        journal.close()
        raise
    return journal


def _check_same(journal: Journal, fingerprint: dict[str, str], shown: dict[str, str]) -> None:
    origin = journal.origin
    theirs = {**(origin.fingerprint if fingerprint else {}), **origin.outputs}
    differing = differences(theirs, {**fingerprint, **shown})
    if differing:
        raise UsageError(
            f"the journal {journal.path} is of another job: {differing}. Give the command it was begun with, or "
            f"`zpipe resume {shlex.quote(journal.path)}`, which does; or name another --journal for this job"
        )


def open_output(
    journal: Journal, name: str, path: str | None, format_: outputs.Format, fold: Fold | None = None
) -> outputs.Output:
    """Return an output of the journal's job, brought to where the journal has it. `name` is what it is for.

    Raises UsageError when that can't be: its file is gone, or not what it was.
    """
    state = journal.state
    mark = state.marks.get(name)
    if state.stage == "open" or path is None or outputs.is_stdout(path) or partials.is_direct(path):
        return _open(path, format_, fold, mark)
    if mark is None:
        if journal.finished and os.path.exists(path):  # noqa: PTH110 - as it was typed
            standing = outputs.NoOutput(format_)
            return standing if fold is None else fold.into(standing)
    elif partials.stands(path, mark, final=journal.finished):
        return outputs.NoOutput(format_)
    elif journal.finished:
        raise UsageError(
            f"the job of the journal {journal.path} is finished, but {path} is not what it wrote: it is gone, or was "
            "changed since. Put it back, or run the job anew with another --journal"
        )
    return _open(path, format_, fold, mark)


def _open(path: str | None, format_: outputs.Format, fold: Fold | None, mark: Mark | None = None) -> outputs.Output:
    target = outputs.open_output(path, format_, mark)
    return target if fold is None else fold.into(target)


def origin_of(path: str) -> Origin:
    """Return what the journal at `path` is of. Raises UsageError."""
    with contextlib.closing(_read(path)) as journal:
        return journal.origin


def _read(path: str) -> Journal:
    journal = Journal(path, reading=True)
    if not journal.origin.command:
        journal.close()
        raise UsageError(f"no job has used {path} as its journal yet; nothing is lost with it")
    return journal


def shown(path: str, *, as_json: bool) -> str:
    """Return what the journal at `path` tells, as lines for a person or one JSON object. Raises UsageError."""
    with contextlib.closing(_read(path)) as journal:
        origin, state = journal.origin, journal.state
        done = sum(
            min(stop, state.limit or stop) - start for start, stop in journal.done if start < (state.limit or stop)
        )
        if as_json:
            told = {
                "job": origin.job, "command": origin.line, "folder": origin.folder, "version": origin.version,
                "stage": state.stage, "done": done, "failed": state.failed, "total": state.total, "hit": state.hit,
                "ranges": list(journal.done), "fingerprint": origin.fingerprint, "outputs": origin.outputs,
                "written": {name: mark.size for name, mark in state.marks.items()},
            }  # fmt: skip
            if journal.staged:
                told["stages"] = list(journal.staged.values())
            return msgspec.json.encode(told).decode() + "\n"
        of = f" of {state.total:,}" if state.total is not None and state.total != done else ""
        failed = f", {state.failed:,} failed" if state.failed else ""
        went = "finished" if journal.finished else f"go on with: zpipe resume {shlex.quote(path)}"
        rows = [
            ("command", origin.line),
            ("folder", origin.folder),
            (
                "begun",
                time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(origin.began)) + f", zpipe {origin.version}",
            ),
            *origin.fingerprint.items(),
            *((f"stage {number}", f"{count:,} items done") for number, count in journal.staged.items()),
            ("done", f"{done:,}{of} items{failed}; {went}"),
            *((f"{name} file", f"{mark.size:,} bytes") for name, mark in state.marks.items()),
        ]
        return "".join(f"{name:14}{text}\n" for name, text in rows)


def export(path: str, *, failed: bool, fold: Callable[[dict[str, Any]], Any]) -> None:
    """Write a journal's results to standard output, or its dead letters. Raises UsageError and OutputError.

    `fold(given)` returns the fold of a job with these options, if it is one.
    """
    with contextlib.closing(_read(path)) as journal:
        given, mark = journal.origin.given, journal.state.marks.get("output")
        if failed:
            target = outputs.open_output(None, "raw")
            for _, letter in journal.letters:
                target.write([letter])
        else:
            format_: outputs.Format = "raw" if given["raw"] else given["format_"]
            target = _open(None, format_, fold(given))
            if mark is not None:
                partials.copy(os.path.join(journal.origin.folder, given["output"]), mark, target.write)  # noqa: PTH118
            if isinstance(target, FoldOutput) and journal.fold is not None:
                target.restore(journal.fold)
            for result, payload in journal.kept():
                waits = given["ordered"] and result.start >= journal.state.next
                if not waits and (journal.state.limit is None or result.start < journal.state.limit):
                    target.write(payload)
        target.finish()


def recorded(given: dict[str, Any]) -> dict[str, Any]:
    """Return a command's options as a journal can hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
