"""zpipe itself, embedded: workers are processes of this host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from peers import Crew, Function

NAME = "zpipe"
PACKAGES = ("zpipe",)
HOW = "Pipeline, imap_unordered, automatic chunks; for one a message a Pipeline with chunk=1"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    import zpipe

    with ExitStack() as stack:
        pipe = stack.enter_context(zpipe.Pipeline(workers))
        singles: list[zpipe.Pipeline] = []

        def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
            if chunk != 1 or not short:
                return pipe.imap_unordered(function, items)
            if not singles:  # chunksize=1 would not do: of what takes no time it sends more together
                singles.append(stack.enter_context(zpipe.Pipeline(workers, chunk=1)))
            return singles[0].imap_unordered(function, items)

        yield Crew(run, lambda function, item: pipe.submit(function, item).result())
