"""What a person is shown of a job: its progress, and how it ended."""

from __future__ import annotations

import sys
from typing import Any

import click

from zpipe.errors import OutputError
from zpipe.report.summary import Summary

__all__ = ["conclude", "progress", "say"]


def say(text: str | bytes, *, nl: bool = True) -> None:
    """Write what was asked for to standard output. Raises OutputError if that can't be done."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:  # click's to end with
        raise
    except OSError as error:
        from zpipe.output.partials import reason

        raise OutputError(f"can't write standard output: {reason(error)}") from None


def progress(quiet: bool, output: str | None) -> Any:
    """Return what shows the job's progress on stderr."""
    from zpipe.report.progress import make_progress

    shared = output in (None, "-") and sys.stdout is not None and sys.stdout.isatty()
    return make_progress(quiet, sys.stderr, shared=shared)


def conclude(summary: Summary, *, quiet: bool, as_json: bool, output: str | None) -> None:
    """Tell how the job ended, and exit with its status."""
    to_stdout = output not in (None, "-")
    if as_json:
        told = summary.json().decode()
        say(told) if to_stdout else click.echo(told, err=True)
    elif not summary.closed and (not quiet or summary.error):
        click.echo(summary.line(), err=True)
        more = summary.error.splitlines()[1:]
        if more:
            click.echo("\n".join(more), err=True)
    sys.exit(summary.exit_status)
