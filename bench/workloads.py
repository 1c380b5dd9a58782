"""What is asked of every system in `beside`: the items, how many, and whether what comes back is right.

How many items a measurement takes is found by doubling from a few, until one takes as long as it should: the ones
before are the warm-up. Each is checked: count and sum, every array as often as it was sent and unchanged, every sleep
slept.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import Any

from harness import Tally, WrongResult
from peers import Crew
from tasks import nap, noop

__all__ = ["SLEEPERS", "SLEEPS", "WORKLOADS", "Numbers", "count", "grown", "list_schedule", "lognormal", "makespan"]

MIB = 1 << 20
DIFFERENT = 32
"""Arrays there are of each size."""

BLOCK = 1000
"""Results counted and summed at a time."""

SLEEPS = 400
SLEEPERS = 8

WARM = 20
"""Round trips before those that count."""

Figures = dict[str, float]


class Numbers:
    """Integers from 0 that are no sequence: they must be spelled out, though it is known how many there are."""

    def __init__(self, items: int) -> None:
        self._items = items

    def __len__(self) -> int:
        """How many."""
        return self._items

    def __iter__(self) -> Iterator[int]:
        """Yield them."""
        return iter(range(self._items))


class Arrays:
    """Arrays of `size` bytes, a few different ones over and over, and a check of what comes back."""

    def __init__(self, size: int, items: int) -> None:
        import numpy as np

        self._made = [np.full(size // 8, number, dtype=np.int64) for number in range(DIFFERENT)]
        self.size, self._items = size, items

    def __len__(self) -> int:
        """How many."""
        return self._items

    def __iter__(self) -> Iterator[Any]:
        """Yield them, each an object of its own: what is twice in a list is only once in its pickle."""
        return (array.view() for array in islice(cycle(self._made), self._items))

    def check(self, results: Iterable[Any]) -> float:
        """Take all results; return when the last came. Raises WrongResult unless each array came back, as it was."""
        seen, last = Counter[int](), {}
        for array in results:
            number = int(array[0])
            seen[number] += int(array[-1]) == number
            last[number] = array
        ended = time.monotonic()
        same = all((array == self._made[number]).all() for number, array in last.items())
        if not same or seen != Counter(number % DIFFERENT for number in range(self._items)):
            raise WrongResult(f"{seen.total()} arrays of {self._items} came back as they were")
        return ended


def grown(once: Callable[[int], float], seconds: float, least: int = 20) -> tuple[int, float]:
    """Increase the items until they take long enough; return how many, and how long they took."""
    items = least
    once(items)
    while True:
        took = once(items)
        if took >= seconds / 2:
            return items, took
        items = int(items * max(2.0, min(20.0, 0.9 * seconds / max(took, 1e-6))))


def count(results: Iterable[int], items: int) -> float:
    """Take all results; return when the last came. Raises WrongResult unless each item came back once."""
    tally, values = Tally(items), iter(results)
    while block := list(islice(values, BLOCK)):
        tally.add(block)
    tally.check(1.0)
    return tally.last


def numbers(crew: Crew, seconds: float, chunk: int | None) -> Figures:
    """Items a second of a task that is nothing."""

    def once(items: int) -> float:
        source = Numbers(items)
        began = time.monotonic()
        return count(crew.run(noop, source, chunk), items) - began

    items, took = grown(once, seconds)
    return {"items": items, "seconds": took, "rate": items / took}


def arrays(crew: Crew, seconds: float, size: int, chunk: int) -> Figures:
    """MiB a second of arrays there and back, counted once."""

    def once(items: int) -> float:
        source = Arrays(size, items)
        began = time.monotonic()
        return source.check(crew.run(noop, source, chunk)) - began

    items, took = grown(once, seconds)
    return {"items": items, "seconds": took, "rate": items * size / MIB / took}


def trips(crew: Crew, seconds: float) -> Figures:
    """Microseconds of one item there and back, the next one when the last is back."""
    took: list[float] = []
    until = time.monotonic() + seconds
    for item in range(-WARM, 1_000_000):
        began = time.perf_counter()
        if crew.call(noop, item) != item:
            raise WrongResult(f"another result for {item}")
        ended = time.perf_counter()
        if item >= 0:
            took.append((ended - began) * 1e6)
        if item > 50 and time.monotonic() > until:
            break
    took.sort()
    return {"items": len(took), "rate": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def lognormal(seed: int) -> list[float]:
    """Return sleeps of 30 ms on average, the middle one 12 ms, one second at most."""
    draw = random.Random(seed)
    return [min(1.0, draw.lognormvariate(-4.42, 1.35)) for _ in range(SLEEPS)]


def list_schedule(seconds: Iterable[float], workers: int = SLEEPERS) -> float:
    """Return the makespan when whoever is free takes the next sleep, at no cost (Graham, 1966)."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def makespan(wanted: list[float], spans: list[tuple[float, float]]) -> float:
    """Return the time from the first sleep's start to the last one's end. Raises WrongResult unless all were slept."""
    slept = sorted(end - began for began, end in spans)
    if len(spans) != len(wanted) or any(got < want for got, want in zip(slept, sorted(wanted), strict=True)):
        raise WrongResult(f"{len(spans)} sleeps of {len(wanted)}, or too short ones")
    return max(end for _, end in spans) - min(began for began, _ in spans)


def sleeps(crew: Crew, _seconds: float) -> Figures:
    """The share that 400 uneven sleeps reach of the best list schedule."""
    list(crew.run(nap, [0.05] * SLEEPERS, 1))
    wanted = lognormal(0)
    took = makespan(wanted, list(crew.run(nap, wanted, 1)))
    return {"items": SLEEPS, "seconds": took, "rate": list_schedule(wanted) / took}


WORKLOADS: dict[str, Callable[[Crew, float], Figures]] = {
    "single": lambda crew, seconds: numbers(crew, seconds, 1),
    "chunks": lambda crew, seconds: numbers(crew, 2 * seconds, None),
    "1 MiB": lambda crew, seconds: arrays(crew, seconds, MIB, 1),
    "64 KiB": lambda crew, seconds: arrays(crew, seconds, MIB // 16, 16),
    "trip": trips,
    "sleeps": sleeps,
}
"""What is asked, by name. What a figure's `rate` is of, each says."""
