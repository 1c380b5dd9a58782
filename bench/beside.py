"""How fast is it beside others? The same functions through every system in `peers/`, here, in the same minutes.

  single    no-op items a second, one item a message
  chunks    no-op items a second, in chunks: the system's own, or the best it was tried with
  1 MiB     MiB a second of numpy arrays there and back
  64 KiB    the same of smaller ones, in chunks of 16 where the system doesn't choose
  trip      one item there and back, idle, in microseconds
  sleeps    400 uneven sleeps on 8 workers: the share of the best list schedule
  cold      seconds from the interpreter's start to the first result

Each system runs in a process of its own, with two workers (eight for the sleeps), and is closed before the next one's
turn. They are run in groups: the bare chain and zpipe in each, and a few others; so that a ratio to the chain is always
of one round of a minute or so. What can't be run says why.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import harness
import strays
from harness import HERE
from peers import ALL, named

WORKERS = 2
SLEEPERS = 8
GROUP = 4
"""Peers that are run beside each chain."""

YARDSTICKS = ("chain", "zpipe_")
SPEEDS = ("single", "chunks", "1 MiB", "64 KiB", "trip")
LONG = ("sleeps",)
LIMIT = 180.0
"""Seconds after which a system counts as hung."""

Figures = dict[str, dict[str, Any]]


def start(
    name: str, workers: int, seconds: float, wanted: list[str], out: Any, complaints: Any
) -> subprocess.Popen[str]:
    """Start a peer's process, in a session of its own."""
    path = os.pathsep.join(filter(None, [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "peers", name, str(workers), str(seconds), *wanted],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=complaints,
        text=True,
        start_new_session=True,
    )


def await_end(process: subprocess.Popen[str], spare: Collection[int] = ()) -> str:
    """Wait for a peer's process, end what it leaves but for `spare`; return what is wrong if it had to be killed."""
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"nothing more after {LIMIT:g} s"
    finally:
        strays.end(spare)
    return ""


def last_line(complaints: Any) -> str:
    """Return the last line of a file."""
    complaints.seek(0)
    return str((complaints.read().strip().splitlines() or ["it ended without a word"])[-1][:300])


def measure(name: str, workers: int, seconds: float, wanted: list[str]) -> Figures:
    """Ask a peer all that is wanted; return the figures, or the error, of each."""
    # Files and no pipes: workers that outlive their parent would keep those open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        hung = await_end(start(name, workers, seconds, wanted, out, complaints))
        out.seek(0)
        found = {told.pop("workload"): told for told in map(json.loads, out.read().splitlines())}
        missing = {"error": hung or last_line(complaints)}
    return {key: found.get(key, missing) for key in wanted}


def cold(name: str) -> Figures:
    """Return how long a peer's first result takes from nothing; a standing service is up before."""
    peer = named(name)
    with (
        peer.service() if hasattr(peer, "service") else tempfile.TemporaryDirectory(),
        tempfile.TemporaryFile("w+") as complaints,
    ):
        standing, began = harness.descendants(os.getpid()), time.monotonic()
        process = start(name, WORKERS, 0, ["cold"], subprocess.PIPE, complaints)
        assert process.stdout is not None
        with process.stdout:
            first = process.stdout.readline()
            seconds = time.monotonic() - began
            hung = await_end(process, standing)
        if hung or not first.strip().isdigit():
            return {"cold": {"error": hung or last_line(complaints)}}
    return {"cold": {"rate": seconds}}


def all_of(name: str, options: Any) -> Figures:
    """Ask a peer everything."""
    try:
        found = measure(name, WORKERS, options.seconds, list(SPEEDS))
        if all("error" in figure for figure in found.values()):
            return found  # it can't be run at all
        return {**found, **measure(name, SLEEPERS, options.seconds, list(LONG)), **cold(name)}
    except FileNotFoundError as error:
        return {"single": {"error": str(error)}}


def groups(names: list[str]) -> list[list[str]]:
    """Return who is run beside whom."""
    others = [name for name in names if name not in YARDSTICKS]
    return [[*YARDSTICKS, *others[at : at + GROUP]] for at in range(0, max(1, len(others)), GROUP)]


def versions(peer: Any) -> str:
    """Return the versions of a peer's packages, as text."""
    if hasattr(peer, "VERSION"):
        return str(peer.VERSION)
    try:
        return ", ".join(f"{package} {version(package)}" for package in peer.PACKAGES)
    except PackageNotFoundError as error:
        return f"{error.name} is not installed"


def summed(name: str, rounds: list[harness.Rounds]) -> dict[str, Any]:
    """Return a peer's figures over all rounds of its groups: the rate's spread, and its ratio to the chain's."""
    peer = named(name)
    found: dict[str, Any] = {"name": peer.NAME, "versions": versions(peer), "how": peer.HOW, "workloads": {}}
    pairs = [
        (mine, chain)
        for one in rounds
        if name in one.results
        for mine, chain in zip(one.results[name], one.results["chain"], strict=True)
    ]
    for workload in (*SPEEDS, *LONG, "cold"):
        told: list[Mapping[str, Any]] = [mine[workload] for mine, _ in pairs if workload in mine]
        rates = [figures["rate"] for figures in told if "rate" in figures]
        if not rates:
            errors = [figures["error"] for mine, _ in pairs for figures in mine.values() if "error" in figures]
            found["workloads"][workload] = {"error": (errors or ["not run"])[0]}
            continue
        ratios = [
            mine[workload]["rate"] / chain[workload]["rate"]
            for mine, chain in pairs
            if "rate" in mine.get(workload, {}) and "rate" in chain.get(workload, {})
        ]
        found["workloads"][workload] = {"rate": harness.spread(rates), "ratio": harness.spread(ratios or [1.0])}
    return found


def shown(figures: dict[str, Any]) -> str:
    """Return the figures as a table: the medians, and of the ratios to the chain."""
    keys = [*SPEEDS, *LONG, "cold"]
    rows = [["", *keys]]
    for peer in figures.values():
        row = [peer["name"]]
        for key in keys:
            figure = peer["workloads"][key]
            row.append(
                f"{figure['rate']['median']:,.4g} ({figure['ratio']['median']:.3g})" if "rate" in figure else "–"
            )
        rows.append(row)
    return harness.table(rows)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, seconds=0.5, only="")
    where = harness.environment()
    strays.adopt()
    names = [name for name in ALL if not options.only or name in {*YARDSTICKS, *options.only.split(",")}]
    rounds = [
        harness.interleave({name: partial(all_of, name, options) for name in group}, options) for group in groups(names)
    ]
    figures = {name: summed(name, rounds) for name in names}
    errors = [
        f"{peer['name']}, {key}: {figure['error']}"
        for peer in figures.values()
        for key, figure in peer["workloads"].items()
        if "error" in figure
    ]
    noise = [one.noise() for one in rounds]
    text = "\n\n".join([shown(figures), "medians; in brackets the ratio to the chain", "\n".join([*errors, *noise])])
    harness.report(options, where, {"peers": figures, "noise": noise}, text)


if __name__ == "__main__":
    main()
