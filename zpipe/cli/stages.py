"""What `--then` means: the further stages of a job, each with settings of its own behind its task."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from zpipe.cli import job
from zpipe.core.claim import Limits, Rate
from zpipe.core.spec import JobSpec
from zpipe.errors import UsageError

if TYPE_CHECKING:
    from zpipe.stages.staging import Staging

__all__ = ["first_task", "option", "source", "staging"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTION = click.option(
    "--then",
    "then",
    multiple=True,
    metavar="TASK[,SETTING=X]…",
    help="A further stage: its items are the results of the one before. May be given several times. SETTINGs hold for "
    "that stage alone (and may stand behind TASK itself): workers=N (at most so many run it at a time), chunk=N, "
    "retries=N, retry-delay=S, timeout=S; what is not set there is as --retries, --timeout and --chunk say. unique=yes "
    "runs equal items of the stage once, cache=no keeps --cache, which is for all stages, from it. rate=N/UNIT, "
    "max-in-flight=N and requires=LABEL do for a stage what --rate, --max-in-flight and --requires, as all options of "
    "what goes next, do for TASK alone.",
)


def option(function: F) -> F:
    """What stages a job has besides its first: for `run`."""
    return _OPTION(function)


def _number(kind: Callable[[str], Any], least: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        found = kind(text)
        if not least <= found < 1e9:
            raise ValueError
        return found

    return parse


def _rate(text: str) -> Rate:
    from zpipe.schedule import claims

    return claims.rate(text)


def _label(text: str) -> frozenset[str]:
    from zpipe.schedule import claims

    return frozenset(claims.labels([text]))


_ANSWERS = {"yes": True, "no": False}

_SETTINGS: dict[str, Callable[[str], Any]] = {
    "workers": _number(int, 1),
    "chunk": _number(int, 1),
    "retries": _number(int, 0),
    "retry-delay": _number(float, 0),
    "timeout": _number(float, 0.01),
    "unique": lambda text: _ANSWERS[text],
    "cache": lambda text: _ANSWERS[text],
    "rate": _rate,
    "max-in-flight": _number(int, 1),
    "requires": _label,
}

_UNFIT = {
    "rate": "is no rate: write for instance rate=100/s, rate=30/m or rate=1000/h",
    "requires": "is no label: write NAME or NAME=VALUE",
}


def _parse(text: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return a stage's task and its settings. Raises UsageError."""
    where, colon, rest = text.rpartition(":")
    function, *settings = rest.split(",")
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if key not in _SETTINGS or not equals:
            raise UsageError(
                f"{name} {text}: {setting!r} is no setting of a stage; there are {', '.join(_SETTINGS)}, as in "
                f"{where}{colon}{function},workers=2"
            )
        if key in found:
            raise UsageError(f"{name} {text}: {key} is given twice")
        try:
            found[key] = _SETTINGS[key](value.strip())
        except ValueError:
            why = _UNFIT.get(key, "is out of range, or no number")
            raise UsageError(f"{name} {text}: {key}={value} {why}") from None
        except KeyError:
            raise UsageError(f"{name} {text}: {key}={value} is neither yes nor no") from None
    return f"{where}{colon}{function}", found


def first_task(given: dict[str, Any]) -> str | None:
    """Return the first stage's task without its settings. Raises UsageError for options that don't go with stages."""
    task: str | None = given["task"]
    if not given["then"]:
        return task
    for name in ("first", "until"):
        if given.get(name):
            shown = name.replace("_", "-")
            raise UsageError(
                f"--{shown} and --then don't go together, it is for jobs of one stage: leave one of them out"
            )
    return None if task is None else _parse(task, "TASK")[0]


def staging(head: JobSpec, **given: Any) -> Staging | None:
    """Return the stages of a job, None if it has but one; `head` is what workers are told of that.

    Raises UsageError and TaskError.
    """
    texts: list[str] = list(given["then"])
    if not texts:
        return None
    from zpipe.stages.flow import StagePlan
    from zpipe.stages.staging import Staging, read_letters

    parsed = [(given["task"] or "", {}) if given["task"] is None else _parse(given["task"], "TASK")]
    parsed += [_parse(text, "--then") for text in texts]
    count = len(parsed)
    plans = []
    for number, (task, settings) in enumerate(parsed, 1):
        spec = msgspec.structs.replace(
            head if number == 1 else _further(head, task),
            stage=number,
            unwrap=False,
            retries=settings.get("retries", head.retries),
            retry_delay=settings.get("retry-delay", head.retry_delay),
            timeout=settings.get("timeout", head.timeout),
        )
        name = f"stage {number} ({_title(spec)})"
        chunk, most = settings.get("chunk", given["chunk"]), settings.get("workers", 0)
        limits = Limits(settings.get("rate"), settings.get("max-in-flight"))
        plans.append(
            StagePlan(
                spec,
                name,
                chunk,
                most,
                settings.get("unique", False),
                settings.get("cache", True),
                limits,
                settings.get("requires", frozenset()),
            )
        )
    again = None
    if given["resubmit"] is not None:
        again = {
            number: items for number, items in read_letters(given["resubmit"], count).items() if number > 1 and items
        }
    return Staging(plans, again)


def _further(first: JobSpec, task: str) -> JobSpec:
    from zpipe.running import tasks

    made = tasks.describe(task)
    if first.codec != "pickle" and made.kind == "file":
        job.refuse_file("--then", made.name, first.codec)
    return msgspec.structs.replace(first, task=made, text_encoding="utf-8", separator=b"\n")


def _title(spec: JobSpec) -> str:
    if spec.task.kind == "command":
        return re.split(r"\s", os.path.basename(spec.task.name.split(maxsplit=1)[0]))[0]  # noqa: PTH119 - a text
    return spec.task.name.rpartition(":")[2]


def source(**given: Any) -> Any:
    """Return the source of a job in stages: of dead letters those of the first stage. Raises UsageError."""
    if given["resubmit"] is None:
        return job.open_source(**given)
    from zpipe.input.sources import IterSource
    from zpipe.stages.staging import read_letters

    job.open_source(**given).close()  # whatever doesn't go with it is refused
    items = read_letters(given["resubmit"], len(given["then"]) + 1)[1]
    return IterSource(items, f"--resubmit {given['resubmit']}", given["codec"])
