"""How close do uneven items come to the best possible schedule?

400 sleeps of heavy-tailed length on 8 workers, several draws of them. The best schedule is a list schedule in the given
order: whoever is free takes the next item, at no cost (Graham, 1966); it is simulated with the same sleeps. Longest
first (LPT) would often do better, but takes knowing the lengths. Sleeps need no core, so two cores are enough to tell.

Beside zpipe with automatic chunks, zpipe with chunks of one, ProcessPoolExecutor and multiprocessing.Pool, both with
chunks of one, and all workers started before. The makespan runs from the first sleep's start to the last one's end.

And beside forked processes that have the items already and count them off together: nothing is handed over, so what
they lose is lost by sleeping itself, whose ends come late. Nobody can come closer here.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import harness
from harness import HERE, Checked
from tasks import nap
from workloads import SLEEPERS, SLEEPS, list_schedule, lognormal, makespan

NAP = f"{HERE / 'tasks.py'}:nap"


def pareto(seed: int) -> list[float]:
    """Return sleeps of at least 10 ms with a Pareto tail (alpha 1.4), one second at most."""
    draw = random.Random(seed)
    return [min(1.0, 0.010 * draw.paretovariate(1.4)) for _ in range(SLEEPS)]


def rare(seed: int) -> list[float]:
    """Return sleeps of 5 ms, but 20 of half a second among them."""
    draw = random.Random(seed)
    return draw.sample([0.005] * (SLEEPS - 20) + [0.5] * 20, SLEEPS)


def late(seed: int) -> list[float]:
    """Return a trap: 360 sleeps of 2 ms first, which ask for long chunks, and then 40 of 0.1 to 0.3 s."""
    draw = random.Random(seed)
    return [0.002] * (SLEEPS - 40) + [draw.uniform(0.1, 0.3) for _ in range(40)]


DRAWS: dict[str, Callable[[int], list[float]]] = {"lognormal": lognormal, "pareto": pareto, "rare": rare, "late": late}


def zpipe(sleeps: list[float], chunk: int | None) -> Checked:
    """Sleep in zpipe, embedded."""
    from zpipe.core.policy import Policy
    from zpipe.core.spec import JobSpec
    from zpipe.input.sources import IterSource
    from zpipe.jobs.drive import run_job
    from zpipe.net.versions import our_versions
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing
    from zpipe.report.progress import QuietProgress
    from zpipe.running.tasks import describe

    spans: list[tuple[float, float]] = []
    chunks: list[int] = []

    def take(values: list[tuple[float, float]]) -> None:
        spans.extend(values)
        chunks.append(len(values))

    run_job(
        IterSource(sleeps, "sleeps"),
        JobSpec(describe(NAP)),
        Landing(CallOutput(take)),
        Policy(our_versions(), expect=SLEEPERS),
        QuietProgress(sys.stderr),
        workers=SLEEPERS,
        chunk=chunk,
    )
    return Checked(len(spans), makespan(sleeps, spans), {"longest chunk": max(chunks)})


def bare(sleeps: list[float]) -> Checked:
    """Sleep in forked processes that have nothing to tell each other but which item is next."""
    forked = multiprocessing.get_context("fork")
    taken, together, found = forked.Value("i", 0), forked.Barrier(SLEEPERS), forked.SimpleQueue()

    def work() -> None:
        nap(0.05)
        together.wait()
        spans = []
        while True:
            with taken.get_lock():
                item, taken.value = taken.value, taken.value + 1
            if item >= len(sleeps):
                break
            spans.append(nap(sleeps[item]))
        found.put(spans)

    workers = [forked.Process(target=work) for _ in range(SLEEPERS)]
    for worker in workers:
        worker.start()
    spans = [span for _ in workers for span in found.get()]
    for worker in workers:
        worker.join()
    return Checked(len(sleeps), makespan(sleeps, spans))


def executor(sleeps: list[float]) -> Checked:
    """Sleep in a ProcessPoolExecutor."""
    with ProcessPoolExecutor(SLEEPERS, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(nap, [0.05] * SLEEPERS))
        return Checked(len(sleeps), makespan(sleeps, list(pool.map(nap, sleeps, chunksize=1))))


def pool(sleeps: list[float]) -> Checked:
    """Sleep in a multiprocessing.Pool."""
    with multiprocessing.get_context("fork").Pool(SLEEPERS) as workers:
        workers.map(nap, [0.05] * SLEEPERS, chunksize=1)
        spans = list(workers.imap_unordered(nap, sleeps, chunksize=1))
        workers.close()
        workers.join()
    return Checked(len(sleeps), makespan(sleeps, spans))


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, seeds=2)
    where = harness.environment()
    rows = [["", "makespan / best (median)", "least", "greatest", "share of ideal", "longest chunk"]]
    figures: dict[str, Any] = {}
    noise = []
    for kind, make in DRAWS.items():
        for seed in range(options.seeds):
            sleeps = make(seed)
            best, longest_first = list_schedule(sleeps), list_schedule(sorted(sleeps, reverse=True))
            name = f"{kind} {seed}"
            rounds = harness.interleave(
                {
                    "zpipe auto": partial(zpipe, sleeps, None),
                    "zpipe one": partial(zpipe, sleeps, 1),
                    "ProcessPoolExecutor": partial(executor, sleeps),
                    "multiprocessing.Pool": partial(pool, sleeps),
                    "bare processes": partial(bare, sleeps),
                },
                options,
            )
            noise.append(f"{name}: {rounds.noise()}")
            ideal = sum(sleeps) / SLEEPERS
            title = f"{name}: best {best:.3f} s, longest first {longest_first:.3f} s"
            rows.append([title, "", "", "", f"{ideal / best:.3f}", ""])
            found = figures[name] = {"best": best, "longest first": longest_first, "ideal": ideal, "systems": {}}
            for system, runs in rounds.results.items():
                ratio = harness.spread(run.seconds / best for run in runs)
                share = ideal / (ratio["median"] * best)
                found["systems"][system] = {"ratio": ratio, "share of ideal": share}
                chunk = max(run.more.get("longest chunk", 1) for run in runs)
                figure = [f"{ratio[key]:.3f}" for key in ("median", "min", "max")]
                rows.append([f"  {system}", *figure, f"{share:.3f}", f"{chunk:.0f}"])
    harness.report(options, where, {"draws": figures}, "\n\n".join([harness.table(rows), "\n".join(noise)]))


if __name__ == "__main__":
    main()
