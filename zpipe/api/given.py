"""What a script gives a pipeline, checked: what can't be fails the call, not the pipeline's thread or its workers."""

from __future__ import annotations

from math import inf
from operator import index
from typing import Any

__all__ = ["check_inline", "heartbeat", "sizes", "whole", "workers"]

LEAST_HEARTBEAT = 0.2
"""Seconds of silence that a busy machine may well take."""


def whole(what: str, given: Any) -> int:
    """Return a number that has to be a whole one. Raises TypeError for others, 2.0 included."""
    try:
        return index(given)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {given!r}") from None


def workers(given: int | None, most: int | None, bind: str | None) -> int | None:
    """Return how many workers there are to be, None if that was left open; `most` is another name of it.

    Raises ValueError for a number that can't be, TypeError for what is none.
    """
    if most is not None and whole("max_workers", most) <= 0:
        raise ValueError("max_workers must be greater than 0")
    wanted = given if given is not None else most
    if wanted is None:
        return None
    wanted = whole("workers", wanted)
    if wanted < 0:
        raise ValueError(f"a pipeline of {wanted} workers can't be: give a number from 0 on, or None for all cores")
    if not wanted and bind is None:
        raise ValueError("a pipeline without workers of its own needs `bind`, an address at which others may join")
    return wanted


def check_inline(given: int | None, most: int | None, bind: str | None, *limits: int | None) -> None:
    """Raise ValueError for what makes no sense in a pipeline that has no workers."""
    if given or most or bind is not None:
        raise ValueError("inline=True is without workers: leave out `workers` and `bind`, or `inline`")
    if any(limit is not None for limit in limits):
        raise ValueError("max_memory and max_tasks_per_worker end a worker's process: with inline=True there is none")


def sizes(chunksize: int | None, buffersize: int | None) -> int | None:
    """Return a map's `chunksize`. Raises as the standard's executors do where either can't be."""
    if chunksize is not None:
        chunksize = whole("chunksize", chunksize)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
    if buffersize is not None:
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
    return chunksize


def heartbeat(given: float) -> float:
    """Return seconds after which silence means loss. Raises ValueError for a number that can't be."""
    if not isinstance(given, int | float) or not LEAST_HEARTBEAT <= given < inf:
        raise ValueError(f"heartbeat={given!r} can't be: give seconds, {LEAST_HEARTBEAT} or more")
    return given
