"""Writes orders: a line each with number, country, and parts as article:pieces. Some are comments, some are spoilt."""

from __future__ import annotations

import random
import sys


def main(count: int) -> None:
    """Write that many lines, the same each time."""
    rolls = random.Random(7)
    for number in range(count):
        kind = rolls.random()
        if kind < 0.05:
            print(f"# {number} was cancelled")
            continue
        parts = [
            f"{rolls.choice('ABCDEFGHX')}{rolls.randrange(4)}:{rolls.randint(1, 9)}" for _ in range(rolls.randint(1, 6))
        ]
        country = rolls.choice(["AT", "CH", "DE", "FR", "JP"])
        print(f"{number};{country};{','.join(parts)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
