"""`zpipe cache`."""

from __future__ import annotations

import click

from zpipe.cli import options
from zpipe.cli.telling import say

__all__ = ["command"]

_PATH = click.argument("path")


@click.group(
    "cache",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe cache show pages.cache
  zpipe cache clear pages.cache --expired
  zpipe cache clear pages.cache --task tasks.py:fetch
""",
)
def command() -> None:
    """Look into the file of a --cache, or clear it; jobs may use it meanwhile."""


@command.command("show", context_settings=options.SETTINGS)
@_PATH
@click.option("--json", "json_", envvar="ZPIPE_JSON", is_flag=True, help="As a JSON object.")
def show(path: str, json_: bool) -> None:
    """Tell what the cache PATH has: results and bytes, in all and by task, how often one was found, their age."""
    from zpipe.caching import stock

    say(stock.shown(path, as_json=json_), nl=False)


@command.command("clear", context_settings=options.SETTINGS)
@_PATH
@click.option("--expired", is_flag=True, help="Only the results that are not good any more.")
@click.option("--task", metavar="TASK", help="Only the results of this task, as it was named, of all its versions.")
def clear(path: str, expired: bool, task: str | None) -> None:
    """Remove all results from the cache PATH, or some. What has expired goes in any case."""
    from zpipe.caching import stock
    from zpipe.errors import UsageError

    if expired and task is not None:
        raise UsageError("--expired and --task are both given; what has expired goes in any case: give --task alone")
    gone, before = stock.clear(path, expired=expired, task=task)
    click.echo(f"removed {gone:,} of {before:,} results from {path}", err=True)
