"""concurrent.futures.ProcessPoolExecutor of the standard library, forked: its fastest way to start."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

from peers import Crew

NAME = "ProcessPoolExecutor"
PACKAGES = ()
VERSION = platform.python_version()
HOW = "fork, map, chunks of 10,000"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        yield Crew(
            lambda function, items, chunk: pool.map(function, items, chunksize=chunk or 10_000),
            lambda function, item: pool.submit(function, item).result(),
        )
