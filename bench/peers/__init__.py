"""The systems that are measured side by side: one file each, all with the same interface.

A file has `NAME`, `PACKAGES` (whose versions are told), `HOW` (how it is set up, in a few words) and a context manager
`opened(workers, short)` that gives a `Crew` of so many worker processes. `short` says what is to come: many items that
take no time, or else few that take long, for systems that have a setting for that. A file imports its system inside
`opened`, so that the time this takes is part of its cold start; if there is none, the ImportError says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import Any

__all__ = ["ALL", "Crew", "batches", "flat", "lump", "named"]

ALL = (
    "chain",
    "zpipe_",
    "pool",
    "processpool",
    "mpire_",
    "loky_",
    "joblib_",
    "executorlib_",
    "ray_",
    "dask_",
    "ipyparallel_",
    "parsl_",
    "celery_",
    "dramatiq_",
)
"""The files there are, in the order of the tables. Those named like what they import end in an underscore."""

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Crew:
    """Workers that are up.

    `run(function, items, chunk)` yields the results, in any order, and sends `chunk` items at a time; None is the
    system's own choice, or the best of what it was tried with. `call(function, item)` waits for one.
    """

    run: Callable[[Function, Iterable[Any], int | None], Iterable[Any]]
    call: Callable[[Function, Any], Any]


def named(name: str) -> ModuleType:
    """Return a peer's module, of `ALL`."""
    return import_module(f"peers.{name}")


def lump(function: Function, items: list[Any]) -> list[Any]:
    """Run a function over a list: the task that is sent where a system has no chunks of its own."""
    return list(map(function, items))


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of so many items."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def flat(lists: Iterable[list[Any]]) -> Iterator[Any]:
    """Yield what is in the lists."""
    for one in lists:
        yield from one
