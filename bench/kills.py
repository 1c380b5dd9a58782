"""Does every item come out exactly once, while workers are killed all the time?

100,000 items on 4 workers, written to a file by `zpipe run`; every 300 ms a worker, drawn at random, gets SIGKILL, and
its slot starts a new one. Each value says which attempt it came from, which process made it and when. So it can be told
how long a killed worker's chunk took to run elsewhere, and how long until a new process was at work.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import harness
from harness import HERE

WORKERS = 4
EVERY = 0.3
LIMIT = 180.0
"""Seconds after which a job counts as hung: unharmed it takes ten on two cores."""


def supervised(pid: int) -> list[int]:
    """Return the worker processes of the `zpipe run` with this pid: what its supervisor has forked."""
    return [child for supervisor in harness.descendants(pid)[:1] for child in harness.descendants(supervisor)]


def attack(process: subprocess.Popen[str], draw: random.Random) -> list[tuple[float, int]]:
    """Kill a worker every 300 ms until the process ends; return when and whom. Raises SystemExit if it never does."""
    kills: list[tuple[float, int]] = []
    due = time.monotonic() + 1.0
    until = due + LIMIT
    while True:
        try:
            process.wait(max(0.0, due - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        else:
            return kills
        workers = supervised(process.pid)
        if due > until:
            raise SystemExit(f"hung: not done after {LIMIT:g} s and {len(kills)} kills, {len(workers)} workers left")
        due += EVERY
        if workers:
            victim = draw.choice(workers)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills.append((time.monotonic(), victim))


def check(lines: list[bytes], items: int) -> list[tuple[int, int, int, float]]:
    """Return all values in order of their time. Raises SystemExit unless each item is there exactly once."""
    records = [json.loads(line) for line in lines]
    if sorted(record["index"] for record in records) != list(range(items)):
        raise SystemExit(f"wrong result: {len(records)} records, not each of {items} items once")
    values = [record["value"] for record in records]
    if any(value[0] != record["item"] for value, record in zip(values, records, strict=True)):
        raise SystemExit("wrong result: a value is another item's")
    return sorted(values, key=lambda value: value[3])


def recoveries(kills: list[tuple[float, int]], values: list[Any]) -> tuple[list[float], list[float]]:
    """Return, in seconds after a kill, when an item sent again first ran, and when a process new since then first did.

    A kill that is followed by the next before that is left out, and so is one of a worker that held nothing.
    """
    again = []
    before: dict[int, tuple[int, int]] = {}
    for item, attempt, pid, began in values:
        if attempt > 1 and before.get(pid) != (item - 1, attempt):  # not one sent again earlier, still running
            again.append(began)
        before[pid] = (item, attempt)
    first: dict[int, float] = {}
    for _, _, pid, began in values:
        first.setdefault(pid, began)
    fresh = sorted(first.values())
    ends = [*(when for when, _ in kills[1:]), float("inf")]
    found: tuple[list[float], list[float]] = ([], [])
    for (when, _), until in zip(kills, ends, strict=True):
        for times, into in zip((again, fresh), found, strict=True):
            at = bisect_left(times, when)
            if at < len(times) and times[at] < until:
                into.append(times[at] - when)
    return found


def run(items: int, seed: int) -> dict[str, Any]:
    """Run a job under attack; return its figures."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        output = Path(folder) / "out.jsonl"
        command = [sys.executable, "-m", "zpipe", "run", f"{HERE / 'tasks.py'}:stamp", "--range", f"0:{items}"]
        command += ["--workers", str(WORKERS), "--output", str(output), "--json", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            kills = attack(process, random.Random(seed))
            summary = json.loads(process.communicate(timeout=60)[0])
        finally:
            process.terminate()  # its workers go with it
            process.wait()
        values = check(output.read_bytes().splitlines(), items)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {summary}")
    again, fresh = recoveries(kills, values)
    return {
        "kills": len(kills),
        "seconds": summary["seconds"],
        "lost": summary["lost"],
        "requeued": summary["requeued"],
        "duplicates": summary["duplicates"],
        "items sent again": sum(attempt > 1 for _, attempt, _, _ in values),
        "processes": len({pid for _, _, pid, _ in values}),
        "elsewhere": [round(seconds, 4) for seconds in again],
        "replaced": [round(seconds, 4) for seconds in fresh],
    }


def main() -> None:
    """Run, check, print."""
    options = harness.arguments(__doc__ or "", rounds=3, items=100_000)
    where = harness.environment()
    runs = [run(options.items, seed) for seed in range(options.rounds)]
    shown = ["kills", "seconds", "lost", "requeued", "duplicates", "items sent again", "processes"]
    rows = [["run, each item exactly once", *shown]]
    rows += [[f"{n}", *(f"{found[key]:,.4g}" for key in shown)] for n, found in enumerate(runs)]
    times = [["milliseconds from a kill", "median", "least", "greatest", "of kills"]]
    figures: dict[str, Any] = {"runs": runs}
    total = sum(found["kills"] for found in runs)
    for key, text in (("elsewhere", "until its chunk runs elsewhere"), ("replaced", "until a new process runs items")):
        measured = [seconds for found in runs for seconds in found[key]]
        if measured:
            figure = figures[key] = harness.spread(measured)
            shown_times = (f"{figure[k] * 1000:.1f}" for k in ("median", "min", "max"))
            times.append([text, *shown_times, f"{figure['n']}/{total}"])
    harness.report(options, where, figures, f"{harness.table(rows)}\n\n{harness.table(times)}")


if __name__ == "__main__":
    main()
