"""The options of the commands, declared: names, kinds, defaults and help. What they mean is not known here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from zpipe.core import wire

__all__ = [
    "SETTINGS",
    "Number",
    "Size",
    "Whole",
    "codec_option",
    "connect_timeout_option",
    "heartbeat_option",
    "job_options",
    "key_options",
    "node_options",
    "output_options",
    "workers_option",
]

SETTINGS: dict[str, Any] = {
    "auto_envvar_prefix": "ZPIPE",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}

MOST = 1_000_000_000
"""The largest number of items, tries or seconds, 31 years, that an option may have."""

LONGEST_SILENCE = 1_000_000
"""Seconds; ZeroMQ counts milliseconds with 31 bits."""

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Bytes, with a k, M or G behind."""

    name = "size"

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value.strip().upper().removesuffix("B").removesuffix("I")
        factor = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
        try:
            size = int(float(text[:-1] if factor else text) * 2**factor)
        except ValueError:
            size = 0
        if size < 1:
            self.fail(f"{value!r} is no size; write for example 64M or 2G", param, ctx)
        if self._most is not None and size > self._most:
            self.fail(f"{value!r} is more than {self._most >> 20}M, the most there may be", param, ctx)
        return size


class Number(click.FloatRange):
    """A number that is one: no "nan", and no more than `most`."""

    def __init__(self, least: float, most: float = MOST) -> None:
        super().__init__(least)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not number <= self._most:
            self.fail(f"{value!r} is no number up to {self._most:,}", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number of no more than `MOST`."""

    def __init__(self, least: int) -> None:
        super().__init__(least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = super().convert(value, param, ctx)
        if number > MOST:
            self.fail(f"{value!r} is more than {MOST:,}, the most there may be", param, ctx)
        return number


def _apply(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_TASK: list[Callable[[Any], Any]] = [
    click.argument("task", required=False, metavar="[TASK]"),
    click.option(
        "--command",
        metavar="CMD",
        help="Run a command per item instead of TASK: 'gzip -k {}'. "
        "{} is the item, {.} without extension, {/} its base name, {//} its folder, {#} its number from 1.",
    ),
    click.option("--shell", is_flag=True, help="Give the command to /bin/sh; items are quoted."),
]

_SOURCE: list[Callable[[Any], Any]] = [
    click.option("-i", "--input", metavar="FILE", help="Items are the lines of FILE; - is stdin (the default)."),
    click.option("--jsonl", is_flag=True, help="Each line of the input is a JSON value."),
    click.option("-0", "--null", is_flag=True, help="Items of the input end with a NUL byte, not a newline."),
    click.option("--encoding", default="utf-8", show_default=True, help="Encoding of the input's text."),
    click.option(
        "--range", "range_", envvar="ZPIPE_RANGE", metavar="START:STOP[:STEP]", help="Items are these integers."
    ),
    click.option("--glob", metavar="PATTERN", help="Items are the files that match; ** crosses folders."),
    click.option("--source", metavar="MODULE:FUNCTION", help="Items are what this function yields."),
    click.option("--every", metavar="SPAN", help="Items are times, from now on so long apart (30s, 5m), for ever."),
    click.option(
        "--cron", metavar="EXPR", help="Items are the times that EXPR names, as cron has it ('0 2 * * *'), for ever."
    ),
    click.option("--resubmit", metavar="FILE", help="Items are those of the dead letters in FILE."),
]

_TRIES: list[Callable[[Any], Any]] = [
    click.option(
        "--retries",
        type=Whole(0),
        default=0,
        metavar="N",
        help="Try an item that fails N times more, on another worker if there is one.  [default: 0]",
    ),
    click.option(
        "--retry-delay",
        type=Number(0.0),
        default=1.0,
        show_default=True,
        metavar="S",
        help="Seconds before the second try at most; twice as many before each further one.",
    ),
    click.option(
        "--retry-max-delay",
        type=Number(0.0),
        default=60.0,
        show_default=True,
        metavar="S",
        help="Seconds before any try at most.",
    ),
    click.option(
        "--retry-on",
        multiple=True,
        metavar="EXCEPTION",
        help="Try again only after this exception (ValueError, or module.Name); may be given several times.",
    ),
]

_LIMITS: list[Callable[[Any], Any]] = [
    click.option(
        "--timeout",
        type=Number(0.01),
        metavar="S",
        help="Kill an item's worker, with all it has started, once the item has run for S seconds. That is a "
        "failed try (of type ItemTimeout); the rest of its chunk is run again.  [default: none]",
    ),
    click.option(
        "--max-memory",
        type=Size(),
        metavar="SIZE",
        help="Kill a worker once it and all it has started hold more than SIZE of RAM (resident, e.g. 2G; "
        "looked at ten times a second). That is a crash of the item it runs. Linux only.  [default: none]",
    ),
    click.option(
        "--max-crashes",
        type=Whole(1),
        default=3,
        show_default=True,
        metavar="N",
        help="Give an item up when N workers have crashed while running it.",
    ),
    click.option(
        "--max-tasks-per-worker",
        type=Whole(1),
        metavar="N",
        help="Replace a worker's process by a fresh one, after the chunk with its N-th item, if there is more "
        "to do: for libraries that leak.  [default: never]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, wire.MAX_WIDTH),
        metavar="N",
        help="For a TASK that is a coroutine function (async def): items that each worker runs at a time, on one event "
        "loop.  [default: 100]",
    ),
]

_ENDINGS: list[Callable[[Any], Any]] = [
    click.option(
        "--halt",
        default="never",
        show_default=True,
        metavar="WHEN",
        help="never; soon,fail=N or now,fail=N: end when N items have failed (fail=N%: that share of those "
        "done), after what is in flight, or at once.",
    ),
    click.option(
        "--speculate",
        is_flag=True,
        help="When workers have nothing to do, run chunks that take clearly longer than usual on another one "
        "too; whichever is done first counts. For tasks that may run twice at once.",
    ),
    click.option(
        "--first",
        is_flag=True,
        help="Stop at the first result that is true (or satisfies --until), and write only that one.",
    ),
    click.option("--until", metavar="MODULE:FUNCTION", help="Stop at the first result this is true of."),
]

_NODES: list[Callable[[Any], Any]] = [
    click.option(
        "--chunk",
        type=Whole(1),
        metavar="N",
        help="Items a chunk; by default as many as suit the workers' own timings.",
    ),
    click.option(
        "--expect-workers",
        type=Whole(1),
        default=1,
        metavar="N",
        help="Begin when N workers are ready.  [default: 1]",
    ),
    click.option("--mixed-versions", is_flag=True, help="Let workers of other Python versions join."),
    click.option(
        "--max-result",
        type=Size(wire.MAX_BYTES // 2),
        default="256M",
        show_default=True,
        metavar="SIZE",
        help="An item fails if its result is larger; 512M at most.",
    ),
    click.option(
        "--lane-ports",
        metavar="LOW-HIGH",
        help="Ports for the workers' lanes, for firewalls; by default any free ones.",
    ),
]


def job_options(function: F) -> F:
    """What to run on what: for `run` and `ventilator`."""
    decorate: Callable[[F], F] = _apply([*_TASK, *_SOURCE, *_TRIES, *_LIMITS, *_ENDINGS, *_NODES])
    return decorate(function)


def heartbeat_option(who: str = "a host") -> Callable[[F], F]:
    """For how long `who` may be silent: for every command that runs a node."""
    return click.option(
        "--heartbeat",
        type=Number(0.2, LONGEST_SILENCE),
        default=10.0,
        show_default=True,
        metavar="S",
        help=f"Seconds of silence after which {who} counts as gone.",
    )


def node_options(function: F) -> F:
    """What the nodes have that collect results, or send out items."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="No progress; errors only.")
    return _apply([heartbeat_option(), quiet])(function)


def workers_option(default: str, zero: str = "") -> Callable[[F], F]:
    """How many workers of its own a command has; `default`, and what else there is to say of none, in words."""
    return click.option(
        "-w",
        "--workers",
        type=Whole(0),
        metavar="N",
        help=f"Worker processes here; 0: none.{zero}  [default: {default}]",
    )


def connect_timeout_option(function: F) -> F:
    """How long a node waits for its ventilator: for `worker` and `sink`."""
    return click.option(
        "--connect-timeout",
        type=Number(0.1),
        metavar="S",
        help="Give up if no ventilator answers for S seconds.  [default: wait]",
    )(function)


def key_options(function: F) -> F:
    """Which key a node uses: for all of them."""
    return _apply(
        [
            click.option(
                "--key-file",
                metavar="FILE",
                help="The key that nodes must share, on TCP; `zpipe keygen` makes one.  [default: the one in the "
                "user's configuration folder, if there is one]",
            ),
            click.option(
                "--insecure", is_flag=True, help="Use no key: whoever can reach the port can run code on these hosts."
            ),
        ]
    )(function)


def codec_option(function: F) -> F:
    """How items and values travel: for `run`, `ventilator` and `sink`."""
    return click.option(
        "--codec",
        type=click.Choice(["pickle", "json", "msgpack"]),
        default="pickle",
        show_default=True,
        help="How items and values travel. With json or msgpack they are data, and nothing is unpickled anywhere: TASK "
        "is then module:function, of a module on the workers, which run it if they --allow it.",
    )(function)


def output_options(function: F) -> F:
    """Where results go: for `run` and `sink`."""
    return _apply(
        [
            click.option(
                "-o",
                "--output",
                metavar="FILE",
                help="Write results to FILE, whole or not at all; - is stdout (the default).",
            ),
            click.option(
                "--format",
                "format_",
                envvar="ZPIPE_FORMAT",
                type=click.Choice(["json", "raw", "pickle"]),
                default="json",
                show_default=True,
                help="json: a line {index, item, value} or {index, item, error} per item. raw: the "
                "values as text. pickle: a pickled dict per item, for values JSON can't carry.",
            ),
            click.option("--raw", is_flag=True, help="The same as --format raw."),
            click.option("--ordered", is_flag=True, help="Results in the items' order, not as they come."),
            click.option(
                "--reduce",
                "reduce_",
                envvar="ZPIPE_REDUCE",
                metavar="MODULE:FUNCTION",
                help="Fold all values into one with "
                "FUNCTION(so_far, value), and write that; in the order they come, unless --ordered.",
            ),
            click.option(
                "--group-by",
                metavar="KEY",
                help="Bring values together by KEY, .name for that field or MODULE:FUNCTION of the value, and write a "
                "line {key, values} for each key; with --reduce {key, value}, which takes no more memory than those.",
            ),
            click.option(
                "--dead-letters",
                metavar="FILE",
                help="Write items that failed for good to FILE, a line of JSON each; --resubmit FILE runs them again.",
            ),
            click.option(
                "--joblog",
                metavar="FILE",
                help="Write a line for each item to FILE as it is done, in the columns of GNU parallel's --joblog.",
            ),
            click.option(
                "--journal",
                metavar="FILE",
                help="Keep in FILE what is done. After any crash the same command, or zpipe resume FILE, goes on "
                "from there, and nothing is done twice.",
            ),
            click.option("--initial", metavar="JSON", help="What the fold begins with; by default the first value."),
            click.option(
                "--json",
                "json_",
                envvar="ZPIPE_JSON",
                is_flag=True,
                help="The summary as a JSON object: on stdout if results go to a file, else on stderr.",
            ),
        ]
    )(function)
