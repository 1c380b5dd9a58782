"""What kinds of worlds there are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCENARIOS", "Scenario"]


@dataclass
class Scenario:
    """What kind of world to make. Times in seconds; chances per message."""

    items: int = 60
    workers: int = 3
    chunk: int | None = None
    ordered: bool = False
    reorder: int = 1 << 20
    hits: tuple[int, ...] = ()
    chaos: float = 30.0
    kills: int = 4
    cuts: int = 4
    sink_cuts: int = 0
    terms: int = 0
    sink_dies: bool = False
    doubled: float = 0.05
    expect: int = 1
    endless: bool = False
    poison: tuple[int, ...] = ()
    flaky: tuple[int, ...] = ()
    drain_at: float | None = None


SCENARIOS = {
    "calm": Scenario(kills=0, cuts=0, doubled=0.0),
    "kills": Scenario(kills=8, cuts=0),
    "cuts": Scenario(kills=0, cuts=10),
    "both": Scenario(kills=6, cuts=6, workers=4, items=150),
    "ordered": Scenario(kills=4, cuts=6, ordered=True, items=120),
    "tight reorder": Scenario(kills=4, cuts=4, ordered=True, items=120, reorder=12, chunk=3),
    "sink cut": Scenario(kills=2, cuts=4, sink_cuts=4),
    "drains": Scenario(kills=2, cuts=2, terms=6, workers=4),
    "expect": Scenario(kills=3, cuts=3, expect=3),
    "one at a time": Scenario(chunk=1, items=40, kills=5, cuts=5),
    "big chunks": Scenario(chunk=25, items=200, kills=5, cuts=5),
    "first": Scenario(hits=(33, 47), items=90),
    "first in order": Scenario(hits=(33, 47), items=90, ordered=True, kills=5),
    "first, sink cut": Scenario(hits=(33, 47), items=90, ordered=True, cuts=4, sink_cuts=5, chunk=10),
    "first of the endless": Scenario(hits=(70,), endless=True, kills=5),
    "no items": Scenario(items=0, kills=1, cuts=1),
    "one worker": Scenario(workers=1, kills=3, cuts=5, sink_cuts=2, terms=2),
    "sink dies": Scenario(sink_dies=True),
    "retries": Scenario(flaky=tuple(range(0, 90, 4)), items=90, kills=4, cuts=4, terms=2),
    "retries in order": Scenario(flaky=(0, 1, 2, 30, 59), items=60, kills=4, cuts=4, ordered=True, chunk=7),
    "retries, sink cut": Scenario(flaky=(5, 6, 40), items=60, kills=2, cuts=2, sink_cuts=4, chunk=5),
    "retries, drain": Scenario(flaky=tuple(range(0, 400, 9)), items=400, drain_at=5.0, kills=3),
    "retries, first in order": Scenario(flaky=(30, 31, 33), hits=(33, 47), items=90, ordered=True, kills=4),
    "poison": Scenario(poison=(3, 40, 41, 90), items=120, kills=2, cuts=2, workers=4),
    "poison in big chunks": Scenario(poison=(17, 63), items=100, chunk=32, kills=0, cuts=0, ordered=True),
    "drain": Scenario(drain_at=5.0, items=400, kills=4, cuts=4),
}
