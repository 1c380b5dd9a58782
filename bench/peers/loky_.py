"""loky: the robust process pool below joblib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peers import Crew

NAME = "loky"
PACKAGES = ("loky",)
HOW = "reusable executor, map, chunks of 10,000"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=workers, timeout=60)
    yield Crew(
        lambda function, items, chunk: pool.map(function, items, chunksize=chunk or 10_000),
        lambda function, item: pool.submit(function, item).result(),
    )
    pool.shutdown(wait=True)
