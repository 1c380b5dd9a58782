"""What was asked for, so that items need not be run, becomes a plan: what they are known by, where outcomes are kept.

The rule: whatever can't be is said here, before anything is run. A pickle is only taken from a file of the user's own,
or from who has the pipeline's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zpipe.caching import cache as caches
from zpipe.caching import digests
from zpipe.caching.redis import RedisOutcomes, is_redis
from zpipe.core.spec import JobSpec
from zpipe.errors import TaskError, UsageError
from zpipe.jobs.terms import Wishes
from zpipe.net.keys import load
from zpipe.nodes.sifting import Plan
from zpipe.output.grouping import field
from zpipe.running.tasks import import_object

__all__ = ["forget_past", "key_of", "key_of_call", "make", "past_path", "stage_identity", "task_identity"]


def make(
    wishes: Wishes,
    identity: Callable[[int], bytes],
    say: Callable[[str], None],
    key: Callable[[int, Any], Any] | None = None,
) -> Plan | None:
    """Return the plan; None where nothing was asked for. `key` is what unique items are known by. Raises UsageError."""
    if not wishes.any:
        return None
    past = cache = None
    with contextlib.ExitStack() as stack:
        if wishes.cache is not None:
            cache = caches.Fallible(_shelf(wishes, wishes.cache), _name(wishes.cache), say)
            stack.callback(cache.close)
        if wishes.unique:
            past = caches.Fallible(caches.Outcomes(wishes.past), "of this job's outcomes", say)
            stack.callback(past.close)
        stack.pop_all()
    return Plan(identity, past, key, cache)


def _shelf(wishes: Wishes, where: str) -> caches.Shelf:
    if not is_redis(where):
        return caches.Outcomes(where, wishes.ttl, wishes.size)
    if wishes.size is not None:
        raise UsageError(f"the size of {_name(where)} is its own to bound: set maxmemory in Redis")
    keys = None if wishes.insecure else load(wishes.key_file)
    if keys is None and wishes.codec == "pickle" and not wishes.insecure:
        raise UsageError(
            f"the cache {_name(where)} would hold pickles, and whoever can write there could run code here: make a key "
            "with `zpipe keygen`, which then seals them, or give --codec json, or --insecure if all who can are trusted"
        )
    return RedisOutcomes(where, wishes.ttl, keys.secrets if keys is not None else ())


def _name(where: str) -> str:
    """Return what a cache is called, without a password."""
    return (
        where if not is_redis(where) else f"{where.partition('://')[0]}://{where.rpartition('@')[2].split('://')[-1]}"
    )


def task_identity(spec: JobSpec) -> Callable[[int], bytes]:
    """Return what tells the identity of a command line's only task."""
    made = _identity(spec)
    return lambda _: made


def stage_identity(specs: Sequence[JobSpec]) -> Callable[[int], bytes]:
    """Return what tells the identity of a stage's task by its number: equal ones have the same."""
    made = [_identity(spec) for spec in specs]
    return lambda number: made[number - 1]


def _identity(spec: JobSpec) -> bytes:
    return hashlib.blake2b(digests.of_task(spec.task) + spec.codec.encode(), digest_size=32).digest()


def key_of(text: str) -> Callable[[int, Any], Any]:
    """Return what gives an item's key: the field of that name, or what `module:function` or `file.py:function` returns.

    Raises UsageError.
    """
    if ":" not in text:
        taken = field(text)
        return lambda _, item: taken(item)
    try:
        found = import_object(text)
    except TaskError as error:
        raise UsageError(f"--unique-by {text} can't be loaded: {error}") from error
    if not callable(found):
        raise UsageError(f"--unique-by {text} is no function, and the name of a field has no colon")
    return lambda _, item: found(item)


def key_of_call(made: Callable[..., object], call: Callable[[int], str]) -> Callable[[int, Any], Any]:
    """Return what gives an item's key where a script says so: `made` is called as the item's task is."""

    def key(number: int, item: Any) -> Any:
        how = call(number)
        if how == "one":
            return made(item)
        return made(*item) if how == "star" else made(*item[0], **item[1])

    return key


def past_path(journal: str | None) -> str:
    """Return the file that keeps a job's own outcomes beside its journal, if that has one."""
    return "" if journal is None else f"{os.fspath(journal)}.unique"


def forget_past(path: str) -> None:
    """Remove that file: the job is done."""
    for name in (path, f"{path}-wal", f"{path}-shm") if path else ():
        with contextlib.suppress(OSError):
            Path(name).unlink()
