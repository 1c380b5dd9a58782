"""How many items a second go through, when the task is nothing at all?

Beside it, in the same rounds, a plain pyzmq PUSH/PULL chain (chain.py) of the same chunk size, which guarantees nothing.

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

WORKERS = 2
NOOP = f"{HERE / 'tasks.py'}:noop"


class Numbers:
    """Integers from 0 that are no sequence: a source must spell them out, though it knows how many there are."""

    def __init__(self, items: int) -> None:
        self._items = items

    def __len__(self) -> int:
        """How many."""
        return self._items

    def __iter__(self) -> Iterator[int]:
        """Yield them."""
        return iter(range(self._items))


class Timed:
    """A source that notes when the first item was taken."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.began = 0.0

    def __getattr__(self, name: str) -> Any:
        """All else is the source's."""
        return getattr(self._source, name)

    def take(self, most: int) -> Any:
        """Take from the source."""
        if not self.began:
            self.began = time.monotonic()
            self.take = self._source.take  # type: ignore[method-assign]
        return self._source.take(most)


def _job(items: int, ranges: bool) -> tuple[Timed, Any, Any, Any]:
    from zpipe.core.director import Policy
    from zpipe.core.wire import JobSpec
    from zpipe.progress import QuietProgress
    from zpipe.sources import IterSource
    from zpipe.tasks import describe
    from zpipe.versions import our_versions

    source = Timed(IterSource(range(items) if ranges else Numbers(items), "numbers"))
    return source, JobSpec(describe(NOOP)), Policy(our_versions(), expect=WORKERS), QuietProgress(sys.stderr)


def embedded(items: int, chunk: int | None, ranges: bool) -> Checked:
    """Run a whole job from this process: what `zpipe run` does."""
    from zpipe.drive import run_job
    from zpipe.outputs import CallOutput

    tally = Tally(items)
    source, spec, policy, progress = _job(items, ranges)
    run_job(source, spec, CallOutput(tally.add), policy, progress, workers=WORKERS, chunk=chunk)
    return tally.check(tally.last - source.began)


def be_ventilator(url: str, items: int, chunk: int, ranges: bool) -> None:
    """Be the ventilator of `separate`: say when the first item was taken."""
    from zpipe.drive import run_ventilator

    source, spec, policy, progress = _job(items, ranges)
    run_ventilator(source, spec, policy, progress, bind=url, chunk=chunk or None)
    print(source.began)


def be_sink(url: str, bind: str, items: int) -> None:
    """Be the sink of `separate`: say when the last value came, and what came."""
    from zpipe.drive import run_sink
    from zpipe.outputs import CallOutput
    from zpipe.progress import QuietProgress

    tally = Tally(items)
    run_sink(CallOutput(tally.add), QuietProgress(sys.stderr), url=url, bind=bind)
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


def systems(many: int, few: int, apart: bool) -> dict[str, Callable[[], Checked]]:
    """Return what is run, by name."""
    plan: dict[str, Callable[[], Checked]] = {}
    for kind, ranges in (("lists", False), ("ranges", True)):
        for chunk in (1000, 10_000) if not apart else (1000,):
            plan[f"chain {kind} {chunk}"] = partial(chain.run, many, chunk, ranges=ranges, apart=apart)
            if not apart:
                plan[f"zpipe {kind} {chunk}"] = partial(embedded, many, chunk, ranges)
        if not apart:
            plan[f"zpipe {kind} auto"] = partial(embedded, many, None, ranges)
            continue
        plan[f"zpipe {kind} auto tcp"] = partial(separate, many, None, ranges, "tcp")
        plan[f"zpipe {kind} auto ipc"] = partial(separate, many, None, ranges, "ipc")
    plan["chain one a message"] = partial(chain.run, few, 1, apart=apart)
    if not apart:
        plan["zpipe one a message"] = partial(embedded, few, 1, False)
    else:
        plan["zpipe one a message tcp"] = partial(separate, few, 1, False, "tcp")
        plan["zpipe one a message ipc"] = partial(separate, few, 1, False, "ipc")
    return plan


def yardstick(name: str) -> str:
    """Return the chain that a system is held against: of its chunk size, or of 1,000 for automatic ones."""
    _, kind, *rest = name.split()
    return "chain one a message" if kind == "one" else f"chain {kind} {rest[0] if rest[0] != 'auto' else 1000}"


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=10_000_000, singles=200_000, apart=False)
    where = harness.environment()
    runs, noise = harness.interleave(systems(options.items, options.singles, options.apart), options.rounds)
    rows = [["", "items/s (median)", "least", "greatest", "items a chunk", "of its chain", "least", "greatest"]]
    figures: dict[str, Any] = {}
    for name, results in runs.items():
        rate = harness.spread(run.rate for run in results)
        size = results[-1].more["chunk"]
        figures[name] = {"rate": rate, "chunk": size}
        row = [name, *(f"{rate[key]:,.0f}" for key in ("median", "min", "max")), f"{size:,.0f}"]
        if name.startswith("zpipe"):
            ratio = harness.spread(harness.per_round(results, runs[yardstick(name)]))
            figures[name]["ratio"] = {"of": yardstick(name), **ratio}
            row += [f"{ratio[key]:.2f}" for key in ("median", "min", "max")]
        rows.append([*row, *[""] * (8 - len(row))])
    text = f"{harness.table(rows)}\n\ncores used by others, round by round: {noise}"
    harness.report(options, where, {"systems": figures, "others": noise}, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-ventilator"]:
        be_ventilator(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")
    elif sys.argv[1:2] == ["be-sink"]:
        be_sink(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
