"""What the commands with a --journal share."""

from __future__ import annotations

import os
import sys
from typing import Any

from zpipe.errors import UsageError

__all__ = ["open_journal"]


def open_journal(command: str, given: dict[str, Any], fingerprint: dict[str, str]) -> Any:
    """Return the journal that was asked for, None if none was. Raises UsageError."""
    path = given["journal"]
    if path is None:
        return None
    from zpipe.output import resumption

    files = [given[name] for name in ("output", "dead_letters", "joblog") if given[name] is not None]
    taken = [os.path.abspath(name) for file in files for name in (file, f"{file}.partial")]  # noqa: PTH100
    if path == "-" or os.path.abspath(path) in taken:  # noqa: PTH100
        raise UsageError(f"--journal {path} is where results go; give a file of its own")
    line = ["zpipe", *sys.argv[1:]]
    return resumption.open_journal(path, fingerprint, _shown(given), command, resumption.recorded(given), line)


def _shown(given: dict[str, Any]) -> dict[str, str]:
    """Return the options that say how and where results go."""
    from zpipe.output import outputs

    found = {"--format": "raw" if given["raw"] else given["format_"]}
    if given["codec"] != "pickle":
        found["--codec"] = given["codec"]
    if given["ordered"]:
        found["--ordered"] = "given"
    for name, option in (("output", "--output"), ("dead_letters", "--dead-letters"), ("joblog", "--joblog")):
        path = given[name]
        if path is not None and not outputs.is_stdout(path):
            found[option] = os.path.abspath(path)  # noqa: PTH100 - a text, as it is told and kept
    for name, option in (("reduce_", "--reduce"), ("initial", "--initial"), ("group_by", "--group-by")):
        if given[name] is not None:
            found[option] = given[name]
    return found


def recorded(path: str, failed: bool) -> tuple[str, dict[str, Any]]:
    """Return the command that a journal is of, with its options, in whose folder this process is then.

    `failed`: the items that failed are made ones that are not done. Raises UsageError.
    """
    from zpipe.output import resumption

    path = os.path.abspath(path)  # noqa: PTH100
    origin = resumption.origin_of(path)
    try:
        os.chdir(origin.folder)
    except OSError as error:
        raise UsageError(
            f"the job of {path} was begun in {origin.folder}, which can't be entered: {error.strerror}; give the "
            "command itself where it belongs now"
        ) from None
    if failed:
        from zpipe.output import reopening

        reopening.reopen(path)
    return origin.command, {**origin.given, "journal": path}


def fold_of(given: dict[str, Any]) -> Any:
    """Return the fold of a journal's job, None if it has none, as `output.open_outputs` does. Raises TaskError."""
    from zpipe.cli.output import fold

    return fold(given["reduce_"], given["initial"], given["codec"], given["group_by"])
