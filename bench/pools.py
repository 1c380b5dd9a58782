"""What the embedded benchmarks compare: zpipe.Pipeline, the standard library's pools and a bare pyzmq chain, all ready.

Each is given with WORKERS workers that are up and have run something, so that no start is in a figure. The standard
library's pools fork, which is the fastest they have.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice

from harness import Checked, Tally
from tasks import nap

import zpipe

__all__ = ["BLOCK", "WORKERS", "drain", "executor", "pipeline", "pool", "targets"]

WORKERS = 2
BLOCK = 1000
"""Results counted and summed at a time, as the chain does with chunks of 1,000."""


@contextmanager
def pipeline() -> Iterator[zpipe.Pipeline]:
    """Give a Pipeline whose workers are all there. Raises SystemExit if they don't come."""
    with zpipe.Pipeline(workers=WORKERS) as pipe:
        deadline = time.monotonic() + 60
        while pipe.workers < WORKERS:
            if time.monotonic() > deadline:
                raise SystemExit(f"{pipe.workers} of {WORKERS} workers came in a minute")
            time.sleep(0.01)
        list(pipe.map(nap, [0.05] * WORKERS, chunksize=1))
        yield pipe


@contextmanager
def executor() -> Iterator[ProcessPoolExecutor]:
    """Give a ProcessPoolExecutor."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as workers:
        list(workers.map(nap, [0.05] * WORKERS))
        yield workers


@contextmanager
def pool() -> Iterator[multiprocessing.pool.Pool]:
    """Give a multiprocessing.Pool."""
    with multiprocessing.get_context("fork").Pool(WORKERS) as workers:
        workers.map(nap, [0.05] * WORKERS, chunksize=1)
        yield workers
        workers.close()
        workers.join()


def drain(results: Iterable[int], items: int, began: float) -> Checked:
    """Count and sum results as they come; return the run, which `began` then."""
    tally, values = Tally(items), iter(results)
    while block := list(islice(values, BLOCK)):
        tally.add(block)
    return tally.check(tally.last - began)


def targets(rows: Iterable[tuple[str, str, dict[str, float], str, float]]) -> list[list[str]]:
    """Return the table of ratios: (above, below, their ratio's spread, "least" or "most", what it must be)."""
    shown = [["", "ratio (median)", "least", "greatest", "wanted", "reached"]]
    for above, below, ratio, way, wanted in rows:
        reached = ratio["median"] >= wanted if way == "least" else ratio["median"] <= wanted
        figures = [f"{ratio[key]:.2f}" for key in ("median", "min", "max")]
        shown.append([f"{above} / {below}", *figures, f"at {way} {wanted:g}", "yes" if reached else "NO"])
    return shown
