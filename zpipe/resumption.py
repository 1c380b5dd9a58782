"""What a journal means to a command: whether it is of the very job that was asked for, and where its files are.

One rule: a job is gone on with exactly, or not at all. Whatever differs in a way that would show in the output is
refused, by name; how many workers there are, how large chunks are, or how often an item is tried again does not.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import Any

import zpipe
from zpipe import outputs
from zpipe.errors import UsageError
from zpipe.fingerprint import differences
from zpipe.journal import Journal, Origin

__all__ = ["open_journal", "open_output", "recorded"]


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
        if origin.command and (journal.done.count or journal.state.stage != "open"):
            _check_same(journal, fingerprint, shown)
            return journal
        journal.begin(
            Origin(
                fingerprint=fingerprint,
                outputs=shown,
                command=command,
                given=given,
                folder=os.getcwd(),  # noqa: PTH109 - a text, as it is told and kept
                line=shlex.join(line),
                version=zpipe.__version__,
                began=time.time(),
            )
        )
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
    journal: Journal, name: str, path: str | None, format_: outputs.Format, fold: Any = None
) -> outputs.Output:
    """Return an output of the journal's job, brought to where the journal has it. `name` is what it is for.

    Raises UsageError when that can't be: its file is gone, or not what it was.
    """
    state = journal.state
    mark = state.marks.get(name)
    if state.stage == "open" or path is None or outputs.is_stdout(path) or outputs.is_direct(path):
        return outputs.open_output(path, format_, fold, mark)
    if mark is None:
        if journal.finished and os.path.exists(path):  # noqa: PTH110 - as it was typed
            standing = outputs.StandingOutput(format_)
            return standing if fold is None else outputs.FoldOutput(fold[0], fold[1], fold[2], standing)
    elif outputs.stands(path, mark):
        return outputs.StandingOutput(format_)
    elif journal.finished:
        raise UsageError(
            f"the job of the journal {journal.path} is finished, but {path} is not what it wrote: it is gone, or was "
            "changed since. Put it back, or run the job anew with another --journal"
        )
    return outputs.open_output(path, format_, fold, mark)


def recorded(given: dict[str, Any]) -> dict[str, Any]:
    """Return a command's options as a journal can hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
