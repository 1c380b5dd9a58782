"""What a benchmark of a pipeline found: the figures, as a table for a person and as an object for a program.

One rule: both are made from the same structs. This file does not know how the figures came about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["Figures", "RoundTrips", "Throughput", "round_trips", "size_text"]

MIB = 1 << 20


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """What went through at full load in `seconds`: so many `items` of `payload` bytes, in about so many `chunks`.

    `payload` is 0 for a whole number; else each item has so many bytes, and its result as many. `chunk` is the number
    of items that were to be sent together (None: the pipeline's own choice). `checked` results in all were right,
    those of the warm-up included.
    """

    payload: int
    chunk: int | None
    items: int
    chunks: int
    seconds: float
    checked: int

    def rates(self) -> tuple[float, float, float]:
        """Return items, chunks and MiB a second; the last of payload, counted once and not for each way."""
        items, chunks = self.items / self.seconds, self.chunks / self.seconds
        return items, chunks, items * self.payload / MIB


class RoundTrips(msgspec.Struct, frozen=True, kw_only=True):
    """How many seconds it took from submitting one item of `payload` bytes to having its result, nothing else going on.

    p50 is the median, p99 and p999 are those that 99 % and 99.9 % of the `trips` did not exceed.
    """

    payload: int
    trips: int
    least: float
    mean: float
    p50: float
    p99: float
    p999: float
    greatest: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found.

    `workers` were there at the start and `workers_left` at the end, `seconds` later; `lost` of them went without leave
    meanwhile. `where` is what figures depend on, `endpoint` how messages travelled.
    """

    where: dict[str, Any]
    endpoint: str
    workers: int
    workers_left: int
    lost: int
    seconds: float
    throughput: list[Throughput]
    round_trips: list[RoundTrips]

    @property
    def checked(self) -> int:
        """How many results were compared with what they had to be."""
        return sum(one.checked for one in self.throughput) + sum(one.trips for one in self.round_trips)

    def json(self) -> bytes:
        """Return it all as one JSON object, rates included, on one line with no newline behind."""
        rows = []
        for one in self.throughput:
            items, chunks, mib = one.rates()
            rates = {"items_per_second": items, "chunks_per_second": chunks, "mib_per_second": mib}
            rows.append({**msgspec.structs.asdict(one), **rates})
        told = {**msgspec.structs.asdict(self), "throughput": rows, "checked": self.checked}
        return msgspec.json.encode(told)

    def text(self) -> str:
        """Return it all as tables, with no newline behind."""
        workers = f"{self.workers} worker{'s' * (self.workers != 1)}"
        parts = [", ".join([*(f"{name} {value}" for name, value in self.where.items()), workers, self.endpoint])]
        if self.throughput:
            parts.append(_table([_LOAD, *map(_load_row, self.throughput)]))
        if self.round_trips:
            parts.append(_table([_TRIPS, *map(_trips_row, self.round_trips)]))
        parts.append(f"Each of {self.checked:,} results was the right one. {self.seconds:.1f} s.")
        if self.lost or self.workers_left != self.workers:
            changed = f"{self.lost} lost, {self.workers_left} in place of {self.workers} at the end"
            parts.append(f"Workers came or went meanwhile ({changed}): measure again before you trust the figures.")
        return "\n\n".join(parts)


def round_trips(payload: int, seconds: Sequence[float]) -> RoundTrips:
    """Return what is to be known of round trips that took so many seconds each: one at least."""
    known = sorted(seconds)
    return RoundTrips(
        payload=payload,
        trips=len(known),
        least=known[0],
        mean=sum(known) / len(known),
        p50=_not_exceeded(known, 0.5),
        p99=_not_exceeded(known, 0.99),
        p999=_not_exceeded(known, 0.999),
        greatest=known[-1],
    )


def _not_exceeded(known: list[float], share: float) -> float:
    """Return the least of some sorted values that this share of them does not exceed (the nearest rank)."""
    return known[max(0, math.ceil(len(known) * share) - 1)]


def size_text(size: int) -> str:
    """Return a number of bytes as a person writes it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", MIB), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B"


_LOAD = ["at full load", "chunk", "items/s", "chunks/s", "items a chunk", "MiB/s each way"]
_TRIPS = ["one there and back", "trips", "p50 µs", "p99 µs", "p99.9 µs", "greatest"]


def _load_row(one: Throughput) -> list[str]:
    items, chunks, mib = one.rates()
    chunk = "auto" if one.chunk is None else f"{one.chunk:,}"
    mean = f"{one.items / one.chunks:,.1f}" if one.chunks else "–"
    return [_name(one.payload), chunk, _rate(items), _rate(chunks), mean, _rate(mib) if one.payload else "–"]


def _trips_row(one: RoundTrips) -> list[str]:
    took = [f"{seconds * 1e6:,.0f}" for seconds in (one.p50, one.p99, one.p999, one.greatest)]
    return [_name(one.payload), f"{one.trips:,}", *took]


def _name(payload: int) -> str:
    return size_text(payload) if payload else "a number"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _table(rows: list[list[str]]) -> str:
    """Return rows, the first of them the head, as aligned text: names to the left, figures to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
