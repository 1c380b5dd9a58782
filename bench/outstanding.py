"""How much memory do many futures take, and many items?

Futures: 1,000,000 calls of `submit` while the workers are held up, so that all are outstanding at once; then the
workers are let go, and all results taken. Beside them as many bare concurrent.futures.Future objects in a list, and
with --peer a ProcessPoolExecutor. Bytes are of resident memory, for each future: at a tenth of them, at all, and at the
most there was until all were done.

Items: `map`, `imap_unordered` and `reduce` over 10,000,000, from a range and from a generator. Resident memory of the
script and of the larger worker, at a tenth of the items and at all.

Each runs in a process of its own (Linux).
"""

from __future__ import annotations

import json
import operator
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import harness
import pools
from harness import Tally
from tasks import noop

LIMIT = 20.0
"""MB that a process may grow by between a tenth of the items and all of them."""

PATIENCE = 60.0
"""Seconds in which a worker has to begin what it is given."""

ITEM_ROLES = ["map range", "map generator", "imap_unordered range", "imap_unordered generator", "reduce generator"]

Noted = dict[str, float]


def hold(started: str, gate: str) -> None:
    """Say that this began, and keep the worker until the gate is there."""
    Path(started).touch()
    while not Path(gate).exists():
        time.sleep(0.01)


def _hold_up(workers: Any, folder: Path) -> None:
    """Keep every worker busy until `folder / "gate"` is there."""
    for number in range(pools.WORKERS):
        started = folder / f"started {number}"
        workers.submit(hold, str(started), str(folder / "gate"))
        deadline = time.monotonic() + PATIENCE
        while not started.exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"{number} of {pools.WORKERS} workers could be held up")
            time.sleep(0.01)


def _growth(make: Callable[[int], Future[int]], items: int) -> tuple[list[Future[int]], Noted]:
    """Make futures; return them, and what was noted meanwhile."""
    before, began = harness.rss(), time.monotonic()
    futures = [make(item) for item in range(items // 10)]
    tenth = harness.rss() - before
    futures += [make(item) for item in range(items // 10, items)]
    seconds, all_ = time.monotonic() - began, harness.rss() - before
    undone = sum(not future.done() for future in futures)
    sizes = {"tenth": tenth * 1e6 / (items // 10), "all": all_ * 1e6 / items, "before": before}
    return futures, {**sizes, "seconds": seconds, "undone": undone}


def _peak(noted: Noted, items: int) -> float:
    """Return the most bytes a future there ever were in this process."""
    most = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - noted["before"] * 1e6) / items
    return max(most, noted["all"])


def bare_futures(items: int) -> Noted:
    """Make futures that are nobody's."""
    futures, noted = _growth(_nobodys, items)
    for item, future in enumerate(futures):
        future.set_result(item)
    return {**noted, "peak": _peak(noted, items)}


def _nobodys(_: int) -> Future[int]:
    return Future()


def submitted(opened: Callable[[], Any], items: int) -> Noted:
    """Submit while the workers are held up; let them go; take all results. Raises SystemExit if one is wrong."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder, opened() as workers:
        _hold_up(workers, Path(folder))
        try:
            futures, noted = _growth(partial(workers.submit, noop), items)
        finally:
            Path(folder, "gate").touch()
        run = pools.drain((future.result() for future in futures), items, time.monotonic())
        return {**noted, "peak": _peak(noted, items), "drained": run.seconds}


def _memory() -> tuple[float, float]:
    """Return the MB of this process, and of the largest one below it."""
    return harness.rss(), max(map(harness.rss, harness.descendants(os.getpid())), default=0.0)


def _numbers(items: int, noted: list[tuple[float, float]]) -> Iterator[int]:
    """Yield integers from 0; note the memory when a tenth was taken, and when all were."""
    yield from range(items // 10)
    noted.append(_memory())
    yield from range(items // 10, items)
    noted.append(_memory())


def _consume(results: Iterable[int], items: int) -> list[tuple[float, float]]:
    """Take all results; return the memory when a tenth had come, and when all had."""
    tally, noted, values = Tally(items), [], iter(results)
    marks = [items // 10, items]
    while block := list(islice(values, pools.BLOCK)):
        tally.add(block)
        if marks and tally.count >= marks[0]:
            del marks[0]
            noted.append(_memory())
    tally.check(1.0)
    return noted


def over_items(method: str, kind: str, items: int) -> Noted:
    """Run a method of a Pipeline over many items. Raises SystemExit on a wrong result."""
    noted: list[tuple[float, float]] = []
    with pools.pipeline() as pipe:
        began = time.monotonic()
        if method == "reduce":
            total = pipe.reduce(noop, _numbers(items, noted), operator.add, 0)
            if total != items * (items - 1) // 2:
                raise SystemExit(f"wrong result: sum {total}")
        else:
            source = range(items) if kind == "range" else iter(range(items))
            noted = _consume(getattr(pipe, method)(noop, source), items)
        seconds = time.monotonic() - began
    (tenth, worker_tenth), (all_, worker_all) = noted
    return {"tenth": tenth, "all": all_, "workers tenth": worker_tenth, "workers all": worker_all, "seconds": seconds}


def be(role: str, items: int) -> Noted:
    """Be one of the processes; return what was noted."""
    if role == "Future()":
        return bare_futures(items)
    if role.endswith("submit"):
        return submitted(pools.pipeline if role.startswith("zpipe") else pools.executor, items)
    method, kind = role.split()
    return over_items(method, kind, items)


def child(role: str, items: int) -> Noted:
    """Run a role in a process of its own."""
    command = [sys.executable, __file__, role, str(items)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1800, check=False)
    if done.returncode:
        raise SystemExit(f"{role} did not come to its end: status {done.returncode}")
    noted: Noted = json.loads(done.stdout)
    return noted


def futures_table(results: dict[str, list[Noted]]) -> list[list[str]]:
    """Return the table of what futures take."""
    sized = ["bytes a future, at a tenth", "at all", "at most", "times Future()"]
    rows = [["", *sized, "outstanding", "s to submit", "s to take"]]
    middle = {
        role: {key: harness.spread(run[key] for run in runs)["median"] for key in runs[0]}
        for role, runs in results.items()
    }
    for role, noted in middle.items():
        sizes = [f"{noted[key]:,.0f}" for key in ("tenth", "all", "peak")]
        times = f"{noted['all'] / middle['Future()']['all']:.2f}"
        taken = f"{noted['drained']:.1f}" if "drained" in noted else ""
        rows.append([role, *sizes, times, f"{noted['undone']:,.0f}", f"{noted['seconds']:.1f}", taken])
    return rows


def items_table(results: dict[str, list[Noted]]) -> list[list[str]]:
    """Return the table of what items take: of each role the round that grew most."""
    rows = [["", "MB at a tenth", "MB at all", "growth", f"below {LIMIT:g} MB", "seconds"]]
    for role, runs in results.items():
        for whose, prefix in (("script", ""), ("larger worker", "workers ")):
            pairs = [(run[f"{prefix}tenth"], run[f"{prefix}all"], run["seconds"]) for run in runs]
            tenth, all_, seconds = max(pairs, key=lambda pair: pair[1] - pair[0])
            grown = all_ - tenth
            ok = "yes" if grown < LIMIT else "NO"
            rows.append([f"{role}: {whose}", f"{tenth:.1f}", f"{all_:.1f}", f"{grown:+.1f}", ok, f"{seconds:.1f}"])
    return rows


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=1, futures=1_000_000, items=10_000_000, peer=False)
    where = harness.environment()
    roles = ["Future()", "zpipe submit", *(["ProcessPoolExecutor submit"] if options.peer else [])]
    futures = harness.interleave({role: partial(child, role, options.futures) for role in roles}, options)
    items = harness.interleave({role: partial(child, role, options.items) for role in ITEM_ROLES}, options)
    tables = [harness.table(futures_table(futures.results)), harness.table(items_table(items.results))]
    noise = f"{futures.noise()}\n{items.noise()}"
    figures = {"futures": futures.results, "items": items.results, "noise": noise}
    harness.report(options, where, figures, "\n\n".join([*tables, noise]))


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        print(json.dumps(be(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
