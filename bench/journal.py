"""What does a journal cost, and how soon does a job go on with it?

Items a second of `zpipe run` with --journal, in multiples of those without: a no-op task, automatic chunks, results in
a file as they come, in a file in order, folded, and to a pipe, where the journal holds all of them. The clock is the
command's own, which begins when its sockets are bound, and the output is checked: how many, and their sum.

A job of which 10,000,000 items are done is gone on with: the time from the command's start to when the first item that
is left is run, and how much of that is Python's and zpipe's start, measured by the same command without a journal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import msgspec
from harness import Checked

from zpipe.core.ranges import RangeSet
from zpipe.output.journal import Batch, Journal

WANTED = 0.7
"""What a job with a journal must reach of one without."""

KINDS = {
    "file": ["--raw", "--output", "out"],
    "file, ordered": ["--raw", "--output", "out", "--ordered"],
    "fold": ["--reduce", "operator:add", "--output", "out"],
    "pipe": ["--raw"],
}

TASK = "import time\n\n\ndef noop(item):\n    return item\n\n\ndef stamp(item):\n    return time.time()\n"


def zpipe(folder: Path, *args: str) -> bytes:
    """Run a command in a folder; return its standard output."""
    return subprocess.run([sys.executable, "-m", "zpipe", *args], cwd=folder, stdout=subprocess.PIPE, check=True).stdout


def run(kind: str, items: int, journal: bool) -> Checked:
    """Run one job."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        (folder / "task.py").write_text(TASK)
        args = ["run", "task.py:noop", "--range", str(items), "--workers", "2", "--quiet", *KINDS[kind]]
        # The summary's JSON is on stderr where results go to stdout.
        done = subprocess.run(
            [sys.executable, "-m", "zpipe", *args, "--json", *(["--journal", "j"] if journal else [])],
            cwd=folder,
            capture_output=True,
            check=True,
        )
        told = json.loads(done.stdout if "--output" in KINDS[kind] else done.stderr)
        data = (folder / "out").read_bytes() if "--output" in KINDS[kind] else done.stdout
        wanted = items * (items - 1) // 2
        values = list(map(int, data.split()))
        if sum(values) != wanted or (kind != "fold" and len(values) != items):
            raise SystemExit(f"wrong result: {len(values)} values, sum {sum(values)}")
        return Checked(items, told["seconds"])


def resume(done: int) -> dict[str, float]:
    """Go on with a job of which so many items are done; return seconds until an item is run, and without any done."""
    with tempfile.TemporaryDirectory(prefix="zpipe-bench-") as name:
        folder = Path(name)
        (folder / "task.py").write_text(TASK)
        args = ["run", "task.py:stamp", "--workers", "2", "--quiet", "--raw", "--output", "out"]
        zpipe(folder, *args, "--range", "0:1", "--journal", "j")
        (folder / "out").rename(folder / "out.partial")
        journal = Journal(folder / "j")
        items = {**journal.origin.fingerprint, "items": f"--range {done + 1}"}
        journal.begin(msgspec.structs.replace(journal.origin, fingerprint=items))
        state = msgspec.structs.replace(journal.state, stage="open", total=None)
        journal.commit(Batch(state, RangeSet([(0, done)])))
        journal.close()
        began = time.time()
        zpipe(folder, *args, "--range", str(done + 1), "--journal", "j")
        last = float((folder / "out").read_text().split()[-1])
        fresh = time.time()
        zpipe(folder, *args[:-1], "fresh", "--range", "0:1")
        return {"resumed": last - began, "fresh": float((folder / "fresh").read_text()) - fresh}


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=5_000_000, done=10_000_000)
    where = harness.environment()
    rows = [["", "with a journal", "without", "ratio (median)", "least", "greatest", "wanted"]]
    figures: dict[str, Any] = {}
    noise = []
    for kind in KINDS:
        systems: dict[str, Callable[[], Checked]] = {
            name: partial(run, kind, options.items, name == "with") for name in ("with", "without")
        }
        rounds = harness.interleave(systems, options)
        noise.append(rounds.noise())
        ratio = harness.spread(harness.per_round(rounds.results["with"], rounds.results["without"]))
        rates = {name: harness.spread(made.rate for made in runs) for name, runs in rounds.results.items()}
        figures[kind] = {"ratio": ratio, "rates": rates}
        shown = [f"{rates[name]['median']:,.0f}" for name in ("with", "without")]
        rows.append([kind, *shown, *(f"{ratio[key]:.2f}" for key in ("median", "min", "max")), f"{WANTED:.2f}"])
    times = [resume(options.done) for _ in range(options.rounds)]
    found = {name: harness.spread(one[name] for one in times) for name in ("resumed", "fresh")}
    figures["resume"] = found
    figures["noise"] = noise
    told = f"{options.done:,} items done: the first that is left is run after {found['resumed']['median']:.2f} s "
    told += f"({found['resumed']['min']:.2f} to {found['resumed']['max']:.2f}); a job begun anew: "
    told += f"{found['fresh']['median']:.2f} s ({found['fresh']['min']:.2f} to {found['fresh']['max']:.2f})"
    harness.report(options, where, figures, "\n\n".join([harness.table(rows), told, "\n".join(noise)]))


if __name__ == "__main__":
    main()
