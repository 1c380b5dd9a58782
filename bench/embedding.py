"""How many items a second go through zpipe.Pipeline, when the task is nothing at all?

One at a time: `submit` and waiting for each future, `submit` and as_completed, `map` and `imap_unordered` with chunks
of one; beside the same calls of ProcessPoolExecutor and multiprocessing.Pool, and a bare pyzmq chain with one item a
message. With automatic chunks: `map` and `imap_unordered`; beside the chain with chunks of 1,000 (see chain.py; it
feeds and drains in one thread, over tcp). The items are those of an iterable that has to be spelled out.

Workers are up before the clock starts, which runs from the first call to the last value's arrival.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import chain
import harness
import pools
from harness import Checked
from tasks import noop

TIMES = 5.0
"""What zpipe must be, item by item, in multiples of a ProcessPoolExecutor."""

OF_CHAIN = 0.8
"""What automatic chunks must reach of a chain with chunks of 1,000."""

TARGETS = [
    *((f"zpipe {call}", f"ProcessPoolExecutor {call}", TIMES) for call in ("submit", "as_completed", "map 1")),
    *((f"zpipe {call}", "Pool imap_unordered 1", 1.0) for call in ("submit", "map 1", "imap_unordered 1")),
    *((f"zpipe {call} auto", "chain 1000", OF_CHAIN) for call in ("map", "imap_unordered")),
]

Opened = Callable[[], AbstractContextManager[Any]]


def submit(opened: Opened, items: int) -> Checked:
    """Submit all, then wait for each in turn."""
    with opened() as workers:
        began = time.monotonic()
        futures = [workers.submit(noop, item) for item in range(items)]
        return pools.drain((future.result() for future in futures), items, began)


def completed(opened: Callable[[], AbstractContextManager[Executor]], items: int) -> Checked:
    """Submit all, then take them as they are done."""
    with opened() as workers:
        began = time.monotonic()
        futures = [workers.submit(noop, item) for item in range(items)]
        return pools.drain((future.result() for future in as_completed(futures)), items, began)


def mapped(opened: Opened, method: str, items: int, chunk: int | None) -> Checked:
    """Map with one of the methods there are; None is the Pipeline's automatic chunk size."""
    with opened() as workers:
        began = time.monotonic()
        return pools.drain(getattr(workers, method)(noop, iter(range(items)), chunksize=chunk), items, began)


def singles(items: int) -> dict[str, Callable[[], Checked]]:
    """Return what is run one item at a time, by name."""
    return {
        "chain 1": partial(chain.run, items, 1),
        "zpipe submit": partial(submit, pools.pipeline, items),
        "ProcessPoolExecutor submit": partial(submit, pools.executor, items),
        "zpipe as_completed": partial(completed, pools.pipeline, items),
        "ProcessPoolExecutor as_completed": partial(completed, pools.executor, items),
        "zpipe map 1": partial(mapped, pools.pipeline, "map", items, 1),
        "ProcessPoolExecutor map 1": partial(mapped, pools.executor, "map", items, 1),
        "zpipe imap_unordered 1": partial(mapped, pools.pipeline, "imap_unordered", items, 1),
        "Pool imap_unordered 1": partial(mapped, pools.pool, "imap_unordered", items, 1),
    }


def chunked(items: int) -> dict[str, Callable[[], Checked]]:
    """Return what is run in chunks, by name."""
    return {
        "chain 1000": partial(chain.run, items, 1000),
        "zpipe map auto": partial(mapped, pools.pipeline, "map", items, None),
        "zpipe imap_unordered auto": partial(mapped, pools.pipeline, "imap_unordered", items, None),
        "zpipe map 1000": partial(mapped, pools.pipeline, "map", items, 1000),
    }


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", singles=20_000, items=10_000_000)
    where = harness.environment()
    rows = [["", "items/s (median)", "least", "greatest"]]
    results: dict[str, list[Checked]] = {}
    noise = []
    for group in (singles(options.singles), chunked(options.items)):
        rounds = harness.interleave(group, options)
        noise.append(rounds.noise())
        results |= rounds.results
    rates = {name: harness.spread(run.rate for run in runs) for name, runs in results.items()}
    rows += [[name, *(f"{rate[key]:,.0f}" for key in ("median", "min", "max"))] for name, rate in rates.items()]
    ratios = [
        (above, below, harness.spread(harness.per_round(results[above], results[below])), "least", wanted)
        for above, below, wanted in TARGETS
    ]
    text = "\n\n".join([harness.table(rows), harness.table(pools.targets(ratios)), "\n".join(noise)])
    figures = {f"{above} / {below}": ratio for above, below, ratio, *_ in ratios}
    harness.report(options, where, {"rates": rates, "ratios": figures, "noise": noise}, text)


if __name__ == "__main__":
    main()
