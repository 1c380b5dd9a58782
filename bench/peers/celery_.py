"""Celery, with a redis-server as broker and for the results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peers import Crew, Function, batches, flat, redis_

NAME = "Celery"
PACKAGES = ("celery", "redis")
HOW = "prefork, redis for both, pickle, no rate limits, gossip or events, lists of 10,000 by hand"

service = redis_.server


@contextmanager
def opened(workers: int, short: bool) -> Iterator[Crew]:
    """Give its workers."""
    os.environ["BENCH_PREFETCH"] = "64" if short else "1"
    os.environ["C_FORCE_ROOT"] = "1"
    from peers.celery_tasks import many, one

    command = [sys.executable, "-m", "celery", "-A", "peers.celery_tasks", "worker", "--concurrency", str(workers)]
    command += ["--loglevel", "CRITICAL", "--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def results(sent: list[Any]) -> Iterable[Any]:
        return (result.get() for result in sent)

    def run(function: Function, items: Iterable[Any], chunk: int | None) -> Iterable[Any]:
        if chunk == 1:
            return results([one.delay(function.__name__, item) for item in items])
        return flat(results([many.delay(function.__name__, batch) for batch in batches(items, chunk or 10_000)]))

    try:
        yield Crew(run, lambda function, item: one.delay(function.__name__, item).get())
    finally:
        process.terminate()
        process.wait()
