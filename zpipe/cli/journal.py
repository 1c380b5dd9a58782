"""`zpipe journal`."""

from __future__ import annotations

import click

from zpipe.cli import options
from zpipe.cli.telling import say

__all__ = ["command"]

_FILE = click.argument("file")


@click.group(
    "journal",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe journal show sums.journal
  zpipe journal export sums.journal > so-far.jsonl
  zpipe journal export --failed sums.journal > failed.jsonl
""",
)
def command() -> None:
    """Look into a journal, of a job that runs or one that does not."""


@command.command("show", context_settings=options.SETTINGS)
@_FILE
@click.option("--json", "json_", envvar="ZPIPE_JSON", is_flag=True, help="As a JSON object.")
def show(file: str, json_: bool) -> None:
    """Tell what job FILE is the journal of, and how far that is."""
    from zpipe.output import resumption

    say(resumption.shown(file, as_json=json_), nl=False)


@command.command("export", context_settings=options.SETTINGS)
@_FILE
@click.option("--failed", is_flag=True, help="The dead letters instead, for --resubmit.")
def export(file: str, failed: bool) -> None:
    """Write the results that FILE is the journal of to standard output, as far as they are committed.

    They come in the format that the job writes. Of a fold it is the value so far.
    """
    from zpipe.cli import journalling
    from zpipe.output import resumption

    resumption.export(file, failed=failed, fold=journalling.fold_of)
