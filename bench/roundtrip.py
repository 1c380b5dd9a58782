"""How long does one task take there and back, when nothing else is to be done?

`submit(noop, n).result()` on a Pipeline, the next one when the last is back; beside one message there and back through
a bare pyzmq chain with as many workers (chain.py's), over ipc as zpipe does and over tcp, and beside
ProcessPoolExecutor.submit and multiprocessing.Pool.apply. With --pause, so many milliseconds pass before each, so that
whoever keeps looking for work instead of sleeping has no advantage.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import chain
import harness
import pools
from harness import Checked
from tasks import noop

OF_CHAIN = 2.5
"""What a round trip may take, in multiples of the chain's over ipc."""

WARM = 50
"""Round trips before those that count."""


def trips(once: Callable[[int], int], items: int, pause: float) -> Checked:
    """Make round trips; return the run with their median and 99th percentile. Raises SystemExit on a wrong answer."""
    took = []
    for item in range(-WARM, items):
        if pause:
            time.sleep(pause / 1000)
        began = time.perf_counter()
        answer = once(item)
        seconds = time.perf_counter() - began
        if answer != item:
            raise SystemExit(f"wrong result: {answer} for {item}")
        if item >= 0:
            took.append(seconds * 1e6)
    took.sort()
    return Checked(items, sum(took) / 1e6, {"median": took[items // 2], "99 %": took[items * 99 // 100]})


def through_chain(items: int, pause: float, transport: str) -> Checked:
    """One message at a time through the chain."""

    def once(item: int) -> Any:
        push.send(pickle.dumps(item, protocol=5))
        return pickle.loads(pull.recv())

    worker = [sys.executable, chain.__file__, "work"]
    with pools.bare(lambda *ends: [*worker, *ends, "1"], transport) as (push, pull):
        return trips(once, items, pause)


def through_pipeline(items: int, pause: float) -> Checked:
    """One future at a time."""
    with pools.pipeline() as pipe:
        return trips(lambda item: pipe.submit(noop, item).result(), items, pause)


def through_executor(items: int, pause: float) -> Checked:
    """One future at a time."""
    with pools.executor() as workers:
        return trips(lambda item: workers.submit(noop, item).result(), items, pause)


def through_pool(items: int, pause: float) -> Checked:
    """One call at a time."""
    with pools.pool() as workers:
        return trips(lambda item: workers.apply(noop, (item,)), items, pause)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=2000, pause=0.0)
    where = harness.environment()
    systems: dict[str, Callable[..., Checked]] = {
        "chain ipc": partial(through_chain, transport="ipc"),
        "chain tcp": partial(through_chain, transport="tcp"),
        "zpipe": through_pipeline,
        "ProcessPoolExecutor": through_executor,
        "multiprocessing.Pool": through_pool,
    }
    rounds = harness.interleave(
        {name: partial(system, options.items, options.pause) for name, system in systems.items()}, options
    )
    rows = [["µs there and back", "median (median)", "least", "greatest", "99 % are below"]]
    figures: dict[str, Any] = {}
    for name, runs in rounds.results.items():
        median, slow = (harness.spread(run.more[key] for run in runs) for key in ("median", "99 %"))
        figures[name] = {"median": median, "99 %": slow}
        rows.append([name, *(f"{median[key]:,.0f}" for key in ("median", "min", "max")), f"{slow['median']:,.0f}"])
    ratios = []
    for above in ("zpipe", "ProcessPoolExecutor", "multiprocessing.Pool"):
        ratio = harness.per_round(rounds.results[above], rounds.results["chain ipc"], lambda run: run.more["median"])
        figures[above]["ratio"] = harness.spread(ratio)
        ratios.append((above, "chain ipc", figures[above]["ratio"], "most", OF_CHAIN))
    text = "\n\n".join([harness.table(rows), harness.table(pools.targets(ratios)), rounds.noise()])
    harness.report(options, where, {"systems": figures, "others": rounds.others}, text)


if __name__ == "__main__":
    main()
