"""What does a job in three stages cost, beside one of a single stage?

No-op tasks on two workers: `zpipe run` with two `--then`, as results come, in order, and with a journal, and a chain of
three maps in a script; each in multiples of the time that one stage takes over the same items. Three stages run three
times as many items: 3.0 would be no cost at all but the items' own. The output is checked: how many, and their sum.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
from harness import Checked
from tasks import noop

import zpipe

KINDS = {"as they come": [], "in order": ["--ordered"], "with a journal": ["--journal", "j"]}

THEN = ["--then", "tasks:noop"]


def command(items: int, more: list[str], stages: int) -> Checked:
    """Run one job of so many stages as a command."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as folder:
        (Path(folder) / "tasks.py").write_text(Path(__file__).with_name("tasks.py").read_text())
        args = ["run", "tasks:noop", *THEN * (stages - 1), "--range", str(items), "--workers", "2", "--quiet", "--raw"]
        done = subprocess.run(
            [sys.executable, "-m", "zpipe", *args, *more, "--output", "out", "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
        )
        values = list(map(int, (Path(folder) / "out").read_text().split()))
        if len(values) != items or sum(values) != items * (items - 1) // 2:
            raise SystemExit(f"wrong result: {len(values)} values, sum {sum(values)}")
        return Checked(items, json.loads(done.stdout)["seconds"])


def script(items: int, stages: int) -> Checked:
    """Run one chain of so many maps in this process."""
    with zpipe.Pipeline(2) as pipe:
        list(pipe.map(noop, range(2)))
        began = time.monotonic()
        results = pipe.map(noop, range(items))
        for _ in range(stages - 1):
            results = results.map(noop)
        total = sum(results)
        seconds = time.monotonic() - began
    if total != items * (items - 1) // 2:
        raise SystemExit(f"wrong result: sum {total}")
    return Checked(items, seconds)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=1_000_000)
    where = harness.environment()
    rows = [["", "one stage", "three stages", "times as long (median)", "least", "greatest"]]
    figures: dict[str, Any] = {}
    noise = []
    runs: dict[str, Callable[[int], Checked]] = {
        kind: partial(command, options.items, more) for kind, more in KINDS.items()
    }
    runs["a script's maps"] = partial(script, options.items)
    for kind, run in runs.items():
        rounds = harness.interleave({"one": partial(run, 1), "three": partial(run, 3)}, options)
        noise.append(rounds.noise())
        ratio = harness.spread(harness.per_round(rounds.results["one"], rounds.results["three"]))
        rates = {name: harness.spread(made.rate for made in found) for name, found in rounds.results.items()}
        figures[kind] = {"ratio": ratio, "rates": rates}
        shown = [f"{rates[name]['median']:,.0f}" for name in ("one", "three")]
        rows.append([kind, *shown, *(f"{ratio[key]:.2f}" for key in ("median", "min", "max"))])
    harness.report(options, where, figures, "\n\n".join([harness.table(rows), "\n".join(noise)]))


if __name__ == "__main__":
    main()
