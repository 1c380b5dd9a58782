"""The options that several commands share, and how they become arguments."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zpipe import endpoints
from zpipe.core import wire
from zpipe.core.policy import Halt, Policy
from zpipe.core.wire import Codec, JobSpec
from zpipe.errors import UsageError
from zpipe.summary import Summary

__all__ = [
    "SETTINGS",
    "codec_option",
    "conclude",
    "job_fingerprint",
    "job_options",
    "job_spec",
    "joblog_output",
    "key_options",
    "letters_output",
    "node_options",
    "open_source",
    "output_options",
    "policy",
    "sink_output",
]

SETTINGS: dict[str, Any] = {
    "auto_envvar_prefix": "ZPIPE",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}

F = TypeVar("F", bound=Callable[..., Any])


class _Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
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


def _apply(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def job_options(function: F) -> F:
    """What to run on what: for `run` and `ventilator`."""
    return _apply(
        [
            click.argument("task", required=False, metavar="[TASK]"),
            click.option(
                "--command",
                metavar="CMD",
                help="Run a command per item instead of TASK: 'gzip -k {}'. "
                "{} is the item, {.} without extension, {/} its base name, {//} its folder, {#} its number from 1.",
            ),
            click.option("--shell", is_flag=True, help="Give the command to /bin/sh; items are quoted."),
            click.option(
                "-i", "--input", metavar="FILE", help="Items are the lines of FILE; - is stdin (the default)."
            ),
            click.option("--jsonl", is_flag=True, help="Each line of the input is a JSON value."),
            click.option("-0", "--null", is_flag=True, help="Items of the input end with a NUL byte, not a newline."),
            click.option("--encoding", default="utf-8", show_default=True, help="Encoding of the input's text."),
            click.option(
                "--range", "range_", envvar="ZPIPE_RANGE", metavar="START:STOP[:STEP]", help="Items are these integers."
            ),
            click.option("--glob", metavar="PATTERN", help="Items are the files that match; ** crosses folders."),
            click.option("--source", metavar="MODULE:FUNCTION", help="Items are what this function yields."),
            click.option("--resubmit", metavar="FILE", help="Items are those of the dead letters in FILE."),
            click.option(
                "--retries",
                type=click.IntRange(min=0),
                default=0,
                metavar="N",
                help="Try an item that fails N times more, on another worker if there is one.  [default: 0]",
            ),
            click.option(
                "--retry-delay",
                type=click.FloatRange(min=0.0),
                default=1.0,
                show_default=True,
                metavar="S",
                help="Seconds before the second try at most; twice as many before each further one.",
            ),
            click.option(
                "--retry-max-delay",
                type=click.FloatRange(min=0.0),
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
            click.option(
                "--timeout",
                type=click.FloatRange(min=0.01),
                metavar="S",
                help="Kill an item's worker, with all it has started, once the item has run for S seconds. That is a "
                "failed try (of type ItemTimeout); the rest of its chunk is run again.  [default: none]",
            ),
            click.option(
                "--max-memory",
                type=_Size(),
                metavar="SIZE",
                help="Kill a worker once it and all it has started hold more than SIZE of RAM (resident, e.g. 2G; "
                "looked at ten times a second). That is a crash of the item it runs. Linux only.  [default: none]",
            ),
            click.option(
                "--max-crashes",
                type=click.IntRange(min=1),
                default=3,
                show_default=True,
                metavar="N",
                help="Give an item up when N workers have crashed while running it.",
            ),
            click.option(
                "--max-tasks-per-worker",
                type=click.IntRange(min=1),
                metavar="N",
                help="Replace a worker's process by a fresh one, after the chunk with its N-th item, if there is more "
                "to do: for libraries that leak.  [default: never]",
            ),
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
            click.option(
                "--chunk",
                type=click.IntRange(min=1),
                metavar="N",
                help="Items a chunk; by default as many as suit the workers' own timings.",
            ),
            click.option(
                "--expect-workers",
                type=click.IntRange(min=1),
                default=1,
                metavar="N",
                help="Begin when N workers are ready.  [default: 1]",
            ),
            click.option("--mixed-versions", is_flag=True, help="Let workers of other Python versions join."),
            click.option(
                "--max-result",
                type=_Size(wire.MAX_BYTES // 2),
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
    )(function)


def node_options(function: F) -> F:
    """What every node has."""
    return _apply(
        [
            click.option(
                "--heartbeat",
                type=click.FloatRange(min=0.2),
                default=10.0,
                show_default=True,
                metavar="S",
                help="Seconds of silence after which a host counts as gone.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="No progress; errors only."),
        ]
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


def open_source(
    *,
    input: str | None,  # noqa: A002 - the option's name
    jsonl: bool,
    null: bool,
    range_: str | None,
    glob: str | None,
    source: str | None,
    resubmit: str | None,
    encoding: str,
    codec: Codec,
    **_: Any,
) -> Any:
    """Return the one source that was asked for. Raises UsageError."""
    from zpipe import feeder, lines, sources

    given = {"--input": input, "--range": range_, "--glob": glob, "--source": source, "--resubmit": resubmit}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} are both sources of items; give one")
    if jsonl and encoding.lower() not in ("utf-8", "utf8"):
        raise UsageError(f"--jsonl and --encoding {encoding}: JSON is UTF-8; convert it with iconv first")
    if (jsonl or null) and named and named != ["--input"]:
        raise UsageError(f"--jsonl and --null tell how --input is read; they don't go with {named[0]}")
    if range_ is not None:
        return sources.IterSource(sources.parse_range(range_), f"--range {range_}", codec)
    if glob is not None:
        return feeder.glob_source(glob, codec=codec)
    if resubmit is not None:
        return lines.open_lines(resubmit, kind="json")
    if source is not None:
        return feeder.callable_source(source, codec)
    if input is None and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "no items: give --input FILE, --range, --glob, --source or --resubmit, or pipe lines into stdin"
        )
    return lines.open_lines(input or "-", separator=b"\0" if null else b"\n", kind="json" if jsonl else "lines")


def job_fingerprint(spec: JobSpec, **given: Any) -> dict[str, str]:
    """Return what tells this job from others."""
    from zpipe.fingerprint import fingerprint

    sources = {
        "range_": "--range",
        "input": "--input",
        "glob": "--glob",
        "source": "--source",
        "resubmit": "--resubmit",
    }
    named = [f"{option} {given[name]}" for name, option in sources.items() if given[name] is not None]
    kinds = [f"--{name}" for name in ("jsonl", "null") if given[name]]
    return fingerprint(spec, " ".join([*(named or ["--input -"]), *kinds]))


def job_spec(
    *,
    task: str | None,
    command: str | None,
    shell: bool,
    until: str | None,
    first: bool,
    encoding: str,
    max_result: int,
    null: bool,
    resubmit: str | None,
    retries: int,
    retry_delay: float,
    retry_max_delay: float,
    retry_on: tuple[str, ...],
    timeout: float | None,
    max_memory: int | None,
    max_tasks_per_worker: int | None,
    codec: Codec,
    **_: Any,
) -> JobSpec:
    """Return what workers are told. Raises UsageError and TaskError."""
    from zpipe import tasks

    if (task is None) == (command is None):
        both = "TASK and --command are both given; give one" if task else "nothing to run: give TASK or --command"
        raise UsageError(f"{both}; TASK is module:function or path/file.py:function")
    if shell and command is None:
        raise UsageError("--shell goes with --command")
    _check_encoding(encoding)
    made = tasks.command(command, shell) if command is not None else tasks.describe(task or "")
    found = tasks.describe(until) if until is not None else None
    for name, described in (("TASK", made), ("--until", found)):
        if codec != "pickle" and described is not None and described.kind == "file":
            _refuse_file(name, described.name, codec)
    return JobSpec(
        made,
        codec=codec,
        until=found,
        first=first,
        text_encoding=encoding,
        separator=b"\0" if null else b"\n",
        max_result=max_result,
        retries=retries,
        retry_delay=retry_delay,
        retry_max_delay=retry_max_delay,
        retry_on=list(retry_on),
        unwrap=resubmit is not None,
        timeout=timeout or 0.0,
        max_memory=max_memory or 0,
        max_tasks=max_tasks_per_worker or 0,
    )


def _refuse_file(option: str, name: str, codec: str) -> None:
    path, _, function = name.rpartition(":")
    module = os.path.basename(path).removesuffix(".py")  # noqa: PTH119 - a text
    raise UsageError(
        f"{option} {name} and --codec {codec}: the file's text would be code that is sent to workers. Name it by its "
        f"module, {module}:{function}, and have that on the workers: installed, or in the folder they are started in"
    )


def _check_encoding(encoding: str) -> None:
    try:
        newline = "\n".encode(encoding)
    except (LookupError, UnicodeError):
        raise UsageError(f"--encoding {encoding!r} is not known to Python; try utf-8 or latin-1") from None
    if newline != b"\n":
        raise UsageError(f"--encoding {encoding}: its lines don't end with a newline byte; convert it with iconv first")


def policy(
    *,
    expect_workers: int,
    mixed_versions: bool,
    halt: str,
    speculate: bool,
    max_crashes: int,
    codec: Codec,
    **_: Any,
) -> Policy:
    """Return what is asked of nodes. Raises UsageError."""
    from zpipe.link import raise_limits
    from zpipe.versions import our_versions

    return Policy(
        our_versions(),
        expect=expect_workers,
        mixed=mixed_versions,
        most=raise_limits(),
        halt=_halt(halt),
        speculate=speculate,
        max_crashes=max_crashes,
        codec=codec,
    )


def _halt(text: str) -> Halt | None:
    if text == "never":
        return None
    found = re.fullmatch(r"(soon|now),fail=(\d+(?:\.\d+)?)(%?)", text)
    if found is None or not float(found[2]) or ("." in found[2] and not found[3]):
        raise UsageError(f"--halt {text!r} can't be read; write never, soon,fail=3, now,fail=1 or soon,fail=10%")
    share = float(found[2]) / 100 if found[3] else 0.0
    return Halt(found[1] == "now", 0 if share else int(found[2]), share)


def lane_ports(text: str | None) -> range:
    """Return the ports for lanes. Raises UsageError."""
    return endpoints.parse_ports(text) if text else range(0)


def sink_output(
    *,
    output: str | None,
    format_: str,
    raw: bool,
    reduce_: str | None,
    initial: str | None,
    codec: Codec,
    opened: Any = None,
    **_: Any,
) -> Any:
    """Return the output that was asked for, as the journal `opened` has left it. Raises UsageError and TaskError."""
    from zpipe import outputs

    if raw and format_ == "pickle":
        raise UsageError("--raw and --format pickle are both given; give one")
    if codec != "pickle" and format_ == "pickle":
        raise UsageError(
            f"--format pickle and --codec {codec}: results would be pickles; leave --format out for lines of JSON"
        )
    folded = fold(reduce_, initial, codec)
    format_ = "raw" if raw else format_
    if opened is None:
        return outputs.open_output(output, format_, folded)  # type: ignore[arg-type]
    from zpipe import resumption

    return resumption.open_output(opened, "output", output, format_, folded)  # type: ignore[arg-type]


def fold(reduce_: str | None, initial: str | None, codec: Codec) -> Any:
    """Return what `outputs.open_output` takes for a fold, or None. Raises UsageError and TaskError."""
    from zpipe import tasks

    if reduce_ is None:
        if initial is not None:
            raise UsageError("--initial goes with --reduce")
        return None
    reducer = tasks.import_object(reduce_)
    if not callable(reducer):
        raise UsageError(f"--reduce {reduce_} is no function")
    return reducer, initial is not None, _json(initial), codec


def letters_output(*, dead_letters: str | None, output: str | None, opened: Any = None, **_: Any) -> Any:
    """Return where dead letters go, if they were asked for. Raises UsageError."""
    from zpipe import outputs

    if dead_letters is None:
        return None
    if dead_letters in (output, "-") or (output in (None, "-") and dead_letters == "/dev/stdout"):
        raise UsageError(f"--dead-letters {dead_letters} is where the results go; give a file of its own")
    if opened is None:
        return outputs.open_output(dead_letters, "raw")
    from zpipe import resumption

    return resumption.open_output(opened, "letters", dead_letters, "raw")


def joblog_output(
    *, joblog: str | None, output: str | None, dead_letters: str | None, opened: Any = None, **_: Any
) -> Any:
    """Return where the job log goes, if it was asked for. Raises UsageError."""
    from zpipe import joblog as joblogs
    from zpipe import outputs

    if joblog is None or (opened is not None and opened.state.stage != "open"):
        return None
    if joblog in ("-", output, dead_letters):
        raise UsageError(f"--joblog {joblog} is where results go; give a file of its own")
    mark = opened.state.marks.get("joblog") if opened is not None else None
    made = outputs.FileOutput(joblog, "raw", mark, live=True)
    if made.direct and opened is not None:
        raise UsageError(f"--joblog {joblog} is no regular file: with --journal it has to be one, to be cut back")
    if mark is None:
        made.write([joblogs.HEADER])
    return made


def _json(text: str | None) -> Any:
    import json

    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--initial {text!r} is not JSON: {error}") from None


def progress(quiet: bool, output: str | None) -> Any:
    """Return what shows the job's progress on stderr."""
    from zpipe.progress import make_progress

    shared = output in (None, "-") and sys.stdout is not None and sys.stdout.isatty()
    return make_progress(quiet, sys.stderr, shared=shared)


def conclude(summary: Summary, *, quiet: bool, as_json: bool, output: str | None) -> None:
    """Tell how the job ended, and exit with its status."""
    to_stdout = output not in (None, "-")
    if as_json:
        click.echo(summary.json().decode(), err=not to_stdout)
    elif not summary.closed and (not quiet or summary.error):
        click.echo(summary.line(), err=True)
        more = summary.error.splitlines()[1:]
        if more:
            click.echo("\n".join(more), err=True)
    sys.exit(summary.exit_status)
