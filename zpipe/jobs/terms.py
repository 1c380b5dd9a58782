"""On what terms a script's pipeline runs items: when one is tried again, what it may take. Decides nothing about them.

The rule: what the command line has as options has the same meaning here, under the same name, except that an item's
`--timeout` is `item_timeout`: the `timeout` of `map` is how long to wait for results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict

import msgspec

from zpipe.core.spec import Codec, JobSpec, TaskSpec
from zpipe.core.wire import MAX_WIDTH

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Limits", "RetryOn", "Terms", "Wishes", "terms", "wishes"]

RetryOn = type[BaseException] | Iterable[type[BaseException]] | None
"""Exception types, one or several, after which an item is tried again; None: after all."""


class Limits(TypedDict, total=False):
    """The keywords of `terms` and `wishes`, and of what a schedule holds to, for those that hand them on."""

    retries: int
    retry_delay: float
    retry_max_delay: float
    retry_on: RetryOn
    item_timeout: float | None
    max_memory: int | None
    max_crashes: int
    max_tasks_per_worker: int | None
    concurrency: int | None
    unique: bool | Callable[..., object]
    cache: str | os.PathLike[str] | None
    cache_ttl: float | None
    cache_size: int | None
    rate: float | str | None
    burst: float | None
    max_in_flight: int | None
    rate_per_key: float | str | None
    burst_per_key: float | None
    max_in_flight_per_key: int | None
    ageing: float | str | timedelta | None
    labels: Sequence[str]


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


class Wishes(msgspec.Struct, frozen=True):
    """What a person asked for.

    unique: whether equal items are run once. `cache` is a file or the address of a Redis, in which outcomes are fresh
    for `ttl` seconds (None: for ever), and which may have `size` bytes (None: any number; a file only). `past` is the
    file that has the job's own outcomes (empty: one that ends with this process).
    """

    unique: bool = False
    cache: str | None = None
    ttl: float | None = None
    size: int | None = None
    codec: Codec = "pickle"
    key_file: str | None = None
    insecure: bool = False
    past: str = ""

    @property
    def any(self) -> bool:
        """Whether anything was."""
        return self.unique or self.cache is not None


def wishes(
    *,
    unique: bool | Callable[..., object] = False,
    cache: str | os.PathLike[str] | None = None,
    cache_ttl: float | None = None,
    cache_size: int | None = None,
    key_file: str | os.PathLike[str] | None = None,
    insecure: bool = False,
) -> Wishes:
    """Return what a script asked for; see `Pipeline`. Raises ValueError and TypeError for what makes no sense."""
    if not (isinstance(unique, bool) or callable(unique)):
        raise TypeError(f"unique={unique!r} can't be: give True, or a function of what a task is called with")
    if cache is not None and not os.fspath(cache):
        raise ValueError("cache is empty: give the path of a file, or None")
    for name, value, kinds in (("cache_ttl", cache_ttl, int | float), ("cache_size", cache_size, int)):
        if value is None:
            continue
        if not isinstance(value, kinds) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{name}={value!r} can't be: give a number more than 0, or None")
        if cache is None:
            raise ValueError(f"{name} without a cache makes no sense: name one, or leave it out")
    return Wishes(
        unique=bool(unique),
        cache=None if cache is None else os.fspath(cache),
        ttl=cache_ttl,
        size=cache_size,
        key_file=None if key_file is None else os.fspath(key_file),
        insecure=insecure,
    )
