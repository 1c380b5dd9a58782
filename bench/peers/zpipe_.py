"""zpipe itself, embedded: workers are processes of this host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function

NAME = "zpipe"
PACKAGES = ("zpipe",)
HOW = "Pipeline, imap_unordered, automatic chunks in every column but the first"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    import zpipe

    with zpipe.Pipeline(workers) as pipe:

        def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
            return pipe.imap_unordered(function, items, chunksize=1 if chunk == 1 and short else None)

        yield Crew(run, lambda function, item: pipe.submit(function, item).result())
