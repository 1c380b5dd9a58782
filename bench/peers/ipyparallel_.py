"""ipyparallel: engines behind a controller, over ZeroMQ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function

NAME = "ipyparallel"
PACKAGES = ("ipyparallel",)
HOW = "load-balanced view; of no-ops one chunk an engine"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    import logging
    import sys

    import ipyparallel

    with ipyparallel.Cluster(n=workers, log_level=logging.ERROR) as client:
        direct, balanced = client[:], client.load_balanced_view()
        direct.apply_sync(sys.path.extend, sys.path)

        def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
            if chunk is None:
                return direct.map_async(function, list(items))
            return balanced.map_async(function, list(items), chunksize=chunk, ordered=False)

        yield Crew(run, balanced.apply_sync)
