"""joblib: Parallel over loky."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function

NAME = "joblib"
PACKAGES = ("joblib",)
HOW = "loky backend, results unordered as a generator, batches of 10,000"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    from joblib import Parallel, delayed

    def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
        parallel = Parallel(workers, batch_size=chunk or 10_000, return_as="generator_unordered", mmap_mode=None)
        results: Iterable[Any] = parallel(delayed(function)(item) for item in items)
        return results

    with Parallel(workers, batch_size=1) as one:
        yield Crew(run, lambda function, item: one([delayed(function)(item)])[0])
