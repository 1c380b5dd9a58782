"""Do three stages that cost very differently keep all workers at work, with automatic chunks?

Sleeps of 0.2, 2 and 20 ms an item, one for each stage, in three orders; and with the long ones in the middle, from a
lognormal distribution of that mean, so that some take half a second. On 4 and 8 workers that are there already, through
a chain of maps in a script. What is told is the share of all workers' time, from the call to the last result, in which
they slept: 1 would be the ideal schedule, in which nobody is ever idle. Sleeps need no core, so two are enough to tell.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import harness
from harness import Checked, WrongResult
from tasks import nap, step

import zpipe

STAGES = 3
SHORT, MIDDLE, LONG = 0.0002, 0.002, 0.020

Item = tuple[list[float], list[float]]
"""How long an item is to sleep in each stage, and how long it has slept in those it has been through."""


def even(*seconds: float, count: int) -> list[list[float]]:
    """Return items that all take as long, by stage."""
    return [list(seconds) for _ in range(count)]


def mixed(count: int) -> list[list[float]]:
    """Return items of which the second stage takes 20 ms on average, the middle one 8 ms, half a second at most."""
    draw = random.Random(1)
    return [[SHORT, min(0.5, draw.lognormvariate(-4.82, 1.35)), MIDDLE] for _ in range(count)]


DRAWS: dict[str, Callable[..., list[list[float]]]] = {
    "0.2, 20 and 2 ms": partial(even, SHORT, LONG, MIDDLE),
    "20, 2 and 0.2 ms": partial(even, LONG, MIDDLE, SHORT),
    "0.2, 2 and 20 ms": partial(even, SHORT, MIDDLE, LONG),
    "0.2, 20 and 2 ms, mixed": mixed,
}


def slept(results: Iterable[Item], wanted: Sequence[list[float]]) -> float:
    """Return the seconds that all stages slept together. Raises WrongResult unless each item slept in each of them."""
    found = list(results)
    if sorted(item for item, _ in found) != sorted(wanted):
        raise WrongResult(f"wrong result: {len(found)} items of {len(wanted)}, or other ones")
    if any(len(took) != len(item) or any(map(float.__lt__, took, item)) for item, took in found):
        raise WrongResult("wrong result: an item that slept too short, or was in too few stages")
    return sum(sum(took) for _, took in found)


def chain(pipe: zpipe.Pipeline, workers: int, wanted: list[list[float]]) -> Checked:
    """Run one chain of maps; its `more` has the share of the workers' time that was slept."""
    began = time.monotonic()
    results: Any = pipe.map(step, [(item, list[float]()) for item in wanted])
    for _ in range(STAGES - 1):
        results = results.map(step)
    found = list(results)
    seconds = time.monotonic() - began
    return Checked(len(wanted), seconds, {"share": slept(found, wanted) / workers / seconds})


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, each=100)
    where = harness.environment()
    rows = [["share of the ideal schedule", "median", "least", "greatest", "seconds"]]
    figures: dict[str, Any] = {}
    noise = []
    for workers in (4, 8):
        with zpipe.Pipeline(workers) as pipe:
            while pipe.workers < workers:
                time.sleep(0.01)
            list(pipe.map(nap, [0.05] * workers, chunksize=1))
            drawn = {name: make(count=options.each * workers) for name, make in DRAWS.items()}
            systems = {name: partial(chain, pipe, workers, wanted) for name, wanted in drawn.items()}
            rounds = harness.interleave(systems, options)
        noise.append(rounds.noise())
        for name, runs in rounds.results.items():
            share = harness.spread(run.more["share"] for run in runs)
            seconds = harness.spread(run.seconds for run in runs)
            figures[f"{name}, {workers} workers"] = {"share": share, "seconds": seconds}
            shown = [f"{share[key]:.3f}" for key in ("median", "min", "max")]
            rows.append([f"{name}, {workers} workers", *shown, f"{seconds['median']:.2f}"])
    text = "\n\n".join([harness.table(rows), "\n".join(noise)])
    harness.report(options, where, {"shares": figures, "noise": noise}, text)


if __name__ == "__main__":
    main()
