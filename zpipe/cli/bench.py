"""`zpipe bench`."""

from __future__ import annotations

import sys
from typing import Any

import click

from zpipe.cli import options
from zpipe.cli.telling import say
from zpipe.core.spec import Codec
from zpipe.errors import UsageError

__all__ = ["command"]


class _Sizes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Sizes in bytes, with commas in between; 0 is one too."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        one = options.Size()
        return tuple(0 if text.strip() == "0" else one.convert(text, param, ctx) for text in value.split(","))


class _Chunks(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers of items, or "auto", with commas in between."""

    name = "chunks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int | None, ...]:
        if isinstance(value, tuple):
            return value
        found: list[int | None] = []
        for text in map(str.strip, value.split(",")):
            if text != "auto" and not (text.isdecimal() and int(text)):
                self.fail(f"{text!r} is no chunk size; write a number from 1 on, or auto", param, ctx)
            found.append(None if text == "auto" else int(text))
        return tuple(found)


@click.command(
    "bench",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe bench
  zpipe bench --transport tcp --payload 0,1M --chunk auto,1,100 --seconds 30
  zpipe bench --codec msgpack --payload 0,64K
  zpipe bench --bind tcp://0.0.0.0:5557 --wait-workers 64 --json
and there, on as many hosts as there are
  zpipe worker tcp://HOST:5557

Every result is compared with what it has to be; a wrong one ends the benchmark with status 1.
""",
)
@options.workers_option("the cores this process may use; with --bind none")
@click.option(
    "--transport",
    type=click.Choice(["ipc", "tcp"]),
    help="How workers of this machine are reached: Unix sockets, or TCP on loopback.  [default: ipc]",
)
@click.option(
    "--curve",
    is_flag=True,
    help="Reach them over TCP on loopback with a key, made for this: how much does encryption cost?",
)
@click.option("--bind", metavar="URL", help="Have workers elsewhere join at this address, e.g. tcp://0.0.0.0:5557.")
@options.key_options
@click.option(
    "--wait-workers",
    type=options.Whole(1),
    metavar="N",
    help="Begin when N workers are ready, those here included.  [default: those here, or 1]",
)
@click.option(
    "--payload",
    type=_Sizes(),
    default="0,64K,1M",
    show_default=True,
    metavar="SIZE,…",
    help="Bytes that each item has, and its result again; 0 is a whole number.",
)
@click.option(
    "--chunk",
    type=_Chunks(),
    default="auto,1",
    show_default=True,
    metavar="N,…",
    help="Items sent together; auto is the pipeline's own choice.",
)
@click.option(
    "--seconds",
    type=options.Number(0.1),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long it all takes, once the workers are ready.",
)
@click.option(
    "--codec",
    type=click.Choice(["pickle", "json", "msgpack"]),
    default="pickle",
    show_default=True,
    help="How items and values travel. With json or msgpack they are data, in jobs of the command line with workers of "
    "this machine, which start anew for each measurement; payloads are text with json.",
)
@click.option("--json", "json_", envvar="ZPIPE_JSON", is_flag=True, help="The figures as a JSON object.")
@options.heartbeat_option()
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the figures and errors.")
def command(
    workers: int | None,
    transport: str | None,
    curve: bool,
    bind: str | None,
    key_file: str | None,
    insecure: bool,
    wait_workers: int | None,
    payload: tuple[int, ...],
    chunk: tuple[int | None, ...],
    seconds: float,
    codec: Codec,
    json_: bool,
    heartbeat: float,
    quiet: bool,
) -> None:
    """Measure what a pipeline can do here, or over a network: items and MiB a second, and how long one item takes.

    Workers give back what they get, so the figures are the limits of any job on this pipeline. First single items go
    there and back on an idle pipeline, then as many as it takes.
    """
    from zpipe.measuring.benchmark import Plan, run

    if bind is not None and transport is not None:
        raise UsageError(f"--transport {transport} is for workers of this machine; --bind {bind} says it already")
    if curve and (bind is not None or transport == "ipc" or key_file is not None or insecure):
        raise UsageError("--curve makes a key of its own, for workers of this machine over TCP: leave the others out")
    if codec != "pickle" and (bind is not None or wait_workers is not None):
        raise UsageError(f"--codec {codec} is for workers of this machine: leave out --bind and --wait-workers")
    show = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def tell(text: str, lasting: bool) -> None:
        if show:
            click.echo(f"\r\033[K{text}", nl=lasting, err=True)
        elif lasting and not quiet:
            click.echo(f"zpipe: {text}", err=True)

    plan = Plan(seconds, payload, chunk)
    how: dict[str, Any] = {
        "workers": workers,
        "tcp": transport == "tcp",
        "curve": curve,
        "key_file": key_file,
        "insecure": insecure,
        "heartbeat": heartbeat,
    }
    if codec == "pickle":
        found = run(plan, tell, bind=bind, wanted=wait_workers, **how)
    else:
        from zpipe.measuring.coded import run_coded

        found = run_coded(plan, tell, codec, **how)
    say(found.json() if json_ else found.text())
