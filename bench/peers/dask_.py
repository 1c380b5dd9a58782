"""dask.distributed: a scheduler and its workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from peers import Crew, Function, batches, flat, lump

NAME = "dask.distributed"
PACKAGES = ("distributed",)
HOW = "LocalCluster of processes with one thread, no dashboard, lists of 10,000 by hand"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    from distributed import Client, LocalCluster, as_completed

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):

        def results(futures: list[Any]) -> Iterator[Any]:
            for batch in as_completed(futures, with_results=True).batches():
                yield from (value for _, value in batch)

        def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
            if chunk == 1:
                return results(client.map(function, list(items), pure=False))
            lists = list(batches(items, chunk or 10_000))
            return flat(results(client.map(partial(lump, function), lists, pure=False)))

        yield Crew(run, lambda function, item: client.submit(function, item, pure=False).result())
