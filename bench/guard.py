"""Is one checkout slower than another? Both are run in turn, in the same minutes, and compared as ratios.

    python bench/guard.py ../before            # a checkout of what was, beside this one
    python bench/guard.py ../before ../after

No-op items in automatic chunks, one item a message, 64 KiB and 1 MiB of bytes there and back, single round trips, and
short shell commands: each in processes of their own, with the interpreter this is run by and the checkout's own zpipe.
A ratio is of rates, after over before: above 1 is faster. Exit status 1 if one is slower beyond doubt: its median is
below --least, and so was every round's below 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
from harness import HERE, Checked
from tasks import noop

WORKERS = 2


def mapped(items: list[Any], chunk: int | None) -> float:
    """Map over items through a Pipeline that is warm; return items a second."""
    import zpipe

    with zpipe.Pipeline(WORKERS, chunk=chunk) as pipe:
        _run(pipe, items[: len(items) // 4])
        return len(items) / _run(pipe, items)


def _run(pipe: Any, items: list[Any]) -> float:
    began = time.monotonic()
    if list(pipe.map(noop, items)) != items:
        raise SystemExit("wrong result: what came back is not what was sent")
    return time.monotonic() - began


def payloads(size: int, count: int) -> list[bytes]:
    """Return bytes that are all objects of their own: a pickle would have one that comes twice in it once."""
    whole = os.urandom(size + count)
    return [whole[n : n + size] for n in range(count)]


def trips(count: int) -> float:
    """Submit one item after the other, each when the last is back; return trips a second, by their median."""
    import zpipe

    took = []
    with zpipe.Pipeline(WORKERS) as pipe:
        for item in range(-50, count):
            began = time.perf_counter()
            if pipe.submit(noop, item).result() != item:
                raise SystemExit("wrong result: what came back is not what was sent")
            took.append(time.perf_counter() - began)
    return 1 / sorted(took[50:])[count // 2]


def commands(count: int) -> float:
    """Run short commands from the command line; return commands a second, the start of it all included."""
    began = time.monotonic()
    job = ["run", "--command", "/bin/echo {}", "--range", str(count), "--ordered", "--raw", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "zpipe", *job, "--workers", str(WORKERS)], capture_output=True, text=True, check=True
    )
    if done.stdout.split() != list(map(str, range(count))):
        raise SystemExit("wrong result: the commands' output is not their items")
    return count / (time.monotonic() - began)


QUESTIONS: dict[str, Callable[[], float]] = {
    "automatic chunks": lambda: mapped(list(range(2_000_000)), None),
    "one a message": lambda: mapped(list(range(20_000)), 1),
    "64 KiB": lambda: mapped(payloads(1 << 16, 2_000), None),
    "1 MiB": lambda: mapped(payloads(1 << 20, 200), None),
    "round trips": lambda: trips(500),
    "commands": lambda: commands(500),
}


def ask(checkout: Path, question: str) -> Checked:
    """Have a question answered with a checkout's zpipe. Raises SystemExit if that can't be."""
    done = subprocess.run(
        [sys.executable, __file__, "--answer", question],
        env={**os.environ, "PYTHONPATH": os.fspath(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise SystemExit(f"{checkout} could not be asked about {question!r}: status {done.returncode}")
    found = json.loads(done.stdout)
    if Path(found["zpipe"]).resolve().parents[1] != checkout:
        raise SystemExit(f"{found['zpipe']} was measured in place of the zpipe in {checkout}")
    return Checked(1, 1 / found["rate"])


def answer(question: str) -> None:
    """Be asked: print the rate and which zpipe it is of."""
    import zpipe

    print(json.dumps({"rate": QUESTIONS[question](), "zpipe": zpipe.__file__}))


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", least=0.8, checkouts=("BEFORE", "AFTER"))
    before, after = _checkouts(options.checkouts)
    where = harness.environment()
    rows = [["after / before", "ratio (median)", "least", "greatest", "after, a second"]]
    figures: dict[str, Any] = {}
    slower = []
    for question in QUESTIONS:
        rounds = harness.interleave(
            {"before": partial(ask, before, question), "after": partial(ask, after, question)}, options
        )
        ratio = harness.spread(harness.per_round(rounds.results["after"], rounds.results["before"]))
        rate = harness.spread(run.rate for run in rounds.results["after"])
        figures[question] = {"ratio": ratio, "rate": rate, "others": rounds.others}
        rows.append([question, *(f"{ratio[key]:.2f}" for key in ("median", "min", "max")), f"{rate['median']:,.0f}"])
        if ratio["median"] < options.least and ratio["max"] < 1:
            slower.append(question)
    harness.report(options, where, {"questions": figures, "slower": slower}, harness.table(rows))
    if slower:
        sys.exit(f"slower beyond doubt: {', '.join(slower)}")


def _checkouts(given: list[str]) -> tuple[Path, Path]:
    if len(given) > 2:
        raise SystemExit("give one checkout, to compare this one with it, or two")
    before, after = (Path(text).resolve() for text in [*given, HERE.parent][:2])
    for checkout in (before, after):
        if not (checkout / "zpipe" / "__init__.py").exists():
            raise SystemExit(f"{checkout} is no checkout of zpipe")
    return before, after


if __name__ == "__main__":
    if sys.argv[1:2] == ["--answer"]:
        answer(sys.argv[2])
    else:
        main()
