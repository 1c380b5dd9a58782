"""Make a failing world small: fewer mishaps, fewer items and workers, less noise, and it still fails in the same way.

Mishaps are left out by delta debugging (Zeller and Hildebrandt, 2002). Leaving one out changes what the noise does to
all that follows, so each smaller world is tried with the noise of a few seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from .crash import Crash
from .engine import World
from .faults import SINK, Fault
from .scenario import Scenario

__all__ = ["ddmin", "shrink"]

NOISES = 6
LAST_NOISES = 60
PLAIN: dict[str, Any] = {
    "clocks": False, "slow": False, "doubled": 0.0, "refused": 0.0, "deaf": 0.0, "ordered": False, "expect": 1,
    "reorder": 1 << 20, "drain_at": None, "endless": False,
    "speculate": False, "laggards": (), "pace": 0.0, "cancel_at": None, "pauses": 0, "recycle": 0, "known": False,
    "journal": False,
}  # fmt: skip
COUNTS = {"kills": 0, "cuts": 0, "sink_cuts": 0, "mutes": 0, "splits": 0, "freezes": 0, "sink_freezes": 0, "terms": 0}
"""What is drawn where no mishaps are given; they always are here."""

T = TypeVar("T")

ITEMS = ("hits", "poison", "suicides", "flaky", "unlucky")
"""What of a scenario names items."""


def ddmin(parts: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Return a part of `parts` that fails, and none of whose own parts fails that lacks a single one."""
    parts, pieces = list(parts), 2
    if parts and fails([]):
        return []
    while len(parts) > 1:
        edges = [len(parts) * n // pieces for n in range(pieces + 1)]
        for a, b in pairwise(edges):
            rest = parts[:a] + parts[b:]
            if len(rest) < len(parts) and fails(rest):
                parts, pieces = rest, max(2, pieces - 1)
                break
        else:
            if pieces >= len(parts):
                break
            pieces = min(len(parts), 2 * pieces)
    return parts


class _Reduction:
    """The smallest failing world so far."""

    def __init__(self, crash: Crash, budget: int) -> None:
        self.best = crash
        self.kind = crash.kind
        self.left = budget

    def attempt(self, seed: int, scenario: Scenario, faults: Sequence[Fault]) -> Crash | None:
        """Run a world, if there is one left to be run; return it if it fails in the same way."""
        self.left -= 1
        crash = attempt(seed, scenario, faults) if self.left >= 0 else None
        return crash if crash is not None and crash.kind == self.kind else None

    def fails(self, scenario: Scenario, faults: Sequence[Fault], noises: int = NOISES) -> bool:
        """Whether such a world fails in the same way; if so it is the best from now on."""
        for seed in [self.best.seed, *range(noises)]:
            crash = self.attempt(seed, scenario, faults)
            if crash is not None:
                self.best = crash
                return True
        return False

    def drop_mishaps(self) -> None:
        """Leave out mishaps, then what is particular about those that stay."""
        scenario = self.best.scenario
        ddmin(self.best.faults, lambda faults: self.fails(scenario, faults))
        for n in range(len(self.best.faults)):
            fault = self.best.faults[n]
            for simpler in (replace(fault, told=(True, True)), replace(fault, crashed=False), replace(fault, link=0)):
                if simpler != self.best.faults[n]:
                    faults = [*self.best.faults]
                    faults[n] = simpler
                    self.fails(scenario, faults)

    def simplify(self) -> bool:
        """Make the scenario simpler in one way; return whether there was one."""
        faults = self.best.faults
        return any(self.fails(simpler, faults) for simpler in _simpler(self.best.scenario, faults))

    def shorten(self) -> None:
        """Of the noises with which it fails take the one that takes the fewest steps."""
        short = self.best
        for seed in range(LAST_NOISES):
            crash = self.attempt(seed, short.scenario, short.faults)
            if crash is not None and len(crash.trace) < len(short.trace):
                short = crash
        self.best = short


def _simpler(s: Scenario, faults: Sequence[Fault]) -> Iterator[Scenario]:
    for name, value in PLAIN.items():
        if getattr(s, name) != value:
            yield replace(s, **{name: value})
    for name in ITEMS:
        given = getattr(s, name)
        for n in range(len(given)):
            yield replace(s, **{name: given[:n] + given[n + 1 :]})
    for items in (s.items // 2, s.items * 3 // 4, s.items - 1):
        if 0 < items < s.items:
            kept = {name: tuple(i for i in getattr(s, name) if i < items) for name in ITEMS}
            yield replace(s, items=items, **kept)
    most = max([fault.who for fault in faults] + [who for fault in faults for who in fault.group], default=SINK)
    if s.workers > max(1, most + 1, s.expect):
        yield replace(s, workers=s.workers - 1)
    if s.chunk is None:
        yield replace(s, chunk=1)


def attempt(seed: int, scenario: Scenario, faults: Sequence[Fault], *, verbose: bool = False) -> Crash | None:
    """Run a world; return how it went wrong, if it did."""
    try:
        World(seed, scenario, faults, verbose=verbose).run()
    except Crash as crash:
        return crash
    return None


def shrink(crash: Crash, budget: int = 3000) -> Crash:
    """Return the smallest of `budget` worlds that fails in the same way, with all of its messages."""
    reduction = _Reduction(crash, budget)
    crash.scenario = replace(crash.scenario, **COUNTS)
    while True:
        reduction.drop_mishaps()
        before = reduction.best
        while reduction.simplify():
            pass
        if reduction.best is before:
            break
    reduction.shorten()
    best = reduction.best
    told = attempt(best.seed, best.scenario, best.faults, verbose=True)
    assert told is not None, "a world that fails must fail twice"
    told.reduced = True
    return told
