"""multiprocessing.Pool of the standard library, forked: its fastest way to start."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

from peers import Crew

NAME = "multiprocessing.Pool"
PACKAGES = ()
VERSION = platform.python_version()
HOW = "fork, imap_unordered, chunks of 10,000"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield Crew(
            lambda function, items, chunk: pool.imap_unordered(function, items, chunksize=chunk or 10_000),
            lambda function, item: pool.apply(function, (item,)),
        )
