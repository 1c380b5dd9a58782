"""What the options of a job mean: its source, what workers are told, what is asked of nodes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from zpipe.core.policy import Halt, Policy
from zpipe.core.spec import Codec, JobSpec
from zpipe.errors import UsageError
from zpipe.net import endpoints

__all__ = ["fingerprint", "lane_ports", "open_source", "policy", "refuse_file", "spec"]


def open_source(
    *,
    input: str | None,  # noqa: A002 - the option's name
    jsonl: bool,
    null: bool,
    range_: str | None,
    glob: str | None,
    source: str | None,
    every: str | None,
    cron: str | None,
    resubmit: str | None,
    encoding: str,
    codec: Codec,
    **_: Any,
) -> Any:
    """Return the one source that was asked for. Raises UsageError."""
    given = {"--input": input, "--range": range_, "--glob": glob, "--source": source, "--resubmit": resubmit}
    given |= {"--every": every, "--cron": cron}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} are both sources of items; give one")
    if jsonl and encoding.lower() not in ("utf-8", "utf8"):
        raise UsageError(f"--jsonl and --encoding {encoding}: JSON is UTF-8; convert it with iconv first")
    if (jsonl or null) and named and named != ["--input"]:
        raise UsageError(f"--jsonl and --null tell how --input is read; they don't go with {named[0]}")
    if range_ is not None:
        from zpipe.input import sources

        return sources.IterSource(sources.parse_range(range_), f"--range {range_}", codec)
    if glob is not None:
        from zpipe.input import feeder

        return feeder.glob_source(glob, codec=codec)
    from zpipe.input import lines

    if resubmit is not None:
        return lines.open_lines(resubmit, kind="json")
    if every is not None or cron is not None:
        return _ticks(every, cron, codec)
    if source is not None:
        from zpipe.input import feeder

        return feeder.callable_source(source, codec)
    if input is None and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "no items: give --input FILE, --range, --glob, --source or --resubmit, or pipe lines into stdin"
        )
    return lines.open_lines(input or "-", separator=b"\0" if null else b"\n", kind="json" if jsonl else "lines")


def _ticks(every: str | None, cron: str | None, codec: Codec) -> Any:
    from zpipe.input import ticks
    from zpipe.schedule import claims

    if every is None:
        return ticks.cron_source(cron or "", codec)
    try:
        return ticks.every_source(claims.seconds(every), codec)
    except ValueError as error:
        raise UsageError(f"--every: {error}") from None


def fingerprint(spec: JobSpec, stages: Sequence[JobSpec] = (), **given: Any) -> dict[str, str]:
    """Return what tells this job from others; `stages` are all of it, if it has several."""
    from zpipe.core import fingerprint as fingerprints

    sources = {
        "range_": "--range",
        "input": "--input",
        "glob": "--glob",
        "source": "--source",
        "every": "--every",
        "cron": "--cron",
        "resubmit": "--resubmit",
    }
    named = [f"{option} {given[name]}" for name, option in sources.items() if given[name] is not None]
    kinds = [f"--{name}" for name in ("jsonl", "null") if given[name]]
    found = fingerprints.fingerprint(spec, " ".join([*(named or ["--input -"]), *kinds]))
    for number, stage in enumerate(stages[1:], 2):
        found[f"stage {number}"] = fingerprints.fingerprint(stage, "")["task"]
    return found


def spec(
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
    concurrency: int | None,
    codec: Codec,
    **_: Any,
) -> JobSpec:
    """Return what workers are told. Raises UsageError and TaskError."""
    from zpipe.running import tasks

    if (task is None) == (command is None):
        both = "TASK and --command are both given; give one" if task else "nothing to run: give TASK or --command"
        raise UsageError(f"{both}; TASK is module:function or path/file.py:function")
    if shell and command is None:
        raise UsageError("--shell goes with --command")
    if concurrency is not None and command is not None:
        raise UsageError(
            "--concurrency is for coroutine functions; of commands as many run as there are workers (-w N)"
        )
    _check_encoding(encoding)
    made = tasks.command(command, shell) if command is not None else tasks.describe(task or "")
    found = tasks.describe(until) if until is not None else None
    for name, described in (("TASK", made), ("--until", found)):
        if codec != "pickle" and described is not None and described.kind == "file":
            refuse_file(name, described.name, codec)
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
        concurrency=concurrency or 0,
    )


def refuse_file(option: str, name: str, codec: str) -> None:
    """Raise UsageError: a file's text is code."""
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
    from zpipe.net.link import raise_limits
    from zpipe.net.versions import our_versions

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
