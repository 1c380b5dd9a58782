"""executorlib: futures over ZeroMQ, for simulations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from peers import Crew, Function, batches, flat, lump

NAME = "executorlib"
PACKAGES = ("executorlib",)
HOW = "SingleNodeExecutor, block allocation (a standing pool), lists of 10,000 by hand"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    from executorlib import SingleNodeExecutor

    with SingleNodeExecutor(max_workers=workers, block_allocation=True) as pool:

        def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
            if chunk == 1:
                return (future.result() for future in [pool.submit(function, item) for item in items])
            futures = [pool.submit(partial(lump, function), batch) for batch in batches(items, chunk or 10_000)]
            return flat(future.result() for future in futures)

        yield Crew(run, lambda function, item: pool.submit(function, item).result())
