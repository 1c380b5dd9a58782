"""mpire: process pools with chunks and worker state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peers import Crew

NAME = "mpire"
PACKAGES = ("mpire",)
HOW = "fork, kept alive, imap_unordered, chunks of 10,000"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    from mpire import WorkerPool

    with WorkerPool(workers, start_method="fork", keep_alive=True) as pool:
        yield Crew(
            # What has no length and no iterable_len is made a list first; each item is given as a tuple of one, for
            # an array would be taken apart.
            lambda function, items, chunk: pool.imap_unordered(
                function, ((item,) for item in items), chunk_size=chunk or 10_000, iterable_len=len(items)
            ),
            lambda function, item: pool.apply(function, (item,)),
        )
