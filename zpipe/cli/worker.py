"""`zpipe worker`."""

from __future__ import annotations

import sys

import click

from zpipe.cli import options
from zpipe.endpoints import connectable

__all__ = ["command"]


@click.command(
    "worker",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe worker tcp://head:5557
  zpipe worker tcp://head:5557 --slots 4 --connect-timeout 60
  zpipe worker tcp://head:5557 --stay            keep working, job after job

Stop it with Ctrl-C or SIGTERM: each slot finishes the item it is at and hands the rest back.
""",
)
@click.argument("url", envvar="ZPIPE_URL")
@click.option(
    "-n",
    "--slots",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes.  [default: the cores this process may use]",
)
@click.option("--stay", is_flag=True, help="After a job, wait for the next one at URL.")
@click.option(
    "--connect-timeout",
    type=click.FloatRange(min=0.1),
    metavar="S",
    help="Give up if no ventilator answers for S seconds.  [default: wait]",
)
@click.option(
    "--heartbeat",
    type=click.FloatRange(min=0.2),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds of silence after which the ventilator counts as gone.",
)
@options.key_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    url: str,
    slots: int | None,
    stay: bool,
    connect_timeout: float | None,
    heartbeat: float,
    key_file: str | None,
    insecure: bool,
    quiet: bool,
) -> None:
    """Work for the ventilator at URL until its job is done. It may be started before or after the ventilator."""
    from zpipe.access import admit
    from zpipe.slots import Config, Supervisor, cores

    count = slots or cores()
    url = connectable(url)
    access = admit(url, key_file=key_file, insecure=insecure)
    config = Config(url, count, heartbeat, connect_timeout, stay, keys=access.keys)

    def say(text: str) -> None:
        if not (quiet and text.startswith("waiting")):
            click.echo(f"zpipe worker: {text}", err=True)

    sys.exit(Supervisor(config, say).run())
