"""What kinds of worlds there are."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

__all__ = ["SCENARIOS", "Scenario", "drawn"]


@dataclass(frozen=True, repr=False)
class Scenario:
    """What kind of world to make. Times in seconds; chances per message."""

    items: int = 60
    workers: int = 3
    chunk: int | None = None
    ordered: bool = False
    reorder: int = 1 << 20
    expect: int = 1
    pace: float = 0.0
    """What an item takes (0: some take seconds, most nothing)."""
    hits: tuple[int, ...] = ()
    endless: bool = False
    poison: tuple[int, ...] = ()
    suicides: tuple[int, ...] = ()
    """Items whose task kills its own process, as somebody else might."""
    known: bool = False
    """Whoever takes a crashed worker's place knows which item that ran."""
    overruns: tuple[int, ...] = ()
    """Items over which workers are killed, since they run too long."""
    width: int = 0
    """Items that each worker runs at a time, on an event loop (0: one)."""
    recycle: int = 0
    """After so many items a worker is replaced by a fresh one."""
    flaky: tuple[int, ...] = ()
    speculate: bool = False
    laggards: tuple[int, ...] = ()
    """Slots whose processes take twenty times as long."""
    unlucky: tuple[int, ...] = ()
    """Items of which every second run fails for good."""
    kinds: int = 0
    """So many kinds of items there are, of each of which one is run (0: each item is like no other)."""
    stored: tuple[int, ...] = ()
    """Kinds whose outcome is known from elsewhere."""
    unkept: float = 0.0
    """Chance that an outcome is not kept, so that nobody else can have it."""
    drain_at: float | None = None
    cancel_at: float | None = None
    pauses: int = 0
    chaos: float = 30.0
    """Until when mishaps happen."""
    kills: int = 4
    cuts: int = 4
    sink_cuts: int = 0
    sink_dies: int = 0
    journal: bool = False
    """The sink commits what it has now and then, and comes back with that."""
    disk_full: int = 0
    """Commits that can't be made: the job ends with an error, room is made, and the same commands go on with it."""
    ventilator_dies: int = 0
    mutes: int = 0
    """One direction of a connection dies first."""
    splits: int = 0
    """The network falls in two, and heals."""
    freezes: int = 0
    sink_freezes: int = 0
    terms: int = 0
    clocks: bool = False
    """They differ, and are set now and then."""
    slow: bool = False
    """Some workers are."""
    rows: int = 0
    """Up to so many chunks of a fixed size travel as one row."""
    planned: bool = False
    """The job goes by a schedule; workers of slot 0 have a label."""
    doubled: float = 0.05
    refused: float = 0.02
    forged: float = 0.0
    """Chance that a worker sends a result of what was not issued behind its own."""
    deaf: float = 0.2
    """A task holds the interpreter, so that nothing is heard until it is done."""

    def __repr__(self) -> str:
        given = [f"{f.name}={v!r}" for f in fields(self) if (v := getattr(self, f.name)) != f.default]
        return f"Scenario({', '.join(given)})"


SCENARIOS = {
    "calm": Scenario(kills=0, cuts=0, doubled=0.0),
    "calm, one by one": Scenario(kills=0, cuts=0, doubled=0.0, chunk=1, items=80),
    "calm, big chunks": Scenario(kills=0, cuts=0, doubled=0.0, chunk=12, items=80),
    "kills": Scenario(kills=8, cuts=0),
    "cuts": Scenario(kills=0, cuts=10),
    "ventilator dies": Scenario(ventilator_dies=2),
    "ventilator dies, big chunks": Scenario(ventilator_dies=3, chunk=9, kills=1, cuts=1, items=120),
    "ventilator dies often": Scenario(ventilator_dies=8, chunk=9, slow=True, workers=4, kills=0, cuts=0, items=200),
    "ventilator dies, in order": Scenario(ventilator_dies=2, ordered=True, reorder=30, items=120),
    "ventilator dies, poison": Scenario(ventilator_dies=1, poison=(3, 40), items=80, kills=1, cuts=1),
    "ventilator dies, retries": Scenario(ventilator_dies=2, flaky=tuple(range(0, 90, 4)), items=90, cuts=2),
    "ventilator dies, first": Scenario(ventilator_dies=2, hits=(33, 47), items=90),
    "ventilator dies, first in order": Scenario(ventilator_dies=2, hits=(33, 47), items=90, ordered=True),
    "journal": Scenario(journal=True, sink_dies=3, sink_cuts=5),
    "journal in order": Scenario(journal=True, sink_dies=3, ordered=True, reorder=30, items=120, chunk=5),
    "journal, retries": Scenario(journal=True, sink_dies=2, flaky=(5, 6, 40), chunk=5),
    "journal, first in order": Scenario(journal=True, sink_dies=2, hits=(33, 47), items=90, ordered=True),
    "disk full": Scenario(journal=True, disk_full=3, sink_cuts=2, items=120),
    "disk full, in order": Scenario(
        journal=True, disk_full=3, sink_dies=1, ordered=True, reorder=20, items=90, chunk=5
    ),
    "disk full, retries": Scenario(journal=True, disk_full=2, flaky=(5, 6, 40), poison=(17,), kills=1, cuts=2, chunk=6),
    "all die": Scenario(journal=True, sink_dies=2, ventilator_dies=2, items=120),
    "all die, big chunks": Scenario(journal=True, sink_dies=2, ventilator_dies=2, items=150, chunk=13, terms=2),
    "all die, in order": Scenario(journal=True, sink_dies=2, ventilator_dies=2, ordered=True, reorder=20, sink_cuts=2),
    "both": Scenario(kills=6, cuts=6, workers=4, items=100),
    "ordered": Scenario(kills=4, cuts=6, ordered=True, items=80),
    "tight reorder": Scenario(kills=4, cuts=4, ordered=True, items=120, reorder=12, chunk=3),
    "sink cut": Scenario(kills=2, cuts=4, sink_cuts=4),
    "drains": Scenario(kills=2, cuts=2, terms=6, workers=4),
    "expect": Scenario(kills=3, cuts=3, expect=3),
    "one at a time": Scenario(chunk=1, items=40, kills=5, cuts=5),
    "big chunks": Scenario(chunk=25, items=200, kills=5, cuts=5),
    "rows, calm": Scenario(rows=8, chunk=1, kills=0, cuts=0, doubled=0.0),
    "rows": Scenario(rows=8, chunk=1, kills=5, cuts=5, items=100, workers=4),
    "rows of larger chunks": Scenario(rows=5, chunk=4, kills=5, cuts=5, items=200, terms=3),
    "rows in order": Scenario(rows=8, chunk=1, kills=4, cuts=4, ordered=True, reorder=10, items=100),
    "rows, sink cut": Scenario(rows=6, chunk=2, kills=2, cuts=4, sink_cuts=5, doubled=0.5),
    "rows, retries": Scenario(rows=6, chunk=1, flaky=tuple(range(0, 60, 4)), kills=4, cuts=4, terms=2),
    "rows, retries in chunks": Scenario(rows=4, chunk=5, flaky=tuple(range(0, 90, 4)), items=90, kills=3, cuts=3),
    "rows, poison": Scenario(rows=8, chunk=1, poison=(3, 40, 41), items=80, kills=2, cuts=2),
    "rows, poison in chunks": Scenario(rows=6, chunk=3, poison=(3, 40, 41), items=80, kills=2, cuts=2, known=True),
    "rows, overruns": Scenario(rows=8, chunk=2, overruns=(3, 40, 41, 90), items=120, kills=2, cuts=2, workers=4),
    "rows, failures": Scenario(rows=6, chunk=1, unlucky=(0, 7, 14), kills=3, cuts=3),
    "rows, first in order": Scenario(rows=6, chunk=2, hits=(33, 47), items=90, ordered=True, kills=4, cuts=3),
    "rows, all die": Scenario(
        rows=6, chunk=1, journal=True, sink_dies=2, ventilator_dies=2, items=120, kills=2, cuts=2, terms=2
    ),
    "rows, straggling": Scenario(rows=20, chunk=1, pace=0.5, workers=4, kills=0, cuts=6, chaos=10.0, items=80),
    "rows, one worker": Scenario(rows=8, chunk=1, workers=1, kills=3, cuts=5, terms=2, sink_cuts=2),
    "rows, drain": Scenario(rows=8, chunk=1, drain_at=4.0, items=300, kills=3),
    "first": Scenario(hits=(33, 47), items=90),
    "first in order": Scenario(hits=(33, 47), items=90, ordered=True, kills=5),
    "first, sink cut": Scenario(hits=(33, 47), items=90, ordered=True, cuts=4, sink_cuts=5, chunk=10),
    "first of the endless": Scenario(hits=(70,), endless=True, kills=5),
    "no items": Scenario(items=0, kills=1, cuts=1),
    "one worker": Scenario(workers=1, kills=3, cuts=5, sink_cuts=2, terms=2),
    "sink dies": Scenario(sink_dies=1),
    "retries": Scenario(flaky=tuple(range(0, 45, 4)), items=45, kills=4, cuts=4, terms=2),
    "retries in order": Scenario(flaky=(0, 1, 2, 30, 59), items=60, kills=4, cuts=4, ordered=True, chunk=7),
    "retries, sink cut": Scenario(flaky=(5, 6, 40), items=60, kills=2, cuts=2, sink_cuts=4, chunk=5),
    "retries, drain": Scenario(flaky=tuple(range(0, 400, 9)), items=400, drain_at=5.0, kills=3),
    "retries, first in order": Scenario(flaky=(30, 31, 33), hits=(33, 47), items=90, ordered=True, kills=4),
    "overruns": Scenario(overruns=(3, 40, 41, 90), items=120, kills=2, cuts=2, workers=4),
    "overruns, calm": Scenario(overruns=(0, 5, 24, 25, 99), items=100, chunk=25, kills=0, cuts=0, doubled=0.0),
    "overruns in order": Scenario(overruns=(17, 63), items=100, chunk=32, kills=3, cuts=3, ordered=True),
    "overruns, one worker": Scenario(overruns=(4, 17), items=40, workers=1, kills=2, cuts=2, sink_cuts=2, terms=2),
    "overruns, poison, retries": Scenario(overruns=(4, 30), poison=(5, 50), flaky=(3, 31), kills=2, terms=3),
    "overruns, sink cut": Scenario(overruns=(17, 63), items=80, chunk=16, kills=2, cuts=3, sink_cuts=4),
    "recycling": Scenario(recycle=10, items=120, kills=2, cuts=3),
    "recycling, one worker": Scenario(recycle=1, items=30, workers=1, chunk=2, cuts=2, overruns=(7,)),
    "known poison": Scenario(poison=(3, 40, 41), items=80, known=True, chunk=20, kills=2, cuts=2),
    "suicides": Scenario(suicides=(3, 40), items=60, kills=2, cuts=2, workers=4),
    "suicides in big chunks": Scenario(suicides=(17,), poison=(20,), items=60, chunk=32, kills=0, cuts=0, ordered=True),
    "suicides, limits": Scenario(suicides=(9,), overruns=(17,), known=True, items=40, chunk=16, kills=1, cuts=1),
    "poison": Scenario(poison=(3, 40, 41, 90), items=120, kills=2, cuts=2, workers=4),
    "poison in big chunks": Scenario(poison=(17, 63), items=100, chunk=32, kills=0, cuts=0, ordered=True),
    "one way": Scenario(kills=2, cuts=2, mutes=5),
    "one way in order": Scenario(kills=2, mutes=5, ordered=True, terms=2, chunk=5),
    "partitions": Scenario(kills=1, cuts=0, splits=5, workers=4),
    "partitions in order": Scenario(kills=2, cuts=0, splits=4, workers=4, ordered=True, chunk=8),
    "sleepers": Scenario(kills=1, cuts=1, freezes=7),
    "sleepers, poison": Scenario(kills=1, cuts=1, freezes=4, poison=(3, 20), items=40),
    "shares": Scenario(items=40, chunk=20, workers=4, pace=0.5, kills=0, cuts=14, sink_freezes=5, chaos=10.0, deaf=0.0),
    "first in order, one by one": Scenario(hits=(13, 17), items=30, ordered=True, chunk=1, kills=3),
    "clocks": Scenario(clocks=True, slow=True, terms=2),
    "clocks, retries": Scenario(clocks=True, flaky=(1, 2, 17, 18, 40), chunk=4, freezes=3),
    "copies, calm": Scenario(speculate=True, kills=0, cuts=0, laggards=(0, 1), workers=5),
    "copies, chunks": Scenario(speculate=True, kills=4, cuts=4, laggards=(0, 1), workers=6, chunk=5, items=90),
    "copies in order": Scenario(speculate=True, kills=6, terms=3, laggards=(0,), ordered=True, reorder=12, chunk=3),
    "copies, sink cut": Scenario(speculate=True, kills=2, cuts=4, sink_cuts=5, laggards=(0,), chunk=1),
    "copies, poison": Scenario(speculate=True, poison=(7, 14, 41), kills=2, cuts=2, laggards=(0,), workers=4),
    "copies, retries": Scenario(speculate=True, flaky=(0, 7, 8, 35, 56), kills=3, cuts=3, laggards=(0, 1), workers=5),
    "copies, retries in chunks": Scenario(
        speculate=True,
        flaky=tuple(range(0, 30, 3)),
        items=30,
        chunk=10,
        pace=0.3,
        laggards=(0,),
        chaos=10.0,
        kills=6,
        cuts=0,
        freezes=3,
        deaf=0.0,
    ),
    "copies, failures": Scenario(speculate=True, unlucky=(0, 7, 14), kills=2, cuts=2, laggards=(0, 1), workers=5),
    "copies, first in order": Scenario(speculate=True, hits=(35, 49), items=90, ordered=True, kills=3, laggards=(0,)),
    "copies, drain": Scenario(speculate=True, drain_at=3.0, items=300, kills=3, laggards=(0, 1), workers=5),
    "pauses": Scenario(pauses=3, kills=4, cuts=4, terms=2, chaos=10.0),
    "pauses, copies": Scenario(pauses=3, speculate=True, kills=3, sink_cuts=2, laggards=(0,), chaos=10.0, chunk=3),
    "pauses, retries": Scenario(pauses=4, flaky=tuple(range(0, 60, 5)), kills=3, chaos=10.0, workers=2),
    "pauses, drain": Scenario(pauses=4, drain_at=4.0, items=300, kills=3, chaos=6.0),
    "cancel": Scenario(cancel_at=3.0, items=300, kills=3, cuts=3),
    "one is deadly": Scenario(poison=(3,), items=16, chunk=8, workers=4, kills=12, cuts=4, chaos=10.0, deaf=1.0),
    "planned, calm": Scenario(planned=True, kills=0, cuts=0, doubled=0.0, refused=0.0),
    "planned": Scenario(planned=True, kills=5, cuts=5, workers=4, items=90),
    "planned, retries": Scenario(planned=True, flaky=tuple(range(0, 60, 5)), kills=3, cuts=3, pauses=1),
    "planned, poison": Scenario(planned=True, poison=(3, 40), items=70, kills=2, cuts=2, workers=4),
    "planned, overruns": Scenario(planned=True, overruns=(4, 17), items=50, kills=2, cuts=2),
    "planned, in order": Scenario(planned=True, ordered=True, reorder=8, kills=4, cuts=4, items=100, chunk=3),
    "planned, all die": Scenario(
        planned=True, journal=True, sink_dies=2, ventilator_dies=2, ordered=True, reorder=20, items=100
    ),
    "planned, first in order": Scenario(planned=True, hits=(33, 47), items=90, ordered=True, kills=3),
    "planned, drain": Scenario(planned=True, drain_at=3.0, items=300, kills=3, flaky=tuple(range(0, 300, 9))),
    "planned, one worker": Scenario(planned=True, workers=1, kills=3, cuts=4, terms=2, items=40, sink_cuts=2),
    "planned, copies": Scenario(planned=True, speculate=True, kills=3, cuts=3, laggards=(0,), workers=4),
    "drain": Scenario(drain_at=5.0, items=400, kills=4, cuts=4),
    "forgers": Scenario(forged=0.3, kills=2, cuts=2, sink_cuts=3, items=120, chunk=3),
    "forgers in order": Scenario(forged=0.3, kills=2, sink_cuts=3, mutes=3, ordered=True, reorder=20, items=100),
    "forgers, all die": Scenario(forged=0.2, journal=True, sink_dies=2, ventilator_dies=2, items=120, chunk=4),
    "forgers, planned": Scenario(forged=0.2, planned=True, kills=2, sink_cuts=2, items=90, workers=4),
    "wide, calm": Scenario(width=8, kills=0, cuts=0, doubled=0.0, items=200),
    "wide": Scenario(width=8, kills=6, cuts=6, terms=3, items=200),
    "wide, big chunks": Scenario(width=10, kills=4, cuts=6, terms=3, chunk=25, items=200, workers=4),
    "wide, few": Scenario(width=100, kills=4, cuts=4, sink_cuts=3, items=60),
    "wide in order": Scenario(width=8, kills=4, cuts=4, ordered=True, reorder=20, chunk=4, items=150),
    "wide, retries": Scenario(width=8, flaky=tuple(range(0, 45, 4)), kills=4, cuts=4, terms=2, items=45),
    "wide, poison": Scenario(width=8, poison=(3, 40, 41), kills=2, cuts=2, items=80),
    "wide, known poison": Scenario(width=8, poison=(3, 40, 41), known=True, kills=2, cuts=2, chunk=5, items=80),
    "wide, overruns": Scenario(width=8, overruns=(3, 40, 41), flaky=(5, 42), kills=2, cuts=2, items=80, chunk=6),
    "wide, first in order": Scenario(width=8, hits=(33, 47), items=90, ordered=True, kills=5, chunk=7),
    "wide, first": Scenario(width=20, hits=(33, 47), items=90, kills=5, cuts=4),
    "wide, all die": Scenario(
        width=6, journal=True, sink_dies=2, ventilator_dies=2, items=150, chunk=7, terms=2, recycle=30
    ),
    "wide, drain": Scenario(width=8, drain_at=3.0, items=200, kills=3, flaky=tuple(range(0, 200, 19))),
    "repeats, calm": Scenario(kinds=20, kills=0, cuts=0, doubled=0.0, refused=0.0, items=100),
    "repeats": Scenario(kinds=20, kills=6, cuts=4, terms=2, items=100),
    "repeats, few kinds": Scenario(kinds=3, kills=8, cuts=4, items=60, chunk=5, workers=2),
    "repeats in order": Scenario(kinds=15, kills=4, sink_cuts=4, ordered=True, reorder=10, items=80),
    "repeats, failures": Scenario(kinds=10, unlucky=tuple(range(30)), kills=4, sink_cuts=2, items=80),
    "repeats, retries": Scenario(kinds=10, flaky=(0, 3, 7, 8, 9), kills=4, cuts=3, items=80),
    "repeats, poison": Scenario(kinds=30, poison=(3, 20), kills=2, cuts=2, items=60),
    "repeats, not kept": Scenario(kinds=8, unkept=0.5, kills=4, sink_cuts=3, items=60),
    "repeats, sink dies": Scenario(kinds=12, kills=2, sink_dies=3, sink_cuts=3, journal=True, items=80),
    "repeats, ventilator dies": Scenario(kinds=12, kills=2, ventilator_dies=3, sink_cuts=2, journal=True, items=80),
    "repeats, copies": Scenario(kinds=15, speculate=True, kills=3, cuts=3, laggards=(0,), workers=4, items=90),
    "repeats, first in order": Scenario(kinds=20, hits=(13, 17), ordered=True, kills=3, items=60),
    "repeats, pauses": Scenario(kinds=12, pauses=3, kills=3, sink_cuts=2, chaos=10.0, items=80),
    "repeats, drain": Scenario(kinds=12, drain_at=3.0, items=300, kills=3),
    "stored, all of it": Scenario(refused=0.0, kinds=5, stored=(0, 1, 2, 3, 4), sink_cuts=4, items=60),
    "stored, some": Scenario(kinds=20, stored=(0, 4, 5, 6, 13), kills=4, sink_cuts=4, items=90, chunk=3),
    "stored, nobody works": Scenario(
        refused=0.0, kinds=3, stored=(0, 1, 2), workers=1, expect=3, sink_cuts=3, kills=0, cuts=0
    ),
}


def drawn(seed: int) -> Scenario:
    """Draw a scenario: some of what may be in a world, never all of it.

    A mishap shows itself where others are left out (swarm testing: Groce et al., 2012).
    """
    rng = random.Random(f"scenario {seed}")

    def some(most: int) -> int:
        return rng.randint(1, most) if rng.random() < 0.35 else 0

    def items_of(share: float) -> tuple[int, ...]:
        return tuple(sorted(rng.sample(range(items), min(items, rng.randint(1, 5))))) if rng.random() < share else ()

    items = rng.choice((1, 4, 12, 30, 60, 100))
    workers = rng.choice((1, 2, 2, 3, 3, 4, 5))
    slow = rng.random() < 0.2
    journal = rng.random() < 0.4
    hits = items_of(0.15)
    poison = () if hits else items_of(0.25)
    made = Scenario(
        items=items,
        workers=workers,
        chunk=rng.choice((None, None, None, 1, 2, 5, 16)),
        ordered=rng.random() < 0.4,
        reorder=rng.choice((1 << 20, 10)),
        expect=rng.randint(1, workers) if rng.random() < 0.2 else 1,
        pace=rng.choice((0.0, 0.0, 0.3)),
        hits=hits,
        endless=bool(hits) and rng.random() < 0.5,
        poison=poison,
        speculate=rng.random() < 0.3,
        laggards=(0,) if rng.random() < 0.2 and workers > 1 and not slow else (),
        unlucky=items_of(0.1),
        overruns=() if hits or rng.random() < 0.8 else tuple(i for i in items_of(1.0) if i not in poison),
        recycle=rng.choice((1, 5, 20)) if rng.random() < 0.15 else 0,
        flaky=() if rng.random() < 0.6 else tuple(i for i in items_of(1.0) if i not in poison),
        drain_at=rng.random() * 10 if rng.random() < 0.1 else None,
        cancel_at=rng.random() * 10 if rng.random() < 0.05 else None,
        pauses=some(3),
        chaos=rng.choice((3.0, 10.0, 30.0)),
        kills=some(6),
        cuts=some(8),
        sink_cuts=some(4),
        journal=journal,
        sink_dies=some(3) if journal else int(rng.random() < 0.05),
        ventilator_dies=some(4),
        mutes=some(5),
        splits=some(3),
        freezes=some(5),
        sink_freezes=some(4),
        terms=some(4),
        clocks=rng.random() < 0.2,
        slow=slow,
        doubled=rng.choice((0.0, 0.05, 0.5)),
        refused=rng.choice((0.0, 0.02, 0.3)),
        deaf=rng.choice((0.0, 0.2, 1.0)),
        disk_full=some(2) if journal else 0,
        width=rng.choice((2, 7, 50)) if rng.random() < 0.15 else 0,
    )
    elsewhere = {*poison, *made.overruns, *made.flaky}
    doomed = () if hits or rng.random() < 0.9 else tuple(i for i in items_of(1.0)[:2] if i not in elsewhere)
    made = replace(made, suicides=doomed, planned=not (doomed or made.disk_full) and rng.random() < 0.2)
    if not (hits or poison or doomed or made.overruns) and rng.random() < 0.1:
        return replace(made, forged=0.3)
    if hits or poison or doomed or made.overruns or made.planned or rng.random() < 0.6:
        rows = rng.choice((2, 5, 20)) if made.chunk and rng.random() < 0.6 else 0
        return replace(made, rows=rows)  # what is fatal is an item, and another one of its kind would not be run
    kinds = rng.choice((1, 3, 10, 40))
    stored = tuple(n for n in range(kinds) if rng.random() < 0.3) if rng.random() < 0.4 else ()
    return replace(made, kinds=kinds, stored=stored, unkept=rng.choice((0.0, 0.0, 0.3)))
