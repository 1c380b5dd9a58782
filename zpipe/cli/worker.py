"""`zpipe worker`."""

from __future__ import annotations

import sys

import click

from zpipe.cli import options
from zpipe.core.wire import MAX_WIDTH
from zpipe.errors import UsageError
from zpipe.net.endpoints import connectable

__all__ = ["command"]


class _Template(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A command; several are lines of the environment variable."""

    name = "command"
    envvar_list_splitter = "\n"


@click.command(
    "worker",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe worker tcp://head:5557
  zpipe worker tcp://head:5557 --slots 4 --connect-timeout 60
  zpipe worker tcp://head:5557 --stay            keep working, job after job
  zpipe worker tcp://head:5557 --slots 1 --label gpu=1    for items that require gpu, and others
  zpipe worker tcp://head:5557 --allow tasks:checksum    run that and nothing else, of a job with --codec json

Stop it with Ctrl-C or SIGTERM: each slot finishes the item it is at and hands the rest back.
""",
)
@click.argument("url", envvar="ZPIPE_URL")
@click.option(
    "-n",
    "--slots",
    type=options.Whole(1),
    metavar="N",
    help="Worker processes.  [default: the cores this process may use]",
)
@click.option("--stay", is_flag=True, help="After a job, wait for the next one at URL.")
@options.connect_timeout_option
@options.heartbeat_option("the ventilator")
@click.option(
    "--allow",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="Run this function of a module on this host, and nothing but what is allowed; MODULE:* is all that the module "
    "defines. Jobs must then have --codec json or msgpack: pickles and files' texts are refused. May be given several "
    "times.",
)
@click.option(
    "--allow-command",
    multiple=True,
    type=_Template(),
    metavar="CMD",
    help="Run this command, word for word the job's --command, without --shell; else as --allow.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_WIDTH),
    metavar="N",
    help="Items of a coroutine function that each slot runs at a time, whatever the job says.",
)
@click.option(
    "--label",
    "labels",
    envvar="ZPIPE_LABEL",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="What these workers have that others may lack, for jobs that require it of some items: gpu, gpu=1. May be "
    "given several times.",
)
@options.key_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    url: str,
    slots: int | None,
    stay: bool,
    connect_timeout: float | None,
    heartbeat: float,
    allow: tuple[str, ...],
    allow_command: tuple[str, ...],
    concurrency: int | None,
    labels: tuple[str, ...],
    key_file: str | None,
    insecure: bool,
    quiet: bool,
) -> None:
    """Work for the ventilator at URL until its job is done. It may be started before or after the ventilator."""
    from zpipe.net.access import admit
    from zpipe.nodes.config import Config
    from zpipe.nodes.slots import Supervisor
    from zpipe.nodes.started import cores
    from zpipe.running.allowed import parse
    from zpipe.schedule import claims

    try:
        claims.labels(labels, "--label")
    except ValueError as error:
        raise UsageError(str(error)) from None
    allowed = parse(allow, allow_command)
    count = slots or cores()
    url = connectable(url)
    access = admit(url, key_file=key_file, insecure=insecure)
    config = Config(
        url,
        count,
        heartbeat,
        connect_timeout,
        stay,
        keys=access.keys,
        allowed=allowed,
        concurrency=concurrency or 0,
        labels=list(labels),
    )

    def say(text: str) -> None:
        if not (quiet and text.startswith("waiting")):
            click.echo(f"zpipe worker: {text}", err=True)

    sys.exit(Supervisor(config, say).run())
