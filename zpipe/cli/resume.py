"""`zpipe resume`."""

from __future__ import annotations

import click

from zpipe.cli import options

__all__ = ["command"]


@click.command(
    "resume",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe resume sums.journal
  zpipe resume --failed sums.journal

The command is that of zpipe run or zpipe sink that began the job, in the folder it was given in; giving it once more
does the same, and may change what does not show in the results: --workers, --chunk, --retries and the like. Items
that came from standard input have to be given to it again.
""",
)
@click.argument("file")
@click.option("--failed", is_flag=True, help="Run the items that failed once more, and nothing else.")
@click.pass_context
def command(ctx: click.Context, file: str, failed: bool) -> None:
    """Go on with the job whose --journal is FILE."""
    from zpipe.cli import journalling

    name, given = journalling.recorded(file, failed)
    module = __import__(f"zpipe.cli.{name}", fromlist=["command"])
    ctx.invoke(module.command, **given)
