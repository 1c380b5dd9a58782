"""How many items a second go through, when the task is nothing at all?

Beside it, in the same rounds, a plain pyzmq PUSH/PULL chain (chain.py) of the same chunk size: no guarantees.

  lists    chunks are pickled lists of ints, in zpipe as in the chain: what items of any other kind cost
  ranges   chunks are pickled ranges, in both; zpipe sends those for --range, and they cost nothing on the way down

The clock runs from the source's first item being taken, when all workers are ready, to the last value's arrival at the
sink, which counts and sums; what automatic chunks lose to starting small and ending small is inside. --apart runs
ventilator, sink and workers as processes of their own, beside the chain with its ventilator in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import chain
import harness
from harness import HERE, Checked, Tally
from workloads import Numbers

WORKERS = 2
NOOP = f"{HERE / 'tasks.py'}:noop"


class First:
    """Notes when the first item is taken from a source, and is not in the way of the others."""

    def __init__(self, source: Any) -> None:
        self.at = 0.0
        self._source, self._take = source, source.take
        source.take = self._first

    def _first(self, most: int) -> Any:
        self.at = time.monotonic()
        self._source.take = self._take
        return self._take(most)


def job(items: int, ranges: bool, expect: int = WORKERS) -> tuple[Any, Any, Any, Any]:
    """Return what runs no-ops over numbers: the source, the job, its policy and its progress."""
    from zpipe.core.policy import Policy
    from zpipe.core.spec import JobSpec
    from zpipe.input.sources import IterSource
    from zpipe.net.versions import our_versions
    from zpipe.report.progress import QuietProgress
    from zpipe.running.tasks import describe

    source = IterSource(range(items) if ranges else Numbers(items), "numbers")
    return source, JobSpec(describe(NOOP)), Policy(our_versions(), expect=expect), QuietProgress(sys.stderr)


def embedded(items: int, chunk: int | None, ranges: bool) -> Checked:
    """Run a whole job from this process: what `zpipe run` does."""
    from zpipe.jobs.drive import run_job
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing

    tally = Tally(items)
    source, spec, policy, progress = job(items, ranges)
    first = First(source)
    run_job(source, spec, Landing(CallOutput(tally.add)), policy, progress, workers=WORKERS, chunk=chunk)
    return tally.check(tally.last - first.at)


def be_ventilator(url: str, items: int, chunk: int, ranges: bool) -> None:
    """Be the ventilator of `separate`: say when the first item was taken."""
    from zpipe.jobs.drive import run_ventilator

    source, spec, policy, progress = job(items, ranges)
    first = First(source)
    run_ventilator(source, spec, policy, progress, bind=url, chunk=chunk or None)
    print(first.at)


def be_sink(url: str, bind: str, items: int) -> None:
    """Be the sink of `separate`: say when the last value came, and what came."""
    from zpipe.jobs.sink import run_sink
    from zpipe.output.folds import CallOutput
    from zpipe.output.landing import Landing
    from zpipe.report.progress import QuietProgress

    tally = Tally(items)
    run_sink(Landing(CallOutput(tally.add)), QuietProgress(sys.stderr), url=url, bind=bind)
    print(tally.last, tally.count, tally.total, tally.lists)


def separate(items: int, chunk: int | None, ranges: bool, transport: str) -> Checked:
    """Run ventilator, sink and workers as three processes (the last with its slots), over tcp or ipc."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        if transport == "tcp":
            url, bind = f"tcp://127.0.0.1:{free_port()}", "tcp://127.0.0.1:*"
        else:
            url, bind = f"ipc://{folder}/control", f"ipc://{folder}/results"
        me = [sys.executable, __file__]
        ventilator = [*me, "be-ventilator", url, str(items), str(chunk or 0), str(int(ranges))]
        start = partial(subprocess.Popen, stdout=subprocess.PIPE, text=True)
        children = [
            start(ventilator),
            start([*me, "be-sink", url, bind, str(items)]),
            start([sys.executable, "-m", "zpipe", "worker", url, "--slots", str(WORKERS), "--quiet"]),
        ]
        try:
            said = [child.communicate(timeout=600)[0].split() for child in children]
        finally:
            for child in children:
                child.kill()
                child.wait()
    tally = Tally(items)
    tally.count, tally.total, tally.lists = map(int, said[1][1:])
    return tally.check(float(said[1][0]) - float(said[0][0]))


def free_port() -> int:
    """Return a port nobody listens on just now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def systems(many: int, few: int, apart: bool) -> Iterator[dict[str, Callable[[], Checked]]]:
    """Yield groups of what is run, by name; each group holds the chains its others are compared with."""
    for kind, ranges in (("lists", False), ("ranges", True)):
        run_chain = partial(chain.run, many, ranges=ranges, apart=apart)
        if apart:
            yield {
                f"chain {kind} 1000": partial(run_chain, 1000),
                f"zpipe {kind} auto tcp": partial(separate, many, None, ranges, "tcp"),
                f"zpipe {kind} auto ipc": partial(separate, many, None, ranges, "ipc"),
            }
            continue
        yield {
            f"chain {kind} 1000": partial(run_chain, 1000),
            f"zpipe {kind} 1000": partial(embedded, many, 1000, ranges),
            f"zpipe {kind} auto": partial(embedded, many, None, ranges),
            f"chain {kind} 10000": partial(run_chain, 10_000),
            f"zpipe {kind} 10000": partial(embedded, many, 10_000, ranges),
        }
    singles: dict[str, Callable[[], Checked]] = {"chain one a message": partial(chain.run, few, 1, apart=apart)}
    if apart:
        singles["zpipe one a message tcp"] = partial(separate, few, 1, False, "tcp")
        singles["zpipe one a message ipc"] = partial(separate, few, 1, False, "ipc")
    else:
        singles["zpipe one a message"] = partial(embedded, few, 1, False)
    yield singles


def yardsticks(name: str) -> list[str]:
    """Return the chains that a system is held against: of its chunk size, of 1,000 and 10,000 for automatic ones."""
    _, kind, size, *apart = name.split()
    if kind == "one":
        return ["chain one a message"]
    if size != "auto":
        return [f"chain {kind} {size}"]
    return [f"chain {kind} 1000"] if apart else [f"chain {kind} 1000", f"chain {kind} 10000"]


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=10_000_000, singles=200_000, apart=False)
    where = harness.environment()
    rows = [["", "items/s (median)", "least", "greatest", "items a chunk"]]
    ratios = [["", "ratio (median)", "least", "greatest"]]
    figures: dict[str, Any] = {}
    noise = []
    for group in systems(options.items, options.singles, options.apart):
        rounds = harness.interleave(group, options)
        noise.append(rounds.noise())
        for name, results in rounds.results.items():
            rate, size = harness.spread(run.rate for run in results), results[-1].more["chunk"]
            figures[name] = {"rate": rate, "chunk": size, "others": rounds.others, "thrown": rounds.thrown}
            rows.append([name, *(f"{rate[key]:,.0f}" for key in ("median", "min", "max")), f"{size:,.0f}"])
            for stick in yardsticks(name) if name.startswith("zpipe") else ():
                ratio = harness.spread(harness.per_round(results, rounds.results[stick]))
                figures[name].setdefault("ratio", {})[stick] = ratio
                ratios.append([f"{name} / {stick}", *(f"{ratio[key]:.2f}" for key in ("median", "min", "max"))])
    text = "\n\n".join([harness.table(rows), harness.table(ratios), "\n".join(noise)])
    harness.report(options, where, {"systems": figures}, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-ventilator"]:
        be_ventilator(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
    elif sys.argv[1:2] == ["be-sink"]:
        be_sink(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
