"""Parsl's HighThroughputExecutor: an interchange and managers, over ZeroMQ."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import Crew, Function, batches, flat, lump

NAME = "parsl HTEX"
PACKAGES = ("parsl",)
HOW = "one block on this host, not encrypted, lists of 10,000 by hand"


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # its interchange.py
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    with tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True) as folder:
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=workers,
            cores_per_worker=0.01,
            encrypted=False,
            prefetch_capacity=workers if short else 0,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = Config([executor], run_dir=folder, usage_tracking=0, strategy="none", initialize_logging=False)
        with parsl.load(config):
            # The executor's own submit: what an app does besides is for dependencies, which there are none of.
            def results(futures: list[Any]) -> Iterator[Any]:
                return (future.result() for future in as_completed(futures))

            def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
                if chunk == 1:
                    return results([executor.submit(function, {}, item) for item in items])
                lists = batches(items, chunk or 10_000)
                return flat(results([executor.submit(lump, {}, function, batch) for batch in lists]))

            yield Crew(run, lambda function, item: executor.submit(function, {}, item).result())
