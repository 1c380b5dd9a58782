"""Figures of a benchmark: what is worked out from what was measured, and how it is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.measuring.figures import Figures, Throughput, round_trips, size_text

LOAD = Throughput(payload=1 << 16, chunk=None, items=3200, chunks=100, seconds=2.0, checked=4000)


def figures(**changed: object) -> Figures:
    """Return figures, two of them."""
    known = {
        "where": {"python": "3.10.1", "cores": 2},
        "endpoint": "ipc",
        "workers": 2,
        "workers_left": 2,
        "lost": 0,
        "seconds": 3.0,
        "throughput": [LOAD],
        "round_trips": [round_trips(0, [0.0001, 0.0002, 0.0003])],
    }
    return Figures(**{**known, **changed})  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=3000), st.sampled_from([(50, 0.5), (99, 0.99), (99.9, 0.999)]))
def test_percentiles(seconds: list[float], which: tuple[float, float]) -> None:
    """A percentile is one of the values: enough of them do not exceed it, and too few are below it."""
    name, share = which
    found = round_trips(1, seconds)
    value = {50: found.p50, 99: found.p99, 99.9: found.p999}[name]
    assert sum(one <= value for one in seconds) >= share * len(seconds)
    assert sum(one < value for one in seconds) < share * len(seconds)
    assert (found.least, found.greatest, found.trips) == (min(seconds), max(seconds), len(seconds))


def test_rates() -> None:
    """Items, chunks, and MiB of payload in one direction, a second."""
    assert LOAD.rates() == (1600.0, 50.0, 100.0)


def test_object() -> None:
    """The object for programs has the measurements and the rates, in whole units."""
    told = json.loads(figures().json())
    (load,), (trips,) = told["throughput"], told["round_trips"]
    assert (load["chunk"], load["items_per_second"], load["mib_per_second"]) == (None, 1600.0, 100.0)
    assert (trips["trips"], trips["p50"], trips["p999"]) == (3, 0.0002, 0.0003)
    assert (told["checked"], told["where"]["cores"], told["workers"]) == (4003, 2, 2)


def test_table() -> None:
    """The table for people has the same figures, each below its name."""
    text = figures().text()
    assert text.splitlines()[0] == "python 3.10.1, cores 2, 2 workers, ipc"
    assert [line.split() for line in text.splitlines() if line.startswith(("64 KiB", "a number"))] == [
        ["64", "KiB", "auto", "1,600", "50", "32.0", "100"],
        ["a", "number", "3", "200", "300", "300", "300"],
    ]
    assert text.endswith("Each of 4,003 results was the right one. 3.0 s.")


def test_workers_that_went() -> None:
    """Figures taken while workers came or went say so."""
    assert "(0 lost, 1 in place of 2 at the end)" in figures(workers_left=1).text()
    assert "(1 lost, 2 in place of 2 at the end)" in figures(lost=1).text()
    assert "meanwhile" not in figures().text()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1000, "1000 B"), (65536, "64 KiB"), (1 << 20, "1 MiB"), (3 << 29, "1.5 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    """Bytes as a person writes them."""
    assert size_text(size) == text
