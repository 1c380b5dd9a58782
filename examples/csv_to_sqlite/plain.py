"""What must be in the database, by the csv module alone: `python3 plain.py sales.csv sales.db`.

Prints the sum of each shop. Ends with status 1 if the database says otherwise, or counts other wrong rows.
"""

from __future__ import annotations

import csv
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from datetime import datetime
from decimal import Decimal


def cents(row: dict[str, str]) -> int:
    """Return the amount of a sale. Raises ValueError or TypeError if the row is wrong."""
    int(row["number"])
    datetime.strptime(row["day"], "%Y-%m-%d")
    amount = Decimal(row["amount"]) * 100
    if amount != int(amount):
        raise ValueError(f"half a cent in {amount}")
    return int(amount)


def read(source: str) -> tuple[list[tuple[str, int, int]], int]:
    """Return (shop, sales, cents) of each shop, and how many rows are wrong."""
    count, total, wrong = Counter[str](), Counter[str](), 0
    with open(source, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                total[row["shop"]] += cents(row)
                count[row["shop"]] += 1
            except (ValueError, TypeError):  # noqa: PERF203 - each row may be wrong
                wrong += 1
    return [(shop, count[shop], total[shop]) for shop in sorted(count)], wrong


def main(source: str, target: str) -> int:
    """Compare; return the exit status."""
    expected, wrong = read(source)
    for shop, number, total in expected:
        print(f"{number:>8} {total / 100:>16,.2f}  {shop!r}")
    with closing(sqlite3.connect(target)) as base:
        found = base.execute("SELECT shop, count(*), sum(cents) FROM sales GROUP BY shop").fetchall()
        listed = base.execute("SELECT count(*) FROM wrong").fetchone()[0]
    if (sorted(found), listed) != (expected, wrong):
        print(f"{target} says otherwise", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
