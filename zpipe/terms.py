"""On what terms a script's pipeline runs items: when one is tried again, what it may take. Decides nothing about them.

The rule: what the command line has as options has the same meaning here, under the same name, except that an item's
`--timeout` is `item_timeout`: the `timeout` of `map` is how long to wait for results.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import msgspec

from zpipe.core.wire import MAX_WIDTH, JobSpec, TaskSpec

__all__ = ["Limits", "RetryOn", "Terms", "terms"]

RetryOn = type[BaseException] | Iterable[type[BaseException]] | None
"""Exception types, one or several, after which an item is tried again; None: after all."""


class Limits(TypedDict, total=False):
    """The keywords of `terms`, for those that hand them on."""

    retries: int
    retry_delay: float
    retry_max_delay: float
    retry_on: RetryOn
    item_timeout: float | None
    max_memory: int | None
    max_crashes: int
    max_tasks_per_worker: int | None
    concurrency: int | None


class Terms(msgspec.Struct, frozen=True):
    """`spec` is what workers are told of each function, but for the function; `max_crashes` is the pipeline's."""

    spec: JobSpec
    max_crashes: int


def terms(
    *,
    retries: int = 0,
    retry_delay: float = 1.0,
    retry_max_delay: float = 60.0,
    retry_on: RetryOn = None,
    item_timeout: float | None = None,
    max_memory: int | None = None,
    max_crashes: int = 3,
    max_tasks_per_worker: int | None = None,
    concurrency: int | None = None,
) -> Terms:
    """Return the terms; see `Pipeline`. Raises ValueError and TypeError for what makes no sense."""
    for name, value, least in (
        ("retries", retries, 0),
        ("retry_delay", retry_delay, 0),
        ("retry_max_delay", retry_max_delay, 0),
        ("max_memory", max_memory, 1),
        ("max_crashes", max_crashes, 1),
        ("max_tasks_per_worker", max_tasks_per_worker, 1),
        ("concurrency", concurrency, 1),
    ):
        kinds, number = ((int, float), "number") if name.endswith("delay") else (int, "whole number")
        if value is None and name in ("max_memory", "max_tasks_per_worker", "concurrency"):
            continue
        if not (isinstance(value, kinds) and value >= least):
            raise ValueError(f"{name}={value!r} can't be: give a {number} from {least} on")
    if item_timeout is not None and not (isinstance(item_timeout, int | float) and item_timeout > 0):
        raise ValueError(f"item_timeout={item_timeout!r} can't be: give seconds, more than 0, or None")
    spec = JobSpec(
        TaskSpec("import", "operator:not_"),  # until there is a function
        "outcomes",
        retries=retries,
        retry_delay=retry_delay,
        retry_max_delay=retry_max_delay,
        retry_on=_names(retry_on),
        timeout=item_timeout or 0.0,
        max_memory=max_memory or 0,
        max_tasks=max_tasks_per_worker or 0,
        concurrency=min(concurrency or 0, MAX_WIDTH),
    )
    return Terms(spec, max_crashes)


def _names(types: RetryOn) -> list[str]:
    if types is None:
        return []
    listed = list(types) if isinstance(types, Iterable) and not isinstance(types, type) else [types]
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on takes exception types, not {kind!r}")
    if not listed:
        raise ValueError("retry_on without a type would never try again: leave it out, or say retries=0")
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in listed]
