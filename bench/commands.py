"""How many shell commands a second, and how much of a core for each?

`/bin/echo {}` for the numbers from 0, two at a time: `zpipe run --command` (with its start, which xargs has next to
nothing of), xargs, GNU parallel, HyperQueue, and a ThreadPoolExecutor with subprocess.run. The clock runs from the
program's start to its end. Each line of output must be there once; xargs lets them mix, the others keep them apart.

Milliseconds of processor time a command, of the system and all its processes, say the same on a busy machine as on an
idle one. What starting a command costs at least is in the last row: a bare loop of posix_spawn and wait.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import harness
import strays
from harness import HERE, Checked, WrongResult

WORKERS = 2
ECHO = "/bin/echo"

THREADS = f"""
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def echo(item):
    return subprocess.run(["{ECHO}", str(item)], stdout=subprocess.PIPE, text=True).stdout
with ThreadPoolExecutor({WORKERS}) as pool:
    sys.stdout.writelines(pool.map(echo, range(int(sys.argv[1]))))
"""

HYPERQUEUE = f"""
import logging, os, sys
from pathlib import Path
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
os.environ["RUST_LOG"] = "error"
count, folder, out = int(sys.argv[1]), Path(sys.argv[2]), os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its server and its progress bar write there
with LocalCluster(str(folder / "server"), WorkerConfig(cores={WORKERS})) as cluster:
    client, job = cluster.client(), Job()
    for item in range(count):
        job.program(["{ECHO}", str(item)], stdout=str(folder / f"{{item}}.out"), stderr=None)
    client.wait_for_jobs([client.submit(job)])
for item in range(count):
    out.write((folder / f"{{item}}.out").read_text())
"""

SPAWN = f"""
import os, sys
for item in range(int(sys.argv[1])):
    os.waitpid(os.posix_spawn("{ECHO}", ["{ECHO}", str(item)], os.environ), 0)
"""


def ran(command: list[str], count: int, given: bool) -> Checked:
    """Run a program that runs the commands; return the run, with processor time."""
    numbers = "".join(f"{item}\n" for item in range(count))
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        command = [part.replace("FOLDER", folder) for part in command]
        environ = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        before, began = harness.busy_here(), time.monotonic()
        done = subprocess.run(command, input=numbers if given else "", capture_output=True, text=True, env=environ)
        seconds = time.monotonic() - began
        strays.end()
        processor = harness.busy_here() - before
    if done.returncode or sorted(done.stdout.split()) != sorted(numbers.split()):
        said = (done.stderr.strip().splitlines() or [""])[-1]
        raise WrongResult(f"status {done.returncode}, {len(done.stdout.split())} lines of {count}: {said}")
    return Checked(count, seconds, {"ms": processor / count * 1000})


def systems(count: int) -> dict[str, Callable[[], Checked]]:
    """Return what is run, by name."""
    python = [sys.executable, "-c"]
    zpipe = [sys.executable, "-m", "zpipe", "run", "--command", f"{ECHO} {{}}", "--raw", "--quiet", "-w", str(WORKERS)]
    commands: dict[str, tuple[list[str], bool]] = {
        "zpipe": (zpipe, True),
        "xargs -P2": (["xargs", f"-P{WORKERS}", "-I{}", ECHO, "{}"], True),
        "GNU parallel -j2": (["parallel", f"-j{WORKERS}", ECHO, "{}"], True),
        "HyperQueue": ([*python, HYPERQUEUE, str(count), "FOLDER"], False),
        "ThreadPoolExecutor": ([*python, THREADS, str(count)], False),
        "posix_spawn alone, one at a time": ([*python, SPAWN, str(count)], False),
    }
    return {name: partial(ran, command, count, given) for name, (command, given) in commands.items()}


def versions() -> dict[str, str]:
    """Return the versions of what is there; of the rest, that it isn't."""
    found = {"zpipe": version("zpipe")}
    for name, command in {"xargs -P2": "xargs", "GNU parallel -j2": "parallel"}.items():
        if path := shutil.which(command):
            told = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.splitlines()
            found[name] = told[0] if told else "unknown"
        else:
            found[name] = f"{command} is not installed"
    try:
        found["HyperQueue"] = version("hyperqueue")
    except ImportError:
        found["HyperQueue"] = "hyperqueue is not installed"
    return found


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", commands=2000)
    where = harness.environment()
    strays.adopt()
    known = versions()
    there = systems(options.commands)
    for name, tried in systems(10).items():  # which warms the disk's caches, too
        try:
            if not known.get(name, "").endswith("is not installed"):
                tried()
                continue
        except WrongResult as error:
            known[name] = f"{name} could not be run: {error}"
        del there[name]
    rounds = harness.interleave(there, options)
    rows = [["commands a second", "median", "least", "greatest", "ms of a core each", "zpipe is faster by"]]
    figures: dict[str, Any] = {}
    for name, runs in rounds.results.items():
        rate, cost = harness.spread(run.rate for run in runs), harness.spread(run.more["ms"] for run in runs)
        ratio = harness.spread(harness.per_round(rounds.results["zpipe"], runs))
        cheaper = harness.spread(
            a.more["ms"] / b.more["ms"] for a, b in zip(runs, rounds.results["zpipe"], strict=True)
        )
        figures[name] = {"rate": rate, "ms": cost, "zpipe over it": ratio, "its processor time over zpipe's": cheaper}
        shown = [f"{rate[key]:,.0f}" for key in ("median", "min", "max")]
        rows.append([name, *shown, f"{cost['median']:.2f}", f"{ratio['median']:.2f}"])
    missing = {name: text for name, text in known.items() if name not in there}
    text = "\n\n".join([harness.table(rows), *missing.values(), rounds.noise()])
    harness.report(options, where, {"systems": figures, "versions": known, "noise": [rounds.noise()]}, text)


if __name__ == "__main__":
    main()
