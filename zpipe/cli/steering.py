"""`zpipe status`, `zpipe pause`, `zpipe unpause` and `zpipe cancel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from zpipe.cli import options
from zpipe.cli.telling import say
from zpipe.errors import UsageError, ZpipeError

if TYPE_CHECKING:
    from zpipe.core.wire import State

__all__ = ["cancel", "pause", "status", "unpause"]

JOB = """JOB is the pid of a `zpipe run`, `zpipe ventilator` or script of yours on this machine, or a job's address,
such as tcp://head:5557. It may be left out if there is only one here."""


def _command(name: str, about: str, examples: str) -> Callable[[Callable[..., None]], click.Command]:
    def make(function: Callable[..., None]) -> click.Command:
        function = click.argument("job", required=False, metavar="[JOB]", envvar="ZPIPE_URL")(function)
        function = options.key_options(function)
        epilog = f"\b\nExamples:\n{examples}"
        made: click.Command = click.command(
            name, context_settings=options.SETTINGS, help=f"{about}\n\n{JOB}", epilog=epilog
        )(function)
        return made

    return make


def _one(job: str | None) -> tuple[str, str]:
    """Return the name and the address of the one job that is meant. Raises UsageError."""
    from zpipe.jobs.steering import find

    found = find(job)
    if len(found) > 1:
        raise UsageError(f"which of them? Give the pid of one: {', '.join(found)}")
    return next(iter(found.items()))


def _ask(url: str, wish: str, key_file: str | None, insecure: bool) -> State:
    from zpipe.jobs.steering import ask
    from zpipe.net.access import admit

    return ask(url, wish, keys=admit(url, key_file=key_file, insecure=insecure).keys)


def _where(state: State) -> str:
    """Return the state of a job in words."""
    from zpipe.report.progress import Snapshot, in_words

    mode = "paused" if state.paused else "draining" if state.draining else state.phase
    rate = state.items / state.seconds if state.seconds > 0 and not state.paused else 0.0
    total = None if state.draining or state.phase == "over" else state.total  # it won't come to that
    snapshot = Snapshot(state.items, state.failed, total, state.exact, state.workers, state.seconds)
    cached = ", ".join(
        f"{many:,} {how}" for many, how in ((state.cached, "from the cache"), (state.repeated, "like another")) if many
    )
    flight = f"{state.in_flight:,} chunk{'s' * (state.in_flight != 1)} in flight"
    note = f"; {state.note}" if state.note and not state.paused else ""
    spared = f", {cached}" if cached else ""
    return f"{mode}: {in_words(snapshot, rate)}{spared}, {flight}{note}"


@_command(
    "status",
    "Tell where a job is, or each of yours on this machine.",
    "  zpipe status\n  zpipe status tcp://head:5557 --json",
)
@click.option("--json", "json_", envvar="ZPIPE_JSON", is_flag=True, help="A line of JSON for each job.")
def status(job: str | None, json_: bool, **access: Any) -> None:
    """Print a line for each job."""
    import msgspec

    from zpipe.jobs.steering import find

    failed: list[ZpipeError] = []
    for name, url in find(job).items():
        try:
            state = _ask(url, "status", **access)
        except ZpipeError as error:
            failed.append(error)
            continue
        rate = state.items / state.seconds if state.seconds > 0 else 0.0
        told: dict[str, Any] = {"url": url, **msgspec.structs.asdict(state), "items_per_second": rate}
        say(msgspec.json.encode(told).decode() if json_ else f"{name}: {_where(state)}")
    if failed:
        raise ZpipeError("\n".join(map(str, failed)))


@_command(
    "pause",
    "Have a job send nothing more, until `zpipe unpause`. What workers run they finish; the source is not read.",
    "  zpipe pause\n  zpipe pause 4711\n  zpipe pause tcp://head:5557",
)
def pause(job: str | None, **access: Any) -> None:
    """Pause a job."""
    name, url = _one(job)
    state = _ask(url, "pause", **access)
    if not state.paused:
        raise ZpipeError(f"{name} is not paused: it is ending already ({_where(state)})")
    say(f"{name}: {_where(state)}")


@_command("unpause", "Have a paused job go on.", "  zpipe unpause\n  zpipe unpause 4711")
def unpause(job: str | None, **access: Any) -> None:
    """Let a job go on."""
    name, url = _one(job)
    state = _ask(url, "unpause", **access)
    say(f"{name}: {_where(state)}")


@_command(
    "cancel",
    "End a job now: what waits is dropped, what runs is stopped, results so far are kept. Its exit status is 130.\n\n"
    "Workers elsewhere finish the item that they are at; its result is not counted.",
    "  zpipe cancel 4711\n  zpipe cancel tcp://head:5557 --drain",
)
@click.option("--drain", is_flag=True, help="Finish what is in flight first, as the first Ctrl-C does.")
def cancel(job: str | None, drain: bool, **access: Any) -> None:
    """End a job."""
    name, url = _one(job)
    state = _ask(url, "drain" if drain else "cancel", **access)
    say(f"{name}: {_where(state)}")
