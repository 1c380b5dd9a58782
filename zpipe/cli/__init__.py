"""The command line: options in, one call, an exit status out. No decision is made here.

Exit status: 0 all done; 1 an item failed, or the job; 2 wrong usage, nothing was run; 130 interrupted.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click

import zpipe
from zpipe import light
from zpipe.cli.loading import loading
from zpipe.errors import ZpipeError

__all__ = ["main"]

COMMANDS = {
    "run": "Run a job on this machine: ventilator, sink and workers in one.",
    "ventilator": "Read a job's items and send them out to workers.",
    "worker": "Work for the ventilator at URL, on all cores.",
    "sink": "Collect the results of the job at URL.",
    "resume": "Go on with a job that has a journal.",
    "journal": "Look into a journal.",
    "cache": "Look into a cache, or clear it.",
    "status": "Tell where a job is.",
    "pause": "Have a job send nothing more for now.",
    "unpause": "Have a paused job go on.",
    "cancel": "End a job.",
    "bench": "Measure what a pipeline can do, here or over a network.",
    "keygen": "Make the key that the nodes of many hosts share.",
}

STEERING = dict.fromkeys(("status", "pause", "unpause", "cancel"), "steering")
"""Commands that share a module."""


class _Group(click.Group):
    """Loads a command's module only when it is asked for: starting stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        with loading():
            light.load()
            module = importlib.import_module(f"zpipe.cli.{STEERING.get(name, name)}")
        command: click.Command = getattr(module, name if name in STEERING else "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message} Known: {', '.join(COMMANDS)}.", ctx) from None


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  seq 100 | zpipe run --command 'echo {}' --ordered --raw
  zpipe run tasks.py:checksum --glob 'data/**/*.txt' --output sums.jsonl
  zpipe run math:factorial --range 1:1000 --reduce operator:add

\b
On many hosts:
  head$  zpipe keygen                    # once; copy the file that it names to the same place on the other hosts
  head$  zpipe ventilator tasks.py:checksum --input files.txt --bind tcp://0.0.0.0:5557
  head$  zpipe sink tcp://head:5557 --bind tcp://0.0.0.0:5558 --output sums.jsonl
  any$   zpipe worker tcp://head:5557

\b
Every option can be given in the environment: ZPIPE_ and its name, as in ZPIPE_WORKERS=4.
Shell completion: eval "$(_ZPIPE_COMPLETE=bash_source zpipe)"   (zsh_source, fish_source)

\b
Exit status: 0 all done; 1 an item failed, or the job; 2 wrong usage; 130 interrupted.
""",
)
@click.version_option(zpipe.__version__, "-V", "--version", message="zpipe %(version)s")
def cli() -> None:
    """Fan a batch job out over many cores and hosts, and get one exact answer back.

    No broker and no database: a ventilator, any number of workers, a sink. Workers may come, go and be killed at any
    time; every item's outcome counts exactly once.
    """


def main() -> None:
    """Run the command line; exit with its status."""
    try:
        cli.main(prog_name="zpipe", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another, while the interpreter ends, is not to change the status
        click.echo("zpipe: interrupted", err=True)
        sys.exit(130)
    except ZpipeError as error:
        click.echo(f"zpipe: {error}", err=True)
        sys.exit(error.exit_status)
