"""The options that say what goes next: declared, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from zpipe.cli.options import Number, Whole
from zpipe.core.policy import Policy
from zpipe.core.spec import JobSpec
from zpipe.errors import TaskError, UsageError

if TYPE_CHECKING:
    from zpipe.stages.staging import Staging

__all__ = ["options", "plan"]

F = TypeVar("F", bound=Callable[..., Any])

WISHES = ("priority", "delay", "eta", "ttl", "key", "rate_key", "requires")

LIMITS = (
    "rate", "burst", "max_in_flight", "rate_per_key", "burst_per_key", "max_in_flight_per_key", "ageing",
)  # fmt: skip

_OPTIONS = [
    click.option(
        "--priority",
        metavar="EXPR",
        help="Items of a higher number go first, also ahead of what waits at workers. EXPR, here and below, is the "
        "thing itself (but for keys), .name for that field of the item, or file.py:function, which is called with the "
        "item.",
    ),
    click.option(
        "--ageing", metavar="SPAN", help="An item that has waited so long counts as one of a priority higher by 1."
    ),
    click.option("--delay", metavar="EXPR", help="Not before so long after the item was read: 30s, 5m, 2h."),
    click.option("--eta", metavar="EXPR", help="Not before this time: ISO 8601, or seconds since 1970."),
    click.option(
        "--ttl",
        metavar="EXPR",
        help="Give an item up (Expired) if no worker was sent it in this time from when it could begin.",
    ),
    click.option("--key", metavar="EXPR", help="Of items with one key run one at a time, in their order."),
    click.option("--requires", metavar="EXPR", help="Labels that the worker must have: gpu, or gpu=1,big."),
    click.option("--rate", metavar="N/UNIT", help="Start so many items a second at most: 100/s, 30/m, 1000/h."),
    click.option(
        "--burst",
        type=Number(1),
        metavar="N",
        help="So many of them at once after a rest.  [default: what a tenth of a second gives]",
    ),
    click.option("--max-in-flight", type=Whole(1), metavar="N", help="Have N items at workers at most at a time."),
    click.option("--rate-key", metavar="EXPR", help="What tells apart the items for the three options below."),
    click.option("--rate-per-key", metavar="N/UNIT", help="As --rate, for each rate key."),
    click.option("--burst-per-key", type=Number(1), metavar="N", help="As --burst, for each rate key."),
    click.option(
        "--max-in-flight-per-key",
        type=Whole(1),
        metavar="N",
        help="As --max-in-flight, for each rate key.",
    ),
]


def options(function: F) -> F:
    """What goes next, when and where: for `run` and `ventilator`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def plan(
    made: Any, spec: JobSpec, policy: Policy, given: dict[str, Any], staging: Staging | None = None
) -> tuple[Any, Policy]:
    """Return the source, and what is asked of nodes, as what goes next is chosen. Raises UsageError.

    Of a job in stages that is the first one's source, whose items the options are for.
    """
    wishes = {name: given[name] for name in WISHES if given[name] is not None}
    limits = {name: given[name] for name in LIMITS if given[name] is not None}
    if not wishes and not limits and not (staging is not None and staging.wants_schedule):
        return made, policy
    from zpipe.core.claim import Schedule
    from zpipe.schedule import claims
    from zpipe.schedule.planned import PlannedSource

    per_key = [name for name in limits if name.endswith("_per_key")]
    if per_key and "rate_key" not in wishes:
        raise UsageError(f"--{per_key[0].replace('_', '-')} needs --rate-key, which says what the key of an item is")
    if "rate_key" in wishes and not per_key:
        raise UsageError("--rate-key goes with --rate-per-key or --max-in-flight-per-key")
    try:
        limited = claims.schedule(**limits)
        said = claims.Claims(**{name: _meant(name, text) for name, text in wishes.items()})
    except ValueError as error:
        raise UsageError(str(error)) from None
    chosen = limited or Schedule()
    if staging is not None:
        chosen = staging.follow(chosen)
    return PlannedSource(made, said, spec), msgspec.structs.replace(policy, schedule=chosen)


def _meant(name: str, text: str) -> Any:
    from zpipe.running import tasks
    from zpipe.schedule import claims

    if text.startswith("."):
        return claims.field(text)
    if name == "eta" or ":" not in text:
        if name in ("key", "rate_key"):
            raise UsageError(
                f"--{name.replace('_', '-')} {text}: all items would have that one key: write .{text} for that field "
                "of each item, or file.py:function"
            )
        return text if name != "priority" else _priority(text)
    try:
        found = tasks.import_object(text)
    except TaskError as error:
        raise UsageError(f"--{name.replace('_', '-')} {text}: {error}") from error
    if not callable(found):
        raise UsageError(f"--{name.replace('_', '-')} {text} is no function")
    return found


def _priority(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--priority {text}: write a number, .{text} for that field of each item, or file.py:function"
        ) from None
