"""Do automatic chunks fit bursts, and items of which few take far longer? In virtual time: only sizes are measured.

Workers take one chunk after the other, of the size that `Chunker` says then, and each message costs one of them 0.2 ms.
Sources of no known length are quiet, or trickle, and then have 10,000 items at once; or of a thousand items one takes a
hundred times as long. What is told is the share of all workers' time, from the burst to the end of the last chunk, in
which they ran nothing. That is an upper bound: in a job what waits behind a long item is handed back to who is idle.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import harness

from zpipe.core.chunking import Chunker

MESSAGE = 0.0002
QUIET = 30.0
BURST = 10_000


def idle_share(seconds: Sequence[float], workers: int, *, before: int = 0, known: bool = False) -> tuple[float, int]:
    """Return the share of time that is idle once the last items have come, and how many chunks there were.

    `before` of them came one by one, a second apart, ahead of all others.
    """
    chunker, at, chunks, end = Chunker(), 0, 0, 0.0
    come = [float(n) for n in range(before)] + [QUIET] * (len(seconds) - before)
    free, under_way = [0.0] * workers, list[tuple[float, int, float]]()
    heapify(free)
    while at < len(seconds):
        now = max(heappop(free), come[at])
        while under_way and under_way[0][0] <= now:
            _, count, took = heappop(under_way)
            chunker.observe(count, took, 10 * count)
        there = bisect_right(come, now)
        size = min(chunker.size(len(seconds) - at if known else None, workers), max(1, there - at))
        took = sum(seconds[at : at + size])
        at, chunks, over = at + size, chunks + 1, now + MESSAGE + took
        heappush(under_way, (over, size, took))
        heappush(free, over)
        end = max(end, over)
    return 1 - sum(seconds[before:]) / workers / (end - QUIET), chunks


def even(seconds: float, count: int) -> list[float]:
    """Return items that all take as long."""
    return [seconds] * count


def rare(seconds: float, count: int) -> list[float]:
    """Return items one in a thousand of which takes a hundred times as long."""
    draw = random.Random(1)
    return [100 * seconds if draw.random() < 0.001 else seconds for _ in range(count)]


QUESTIONS: dict[str, tuple[list[float], dict[str, Any]]] = {
    "a burst of 1 ms items": (even(0.001, BURST), {}),
    "20 one by one, then a burst of 1 ms items": (even(0.001, 20 + BURST), {"before": 20}),
    "20 one by one, then a burst of 50 µs items": (even(0.00005, 20 + BURST), {"before": 20}),
    "20 one by one, then a burst, 1 in 1,000 takes 100 ms": (rare(0.001, 20 + BURST), {"before": 20}),
    "20,000 items, 1 in 1,000 takes 100 ms": (rare(0.001, 2 * BURST), {}),
    "the same, their number known": (rare(0.001, 2 * BURST), {"known": True}),
}


def main() -> None:
    """Reckon, print."""
    options = harness.arguments(__doc__ or "")
    rows = [["", "idle, 2 workers", "idle, 8 workers", "chunks"]]
    figures: dict[str, Any] = {}
    for name, (seconds, how) in QUESTIONS.items():
        (two, chunks), (eight, _) = (idle_share(seconds, workers, **how) for workers in (2, 8))
        figures[name] = {"idle": {"2": two, "8": eight}, "chunks": chunks}
        rows.append([name, f"{two:.1%}", f"{eight:.1%}", f"{chunks:,}"])
    harness.report(options, harness.environment(), figures, harness.table(rows))


if __name__ == "__main__":
    main()
