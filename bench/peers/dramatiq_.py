"""dramatiq, with a redis-server as broker and for the results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function, batches, flat, redis_

NAME = "dramatiq"
PACKAGES = ("dramatiq", "redis")
HOW = "processes with one thread, redis for both, pickle, lists of 10,000 by hand"

service = redis_.server


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    if not short:
        os.environ["dramatiq_queue_prefetch"] = "1"  # noqa: SIM112 (that is its name)
    from peers.dramatiq_tasks import many, one

    command = [sys.executable, "-m", "dramatiq", "peers.dramatiq_tasks", "--processes", str(workers), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def results(sent: list[Any]) -> Iterator[Any]:
        for message in sent:
            yield message.get_result(block=True, timeout=120_000)

    def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
        if chunk == 1:
            return results([one.send(function.__name__, item) for item in items])
        return flat(results([many.send(function.__name__, batch) for batch in batches(items, chunk or 10_000)]))

    try:
        yield Crew(run, lambda function, item: one.send(function.__name__, item).get_result(block=True, timeout=60_000))
    finally:
        process.terminate()
        process.wait()
