"""The twin: one loop over the orders, with arithmetic of its own. Compares the sums that the stages have written."""

from __future__ import annotations

import json
import sys
from collections import Counter

from etl import PRICES, RATES


def sums(path: str) -> Counter[str]:
    """What each country's orders are worth."""
    found: Counter[str] = Counter()
    with open(path) as file:
        for line in file:
            if line[0] != "#":
                _, country, parts = line.strip().split(";")
                for part in parts.split(","):
                    article, pieces = part.split(":")
                    if article in PRICES:
                        found[country] += RATES[country] * PRICES[article] * int(pieces)
    return found


def main(orders: str, written: str) -> None:
    """Print the sums in euros; exit with status 1 unless the stages' are the same."""
    wanted = sums(orders)
    with open(written) as file:
        found = {record["key"]: record["value"] for record in map(json.loads, file)}
    for country, worth in sorted(wanted.items()):
        print(f"{country} {worth / 100_000:12,.2f}")
    if found != wanted:
        sys.exit(f"the stages have {found}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
