"""What does it cost an item that `--unique` or `--cache` look at it, and what does it save to be answered?

CPU time of the process that embeds the pipeline, for each item of a task that does nothing: without either, where all
items are new, and where all are known. Times of an idle machine; on a busy one they are longer, their ratios less so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from tasks import noop

import zpipe


def cost(items: int, **given: Any) -> tuple[float, float]:
    """Return the microseconds of CPU time, and of the clock, that each item takes here."""
    with zpipe.Pipeline(2, **given) as pipe:
        list(pipe.map(noop, range(-100, 0)))
        began, spent = time.perf_counter(), time.process_time()
        if list(pipe.map(noop, range(items))) != list(range(items)):
            raise SystemExit("wrong result: what came back is not what was sent")
        return 1e6 * (time.process_time() - spent) / items, 1e6 * (time.perf_counter() - began) / items


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        found = {
            "neither": cost(options.items),
            "unique, all new": cost(options.items, unique=True),
            "cache, all new": cost(options.items, cache=cache),
            "cache, all known": cost(options.items, cache=cache),
        }
    if options.json:
        print(json.dumps({"environment": harness.environment(), "microseconds": found}))
        return
    rows = [[name, f"{cpu:.2f}", f"{clock:.2f}"] for name, (cpu, clock) in found.items()]
    print(harness.table([["", "µs CPU an item", "µs an item"], *rows]))


if __name__ == "__main__":
    main()
