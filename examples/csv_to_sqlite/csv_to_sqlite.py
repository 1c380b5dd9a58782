"""Imports a CSV of sales into SQLite: `python3 csv_to_sqlite.py sales.csv sales.db`.

The file is read as far as the workers are ahead, they parse and check the rows, and one writer, here, inserts them as
they come. All rows that are right are in the database at the end, and of each that is wrong where it is, and why.
"""

from __future__ import annotations

import csv
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import islice
from typing import TextIO

import zpipe

AMOUNT = re.compile(r"(-?)(\d+)\.(\d\d)")
BATCH = 10_000
"""Rows inserted at a time."""


def records(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield each record and the number of its first line; a record goes on while a quote is open."""
    first, text = 1, ""
    for number, line in enumerate(file, 1):
        text += line
        if text.count('"') % 2 == 0:
            yield first, text
            first, text = number + 1, ""
    if text:
        yield first, text


def parse(record: tuple[int, str]) -> tuple[int, str, str, int]:
    """Return number, day, shop and cents. Raises ValueError, which says where and why, if the row is wrong."""
    line, text = record
    try:
        [[number, day, shop, amount]] = csv.reader([text], strict=True)
        found = AMOUNT.fullmatch(amount)
        if found is None:
            raise ValueError(f"{amount!r} is no amount")
        return int(number), date.fromisoformat(day).isoformat(), shop, int("".join(found.groups()))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {line}: {error}") from None


def main(source: str, target: str) -> None:
    """Import in one transaction; print what came of it."""
    with (
        open(source, encoding="utf-8", newline="") as file,
        closing(sqlite3.connect(target)) as base,
        base,
        zpipe.Pipeline() as pipe,
    ):
        base.execute("CREATE TABLE sales (number INTEGER PRIMARY KEY, day TEXT, shop TEXT, cents INTEGER)")
        base.execute("CREATE TABLE wrong (error TEXT)")
        below_head = islice(records(file), 1, None)
        rows = pipe.imap_unordered(parse, below_head, on_error="collect")
        while batch := list(islice(rows, BATCH)):
            right = [row for row in batch if not isinstance(row, Exception)]
            wrong = [(str(row),) for row in batch if isinstance(row, Exception)]
            base.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", right)
            base.executemany("INSERT INTO wrong VALUES (?)", wrong)
        count, cents = base.execute("SELECT count(*), total(cents) FROM sales").fetchone()
        print(f"{count:,} sales of {cents / 100:,.2f} in all")
        print(f"{base.execute('SELECT count(*) FROM wrong').fetchone()[0]:,} rows were wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
