"""Estimates pi by throwing darts until it is known well enough: `python3 pi.py [PRECISION] [--json]`.

There is no telling how many throws that takes, so the seeds are endless, and the loop is left when it has enough. A
task throws a hundred thousand darts at the unit square and counts those within the quarter circle.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from random import Random

import zpipe

THROWS = 100_000
DEVIATIONS = 1.96
"""Standard deviations on each side that 95 % of all estimates are within."""


def throw(seed: int) -> tuple[int, int]:
    """Return the seed, and how many darts hit."""
    draw = Random(seed).random
    return seed, sum(draw() ** 2 + draw() ** 2 < 1.0 for _ in range(THROWS))


def interval(hits: int, throws: int) -> float:
    """Return half the width of the interval that pi is within, 19 times out of 20."""
    share = hits / throws
    return 4 * DEVIATIONS * math.sqrt(share * (1 - share) / throws)


def estimate(precision: float) -> tuple[int, list[int]]:
    """Return hits and the seeds they are of, so many that half the interval is no wider than `precision`."""
    total, seeds = 0, []
    with zpipe.Pipeline() as pipe, pipe.imap_unordered(throw, itertools.count()) as results:
        for seed, hits in results:
            seeds.append(seed)
            total += hits
            if interval(total, len(seeds) * THROWS) <= precision:
                break
    return total, seeds


def main(precision: str = "0.002", form: str = "") -> None:
    """Estimate; print pi, how well it is known, and from what."""
    hits, seeds = estimate(float(precision))
    throws = len(seeds) * THROWS
    about, within = 4 * hits / throws, interval(hits, throws)
    if form == "--json":
        print(json.dumps({"pi": about, "within": within, "seeds": seeds, "hits": hits}))
    else:
        print(f"pi is {about:.6f}, give or take {within:.6f}: {hits:,} hits of {throws:,}, {len(seeds)} seeds")


if __name__ == "__main__":
    main(*sys.argv[1:])
