"""Does an item cost the same, and memory stay flat, from 10,000 items to 100,000,000?

No-ops over a range in automatic chunks, counted and summed: what `zpipe run --range` does. Nanoseconds an item, from
the first item's being taken to the last value's arrival, and what ventilator, sink and the largest worker hold at the
end, each size in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import harness
from harness import Checked, Tally
from throughput import WORKERS, First, job

SIZES = tuple(10**n for n in range(4, 9))


def be_job(items: int) -> None:
    """Be the whole job; print what it took."""
    from zpipe.jobs.drive import run_job
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing

    tally, largest = Tally(items), 0.0
    source, spec, policy, progress = job(items, ranges=True)
    first = First(source)

    def add(values: list[int]) -> None:
        nonlocal largest
        tally.add(values)
        if tally.count >= items:  # workers are still there
            largest = max(map(harness.rss, harness.descendants(os.getpid())), default=0.0)

    run_job(source, spec, Landing(CallOutput(add)), policy, progress, workers=WORKERS)
    run = tally.check(tally.last - first.at)
    print(json.dumps({"seconds": run.seconds, "MB": harness.rss(), "worker MB": largest}))


def through(items: int) -> Checked:
    """Run so many, in processes of their own."""
    done = subprocess.run([sys.executable, __file__, "be-job", str(items)], stdout=subprocess.PIPE, timeout=900)
    if done.returncode:
        raise SystemExit(f"{items:,} items did not come to their end: status {done.returncode}")
    told = json.loads(done.stdout)
    seconds = told.pop("seconds")
    return Checked(items, seconds, {**told, "ns": seconds / items * 1e9})


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", most=SIZES[-1])
    where, began = harness.environment(), time.monotonic()
    sizes = [size for size in SIZES if size <= options.most]
    rounds = harness.interleave({f"{size:,}": partial(through, size) for size in sizes}, options)
    rows = [["items", "ns an item (median)", "least", "greatest", "MB", "largest worker's MB"]]
    figures: dict[str, Any] = {}
    for name, runs in rounds.results.items():
        found = {key: harness.spread(run.more[key] for run in runs) for key in ("ns", "MB", "worker MB")}
        figures[name] = found
        shown = [f"{found['ns'][key]:,.0f}" for key in ("median", "min", "max")]
        rows.append([name, *shown, *(f"{found[key]['median']:.1f}" for key in ("MB", "worker MB"))])
    text = "\n\n".join([harness.table(rows), f"{time.monotonic() - began:.0f} s; {rounds.noise()}"])
    harness.report(options, where, {"sizes": figures, "noise": [rounds.noise()]}, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-job"]:
        be_job(int(sys.argv[2]))
    else:
        main()
