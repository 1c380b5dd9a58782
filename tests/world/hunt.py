"""Run world after world, for hours if wanted, and report each kind of failure once, reduced."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from .crash import Crash
from .engine import World
from .scenario import SCENARIOS, Scenario, drawn
from .shrink import shrink

__all__ = ["hunt", "main", "worlds"]

SHARE = 8
"""Of so many worlds one is of a named scenario, the others are drawn."""
EVERY = 10.0
"""Seconds between two lines of progress."""


def worlds(first: int, name: str = "") -> Iterator[tuple[int, str, Scenario]]:
    """Yield seeds from `first` on, and what to run with each: the scenario of that name, or all kinds in turn."""
    names = list(SCENARIOS)
    for seed in count(first):
        mine = name or (names[seed // SHARE % len(names)] if seed % SHARE == 0 else "drawn")
        yield seed, mine, drawn(seed) if mine == "drawn" else SCENARIOS[mine]


def hunt(
    first: int = 0,
    *,
    name: str = "",
    most: int | None = None,
    seconds: float | None = None,
    budget: int = 3000,
    say: Callable[[str], None] = print,
) -> list[Crash]:
    """Run worlds until there were `most`, or `seconds` have gone; return one reduced failure of each kind.

    Each may take `budget` more worlds to reduce.
    """
    began = shown = time.monotonic()
    found: dict[str, Crash] = {}
    steps = failed = done = 0
    for seed, kind, scenario in worlds(first, name):
        now = time.monotonic()
        if (most is not None and done >= most) or (seconds is not None and now - began >= seconds):
            break
        if now - shown >= EVERY:
            shown = now
            say(_progress(done, steps, now - began, seed, failed))
        done += 1
        try:
            steps += World(seed, scenario).run().steps
        except Crash as crash:
            failed += 1
            if crash.kind not in found:
                say(f"seed {seed} ({kind}) fails: {crash.kind}; reducing it in {budget:,} worlds at most")
                found[crash.kind] = least = shrink(crash, budget)
                say(f"{least}\n(found with: python -m tests.world --scenario '{kind}' --seed {seed} --worlds 1)")
    say(_progress(done, steps, time.monotonic() - began, first + done, failed))
    return list(found.values())


def _progress(done: int, steps: int, seconds: float, seed: int, failed: int) -> str:
    rate = done / max(seconds, 1e-9)
    return f"{done:,} worlds, {steps:,} steps in {seconds:.0f} s ({rate:.0f}/s), {failed:,} failed; next seed {seed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Hunt as the command line says; return the exit status, 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--minutes", type=float, help="for how long (default: until interrupted)")
    parser.add_argument("--worlds", type=int, help="how many at most")
    names = ["drawn", *SCENARIOS]
    parser.add_argument("--scenario", choices=names, default="", help="this only (default: all of them in turn)")
    parser.add_argument("--reduce", type=int, default=3000, metavar="WORLDS", help="per failure (default: 3000)")
    given = parser.parse_args(argv)
    seconds = given.minutes * 60 if given.minutes is not None else None

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        found = hunt(given.seed, name=given.scenario, most=given.worlds, seconds=seconds, budget=given.reduce, say=say)
    except KeyboardInterrupt:
        return 130
    return 1 if found else 0
