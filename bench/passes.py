"""What is the least that an item of a large chunk costs, in Python? Nanoseconds of processor time, by what is done.

  passes   what nobody can leave out, in one process without a message: items are pulled into lists, pickled, unpickled,
           given to the function, its results pickled, unpickled, and handed to the loop that counts them
  others   the bare chain with chunks of the same size, zpipe and multiprocessing.Pool, all processes taken together

`here` is what the calling process takes of it, all its threads: those share one interpreter lock, so that no system is
faster than that. Nor is it, on two cores, than half of what all processes take.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import harness
from floor import spent
from harness import HERE, Checked
from peers import Crew, batches, named
from tasks import noop
from workloads import Numbers, count

from zpipe.core.chunking import MAX_ITEMS

WORKERS = 2
CHUNKS: dict[str, int | None] = {"chain": MAX_ITEMS, "zpipe_": None, "pool": None}
"""Items a chunk; None: the system's own, or the best it was tried with."""

WARM = (20, 2_000, 50_000, 500_000)
"""Items of the runs before the one that counts."""


def timed(used: dict[str, float], name: str, step: Callable[[], Any]) -> Any:
    """Do a step; add the processor time of this thread to what is known of it."""
    began = time.thread_time_ns()
    made = step()
    used[name] = used.get(name, 0.0) + time.thread_time_ns() - began
    return made


def passes(items: int) -> dict[str, float]:
    """Return nanoseconds an item of each pass, chunk by chunk, in the order of the way there and back."""
    used: dict[str, float] = {}
    pulled = batches(Numbers(items), MAX_ITEMS)

    def chunks() -> Iterator[list[int]]:
        while listed := timed(used, "pull into a list", partial(next, pulled, None)):
            packed = timed(used, "pickle", partial(pickle.dumps, listed, protocol=5))
            timed(used, "let go of it", listed.clear)
            arrived = timed(used, "unpickle in the worker", partial(pickle.loads, packed))
            results = timed(used, "call the function", lambda: list(map(noop, arrived)))  # noqa: B023 (called at once)
            packed = timed(used, "pickle the results", partial(pickle.dumps, results, protocol=5))
            arrived = []
            timed(used, "let go of them", results.clear)
            yield timed(used, "unpickle the results", partial(pickle.loads, packed))

    began = time.thread_time_ns()
    count(chain.from_iterable(chunks()), items)
    used["hand out and count"] = time.thread_time_ns() - began - sum(used.values())
    return {name: nanoseconds / items for name, nanoseconds in used.items()}


def answer(name: str, items: int) -> None:
    """Be a system, and print nanoseconds an item as JSON."""
    if name == "passes":
        passes(WARM[-1])
        found = passes(items)
        print(json.dumps({"all": sum(found.values()), "here": 0.0, "clock": 0.0, **found}))
        return
    with named(name).opened(WORKERS, True) as crew:
        for few in WARM:
            once(crew, name, few)
        began, all_before, here_before = time.monotonic(), spent(), time.process_time()
        ended = once(crew, name, items)
        told = {
            "all": (spent() - all_before) * 1e3,
            "here": (time.process_time() - here_before) * 1e9,
            "clock": (ended - began) * 1e9,
        }
    print(json.dumps({key: value / items for key, value in told.items()}))


def once(crew: Crew, name: str, items: int) -> float:
    """Run so many no-ops; return when the last result came."""
    return count(crew.run(noop, Numbers(items), CHUNKS[name]), items)


def ask(name: str, items: int) -> Checked:
    """Have a system answer, in a process of its own."""
    command = [sys.executable, __file__, "--answer", name, str(items)]
    where = os.pathsep.join(filter(None, [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=120, check=True, env={**os.environ, "PYTHONPATH": where}
    )
    found = json.loads(done.stdout)
    return Checked(items, items * found["all"] / 1e9, found)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=5, items=4_000_000)
    where = harness.environment()
    systems: dict[str, Callable[[], Any]] = {name: partial(ask, name, options.items) for name in ("passes", *CHUNKS)}
    rounds = harness.interleave(systems, options)
    figures: dict[str, Any] = {}
    rows = [["ns an item", "all processes", "least", "greatest", "of the passes", "here", "by the clock"]]
    for name, runs in rounds.results.items():
        known = {key: harness.spread(run.more[key] for run in runs) for key in runs[0].more}
        ratio = harness.spread(harness.per_round(rounds.results["passes"], runs))
        figures[name] = {**known, "ratio": ratio}
        if name == "passes":
            rows += [[f"  {key}", f"{known[key]['median']:.0f}", *[""] * 5] for key in islice(known, 3, None)]
        shown = [f"{known['all'][key]:.0f}" for key in ("median", "min", "max")]
        rest = [f"{known[key]['median']:.0f}" if known[key]["median"] else "" for key in ("here", "clock")]
        rows.append([name.rstrip("_"), *shown, f"{ratio['median']:.2f}", *rest])
    harness.report(options, where, {"passes": figures}, f"{harness.table(rows)}\n\n{rounds.noise()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--answer"]:
        answer(sys.argv[2], int(sys.argv[3]))
    else:
        main()
