"""Makes a CSV of sales, the same one each time: `python3 rows.py COUNT sales.csv`. About one row in 400 is wrong.

Some shops have a name with a quote, a comma, or a line's end in it.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Callable, Iterator

SHOPS = ["Centre", "Harbour", "O'Hara", "Smith, Sons & Co", 'The "Corner"', "Old Mill\n2nd floor", "Łódź"]
WRONG: dict[str, Callable[[list[str]], list[str]]] = {
    "a day that never was": lambda row: [row[0], "2023-02-30", *row[2:]],
    "no amount": lambda row: row[:3],
    "half a cent": lambda row: [*row[:3], f"{row[3]}5"],
    "no number": lambda row: ["", *row[1:]],
}


def rows(count: int) -> Iterator[list[str]]:
    """Yield the rows: number, day, shop, amount."""
    draw = random.Random(count)
    for number in range(count):
        day = f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        row = [str(number), day, draw.choice(SHOPS), f"{draw.randint(-500, 99_999) / 100:.2f}"]
        yield draw.choice(list(WRONG.values()))(row) if draw.random() < 1 / 400 else row


def main(count: str, target: str) -> None:
    """Write a head and the rows."""
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "day", "shop", "amount"])
        writer.writerows(rows(int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
