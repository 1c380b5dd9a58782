"""How many chunks a second does one ventilator hand out to 1, 10, 100 and 1,000 workers?

The workers are light: one process plays all of them by the wire protocol, and answers each chunk at once with what it
holds, so that what is measured is the ventilator with its sink (in one process, as in `zpipe run`). One item a chunk.

  one at a time   each chunk is said to have taken 0.2 s, so each worker holds one: every chunk is a message of its own
  many ahead      each is said to have taken 10 µs, so each worker holds many: they travel together

The rate is by the clock, and on two cores the workers' own work is in it; microseconds of processor time of the
ventilator's process for each chunk say the same on a busy machine. The clock runs when all workers have joined.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fleet
import harness
from harness import Checked, Tally
from throughput import First, job

FLEETS = (1, 10, 100, 1000)
SECONDS = {"one at a time": 0.2, "many ahead": 1e-5}
EACH = 30
"""Chunks that each worker gets at least, or the start of so many would be all there is to see."""

OF_TEN = 0.8
"""What 1,000 workers must be served at, of 10 workers' rate."""


def be_node(count: int, chunks: int, seconds: float) -> None:
    """Be ventilator and sink of a fleet; print how long it took, and the processor time."""
    from zpipe.jobs.drive import run_job
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing

    tally = Tally(chunks)
    source, spec, policy, progress = job(chunks, ranges=False, expect=count)
    first = First(source, time.process_time)
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        url = f"ipc://{folder}/control"
        light = subprocess.Popen([sys.executable, fleet.__file__, url, str(count), str(seconds)])
        began = time.monotonic()
        try:
            run_job(source, spec, Landing(CallOutput(tally.add)), policy, progress, workers=0, bind=url, chunk=1)
        finally:
            light.kill()
            light.wait()
    used = time.process_time() - first.other
    run = tally.check(tally.last - first.at)
    told = {"seconds": run.seconds, "processor": used, "joined": first.at - began, "MB": harness.rss()}
    print(json.dumps(told))


def served(count: int, chunks: int, seconds: float) -> Checked:
    """Serve a fleet, in a process of its own."""
    command = [sys.executable, __file__, "be-node", str(count), str(chunks), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    told = json.loads(done.stdout)
    more = {"µs": told["processor"] / chunks * 1e6, "joined": told["joined"], "MB": told["MB"]}
    return Checked(chunks, told["seconds"], more)


def enough(count: int, chunks: int) -> int:
    """Return how many chunks are worth sending: one worker alone waits for each, a thousand are to have some each."""
    return chunks // 5 if count == 1 else max(chunks, EACH * count)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, chunks=20_000)
    where = harness.environment()
    rows = [["", "chunks/s (median)", "least", "greatest", "of ten's", "µs a chunk", "s to join", "MB"]]
    figures: dict[str, Any] = {}
    noise = []
    for kind, seconds in SECONDS.items():
        systems: dict[str, Callable[[], Checked]] = {
            str(count): partial(served, count, enough(count, options.chunks), seconds) for count in FLEETS
        }
        rounds = harness.interleave(systems, options)
        noise.append(rounds.noise())
        figures[kind] = {}
        for name, runs in rounds.results.items():
            rate, ratio = harness.spread(run.rate for run in runs), harness.per_round(runs, rounds.results["10"])
            more = {key: harness.spread(run.more[key] for run in runs) for key in ("µs", "joined", "MB")}
            figures[kind][name] = {"rate": rate, "of ten": harness.spread(ratio), **more}
            shown = [f"{rate[key]:,.0f}" for key in ("median", "min", "max")]
            shown += [f"{harness.spread(ratio)['median']:.2f}", f"{more['µs']['median']:.1f}"]
            rows.append([f"{kind}: {name}", *shown, f"{more['joined']['median']:.2f}", f"{more['MB']['median']:.0f}"])
    text = "\n\n".join([harness.table(rows), "\n".join(noise)])
    harness.report(options, where, {"fleets": figures, "wanted": OF_TEN, "noise": noise}, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-node"]:
        be_node(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
