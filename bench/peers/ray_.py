"""ray: tasks and an object store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function, batches, flat, lump

NAME = "ray"
PACKAGES = ("ray",)
HOW = "local, one core a task, no dashboard, lists of 10,000 by hand"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    remotes: dict[Function, Any] = {}
    lumped = ray.remote(lump)

    def remote(function: Function) -> Any:
        return remotes.setdefault(function, ray.remote(function))

    def as_done(references: list[Any]) -> Iterator[Any]:
        while references:
            done, references = ray.wait(references, num_returns=min(len(references), 100), timeout=0.1)
            yield from ray.get(done)

    def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
        if chunk == 1:
            made = remote(function)
            return as_done([made.remote(item) for item in items])
        return flat(as_done([lumped.remote(function, batch) for batch in batches(items, chunk or 10_000)]))

    try:
        yield Crew(run, lambda function, item: ray.get(remote(function).remote(item)))
    finally:
        ray.shutdown()
