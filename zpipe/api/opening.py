"""How a script's pipeline begins: from what it was asked for to what does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zpipe.api.engine import Engine
from zpipe.api.notices import CallProgress, LogProgress
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.jobs.terms import terms, wishes
from zpipe.net import endpoints
from zpipe.net.access import Access, admit
from zpipe.report.progress import Progress, Snapshot, make_progress
from zpipe.serialize import dump_function

if TYPE_CHECKING:
    import os

    from zpipe.core.claim import Schedule
    from zpipe.nodes.started import Started

__all__ = ["engine"]


def engine(
    workers: int,
    started: Started | None,
    bind: str | None,
    *,
    inline: bool,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    chunk: int | None,
    progress: bool | Callable[[Snapshot], object],
    heartbeat: float,
    key_file: str | os.PathLike[str] | None,
    insecure: bool,
    speculate: bool,
    labels: Sequence[str],
    limits: dict[str, Any],
    spared: dict[str, Any],
    rates: dict[str, Any],
) -> Engine:
    """Return what does the work of a `Pipeline`, whose arguments these are; `started` has been started for it.

    Raises as that does.
    """
    made, wished = terms(**limits), wishes(key_file=key_file, insecure=insecure, **spared)
    schedule = _schedule(**rates)
    setup = None
    if initializer is not None:
        data = b"" if inline else dump_function(partial(initializer, *initargs))
        name = f"the initializer {getattr(initializer, '__qualname__', repr(initializer))}"
        setup = JobSpec(TaskSpec("pickle", name, data), "outcomes", setup=True)
    unique = spared["unique"]
    given: dict[str, Any] = {
        "setup": setup,
        "chunk": chunk,
        "progress": _progress(progress),
        "terms": made,
        "wishes": wished,
        "key": unique if callable(unique) else None,
        "schedule": schedule,
        "labels": _labels(labels),
    }
    if inline:
        from zpipe.api.inline import InlineEngine

        start = None if initializer is None else partial(initializer, *initargs)
        return InlineEngine(start, access=Access(), **given)
    access = Access()
    if bind is not None:
        access = admit(bind, key_file=key_file, insecure=insecure)
        bind = endpoints.bindable(bind, guarded=access.keys is not None, insecure=insecure)
    return Engine(
        workers=workers, bind=bind, heartbeat=heartbeat, speculate=speculate, access=access, started=started, **given
    )


def _schedule(**limits: Any) -> Schedule | None:
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        return None
    from zpipe.schedule import claims

    return claims.schedule(**given)


def _labels(given: Sequence[str]) -> list[str]:
    if not given:
        return []
    from zpipe.schedule import claims

    return claims.labels(given)


def _progress(wanted: bool | Callable[[Snapshot], object]) -> Progress:
    if wanted is True:
        return make_progress(False, sys.stderr)
    if wanted and not callable(wanted):
        raise TypeError(f"progress={wanted!r} can't be: give True, False, or a function that takes a Snapshot")
    return CallProgress(wanted) if callable(wanted) else LogProgress()
