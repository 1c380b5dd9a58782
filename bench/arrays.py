"""What does an array cost, there and back? Processor time of all processes, beside other systems.

Arrays of 64 KiB and 1 MiB through a no-op function on two workers, as in `beside`. Told is what all processes of a
system took for each: microseconds of a core, those of them in the kernel, page faults, context switches. That says the
same on a busy machine as on an idle one, where the speed (that of the best run) does not; two cores have two million
microseconds a second to give. In brackets is the ratio to the bare chain of the same round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import strays
from beside import await_end, last_line
from peers import named
from tasks import noop
from workloads import Arrays

SYSTEMS = ("chain", "zpipe_", "mpire_", "loky_", "executorlib_")
SIZES = {"64 KiB": (1 << 16, 2_000, 16), "1 MiB": (1 << 20, 250, 1)}
"""Bytes of an array, how many there are, and how many go together where a system doesn't choose."""

TIMES = 3
"""Measured runs over them in each round, after one that warms up."""

FIGURES = ("µs", "kernel", "faults", "switches")


def used() -> list[float]:
    """Return microseconds, those in the kernel, page faults and context switches of this process and all below it."""
    total = [0.0] * 4
    for pid in (os.getpid(), *harness.descendants(os.getpid())):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            lines = [line for path in Path(f"/proc/{pid}/task").glob("*/status") for line in path.open()]
        except OSError:  # it has ended
            continue
        switches = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
        user, kernel = (int(ticks) * 1e6 / harness.TICKS for ticks in stat[11:13])
        for n, value in enumerate((user + kernel, kernel, int(stat[7]), switches)):
            total[n] += value
    return total


def one(name: str, wanted: str) -> None:
    """Be one system; print what an array of this size costs, as JSON."""
    size, items, chunk = SIZES[wanted]
    with named(name).opened(2, True) as crew:

        def once() -> float:
            source = Arrays(size, items)
            began = time.monotonic()
            return source.check(crew.run(noop, source, chunk)) - began

        once()
        before = used()
        best = min(once() for _ in range(TIMES))
        each = [(now - then) / (TIMES * items) for then, now in zip(before, used(), strict=True)]
    print(json.dumps({**dict(zip(FIGURES, each, strict=True)), "rate": items / best}), flush=True)


def measure(name: str, wanted: str) -> dict[str, Any]:
    """Have one system run in a process of its own; return what it prints, or what is wrong."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [sys.executable, __file__, "one", name, wanted],
            env={**os.environ, "PYTHONWARNINGS": "ignore", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=complaints,
            text=True,
            start_new_session=True,
        )
        hung = await_end(process)
        out.seek(0)
        told = out.read().splitlines()
        return dict(json.loads(told[-1])) if told else {"error": hung or last_line(complaints)}


def row(name: str, rounds: list[dict[str, Any]], chain: list[dict[str, Any]]) -> list[str]:
    """Return a system's line of the table."""
    pairs = [(mine, its) for mine, its in zip(rounds, chain, strict=True) if "µs" in mine and "µs" in its]
    if not pairs:
        return [named(name).NAME, rounds[0].get("error", "no chain to compare with")[:60], *[""] * len(FIGURES)]
    middle = {figure: harness.spread(mine[figure] for mine, _ in pairs)["median"] for figure in FIGURES}
    ratio = harness.spread(mine["µs"] / its["µs"] for mine, its in pairs)["median"]
    cells = [f"{middle['µs']:,.0f} ({ratio:.2f})", *(f"{middle[figure]:,.1f}" for figure in FIGURES[1:])]
    return [named(name).NAME, *cells, f"{max(mine['rate'] for mine, _ in pairs):,.0f}"]


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", rounds=3, only="")
    where = harness.environment()
    strays.adopt()
    names = [name for name in SYSTEMS if not options.only or name in {"chain", *options.only.split(",")}]
    figures: dict[str, Any] = {}
    tables = []
    for wanted in SIZES:
        rounds = harness.interleave({name: partial(measure, name, wanted) for name in names}, options)
        figures[wanted] = rounds.results
        rows = [row(name, rounds.results[name], rounds.results["chain"]) for name in names]
        tables += [harness.table([[wanted, *FIGURES, "arrays/s"], *rows]), rounds.noise()]
    harness.report(options, where, {"arrays": figures}, "\n\n".join(tables))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(*sys.argv[2:4])
        sys.stdout.flush()
        os._exit(0)  # whatever threads and helpers a system keeps
    main()
