"""The options that spare runs, declared, and what they mean: `--unique`, `--cache` and what belongs to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zpipe.cli.options import Size
from zpipe.core.spec import JobSpec
from zpipe.errors import UsageError

if TYPE_CHECKING:
    from zpipe.stages.staging import Staging

__all__ = ["Seconds", "options", "past", "plan"]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time, with ms, s, m, h, d or w behind it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)\s*", value)
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is no time; write for example 30s, 10m or 1.5h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--unique",
        is_flag=True,
        help="Run equal items once: later ones get the first one's outcome, be it a value or an error.",
    ),
    click.option(
        "--unique-by",
        metavar="KEY",
        help="The same, for items with an equal KEY: .name for that field of the item, or file.py:function of it.",
    ),
    click.option(
        "--cache",
        metavar="PATH",
        help="Don't run items whose result for this very task is in this file, which is made if need be, and keep the "
        "results of others there. Or in Redis: redis://HOST:PORT/0, which others may share (pip install zpipe[redis]).",
    ),
    click.option(
        "--cache-ttl",
        type=Seconds(),
        metavar="TIME",
        help="Results in the cache are good for so long, e.g. 10m.  [default: for ever]",
    ),
    click.option(
        "--cache-size",
        type=Size(),
        metavar="SIZE",
        help="What the cache's file may hold, e.g. 2G; the oldest go first.  [default: any]",
    ),
]


def options(function: F) -> F:
    """What spares runs: for `run` and `ventilator`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def past(given: dict[str, Any], staging: Staging | None = None) -> str:
    """Return the file that keeps what became of a job's items beside its journal; empty if there is none."""
    if not any(_unique(given, staging)):
        return ""
    from zpipe.jobs.plans import past_path

    return past_path(given.get("journal"))


def forget_past(given: dict[str, Any], staging: Staging | None = None) -> None:
    """Remove that file: the job is done."""
    path = past(given, staging)
    if path:
        from zpipe.jobs import plans

        plans.forget_past(path)


def _unique(given: dict[str, Any], staging: Staging | None) -> list[bool]:
    """Return of which stages equal items are run once: the options are for the first."""
    first, *others = staging.unique if staging is not None else [False]
    return [first or given["unique"] or given["unique_by"] is not None, *others]


def plan(spec: JobSpec, given: dict[str, Any], say: Callable[[str], None], staging: Staging | None = None) -> Any:
    """Return the plan that was asked for, None if none was. `staging`: of a job in stages. Raises UsageError."""
    unique = _unique(given, staging)
    if given["cache"] is None:
        for name in ("cache_ttl", "cache_size"):
            if given[name] is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes with --cache")
    if given["unique"] and given["unique_by"] is not None:
        raise UsageError("--unique and --unique-by are both given: --unique is by the whole item; give one")
    if given["cache"] == "":
        raise UsageError("--cache is empty: give the path of a file")
    if not any(unique) and given["cache"] is None:
        return None
    from zpipe.jobs import plans
    from zpipe.jobs.terms import Wishes
    from zpipe.running.commands import is_numbered

    wishes = Wishes(
        unique=any(unique),
        cache=given["cache"],
        ttl=given["cache_ttl"],
        size=given["cache_size"],
        codec=given["codec"],
        key_file=given["key_file"],
        insecure=given["insecure"],
        past=past(given, staging),
    )
    task = spec.task
    if task.kind == "command" and is_numbered(task.name, task.shell) and (unique[0] or given["cache"] is not None):
        what = "--unique" if given["cache"] is None else "--cache"
        raise UsageError(f"{what} and a command with {{#}} don't go together: by its number no item is like another")
    key = plans.key_of(given["unique_by"]) if given["unique_by"] is not None else None
    if staging is None:
        return plans.make(wishes, plans.task_identity(spec), say, key)
    from zpipe.stages.sifting import StagedPlan

    made = plans.make(wishes, plans.stage_identity(staging.specs), say, key)
    assert made is not None
    cached = [wanted and wishes.cache is not None for wanted in staging.cached]
    return StagedPlan(made, list(zip(unique, cached, strict=True)))
