"""How many chunks a second does one ventilator hand out to 1, 10, 100 and 1,000 workers?

The workers are light: one process plays all of them by the wire protocol, and answers each chunk at once with what it
holds, so that what is measured is the ventilator with its sink (in one process, as in `zpipe run`). One item a chunk.

  one at a time   each chunk is said to have taken 0.2 s, so each worker holds one: every chunk is a message of its own
  many ahead      each is said to have taken 10 µs, so each worker holds many: they travel together

The rate is by the clock, and on two cores the workers' own work is in it; microseconds of processor time of the
ventilator's process for each chunk say the same on a busy machine. Both clocks run when all workers have joined and a
third of the results are there, as each lane gets the more chunks ahead the more it has returned; they end with the last
result, in time for neither a thousand goodbyes nor their sockets.
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
EACH = {"one at a time": 30, "many ahead": 300}
"""Chunks that each worker gets at least, or the start of so many would be all there is to see."""

OF_TEN = 0.8
"""What 1,000 workers must be served at, of 10 workers' rate."""


class Clocks:
    """Hands results on to a tally; notes when a third of them were there and when all were, on both clocks."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._after = tally, tally.items // 3
        self.marks: list[tuple[int, float, float]] = []
        """Results, seconds, and seconds of processor time of this process."""

    def add(self, values: list[int]) -> None:
        """Take one chunk's results."""
        tally = self._tally
        tally.add(values)
        if tally.count >= self._after:
            self.marks.append((tally.count, time.monotonic(), time.process_time()))
            self._after = tally.items if tally.count < tally.items else tally.items + 1


def be_node(count: int, chunks: int, seconds: float) -> None:
    """Be ventilator and sink of a fleet; print how long it took, and the processor time."""
    from zpipe.jobs.drive import run_job
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing

    tally = Tally(chunks)
    clocks = Clocks(tally)
    source, spec, policy, progress = job(chunks, ranges=False, expect=count)
    first = First(source)
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        url = f"ipc://{folder}/control"
        light = subprocess.Popen([sys.executable, fleet.__file__, url, str(count), str(seconds)])
        began = time.monotonic()
        try:
            run_job(source, spec, Landing(CallOutput(clocks.add)), policy, progress, workers=0, bind=url, chunk=1)
        finally:
            light.kill()
            light.wait()
    tally.check(tally.last - first.at)
    done, seconds, processor = (end - start for start, end in zip(*clocks.marks, strict=True))
    told = {"chunks": done, "seconds": seconds, "processor": processor}
    told |= {"joined": first.at - began, "MB": harness.rss()}
    print(json.dumps(told))


def served(count: int, chunks: int, seconds: float) -> Checked:
    """Serve a fleet, in a process of its own."""
    command = [sys.executable, __file__, "be-node", str(count), str(chunks), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    told = json.loads(done.stdout)
    more = {"µs": told["processor"] / told["chunks"] * 1e6, "joined": told["joined"], "MB": told["MB"]}
    return Checked(told["chunks"], told["seconds"], more)


def enough(kind: str, count: int, chunks: int) -> int:
    """Return how many chunks are worth sending: one worker alone waits for each, a thousand are to have some each."""
    return chunks // 5 if count == 1 else max(chunks, EACH[kind] * count)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, chunks=20_000)
    where = harness.environment()
    rows = [["", "chunks/s (median)", "least", "greatest", "of ten's", "µs a chunk", "s to join", "MB"]]
    figures: dict[str, Any] = {}
    noise = []
    for kind, seconds in SECONDS.items():
        systems: dict[str, Callable[[], Checked]] = {
            str(count): partial(served, count, enough(kind, count, options.chunks), seconds) for count in FLEETS
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
