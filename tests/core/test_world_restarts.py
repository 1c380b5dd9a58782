"""Ventilators and sinks that die in the simulated world and come back: what they do is needed, and does happen."""

from __future__ import annotations

from typing import Any

import pytest
from world import SCENARIOS, Crash, World
from world.sink import SimSink

from zpipe.core.account import Account
from zpipe.core.director import Director
from zpipe.core.ranges import RangeSet

SEEDS = 40


def test_a_job_goes_on_where_it_was() -> None:
    """Of the items done before a ventilator died few are run again, though chunks have other sizes then."""
    again = resumed = late = 0
    for seed in range(SEEDS):
        world = World(seed, SCENARIOS["ventilator dies often"]).run()
        again += sum(world.executions.values()) - len(world.executions)
        resumed += world.vents - 1
        late += World(seed, SCENARIOS["all die"]).run().late
    assert resumed > SEEDS
    assert again < 36 * resumed, "more than four chunks of nine, one for each worker, each time"
    assert late > 5, "results kept while there was no sink were delivered later"


def test_a_full_disk_ends_the_job_for_the_time_being() -> None:
    """It is begun again when there is room, with what the last commit had, and what came after that is run again."""
    resumed = again = 0
    for seed in range(SEEDS):
        world = World(seed, SCENARIOS["disk full"]).run()
        resumed += world.resumed
        again += sum(world.executions.values()) > len(world.executions)
    assert resumed > SEEDS
    assert again > SEEDS / 2


def eager(self: SimSink) -> None:
    """A sink that sends receipts at once, and commits later."""
    TAKEN(self)
    self.settle()


def forgetful(self: Director, held: Any) -> list[Any]:
    """A ventilator that takes the job over, and nothing of what is done."""
    self.sink.job = held.job or self.job
    return []


def blind(self: Account, done: RangeSet, chunks: list[Any], now: float | None, sender: int = 0) -> Any:
    """A ledger that does not note what is done before it is issued."""
    issued, self._issued = self._issued, lambda: 1 << 60
    try:
        return FOUND(self, done, chunks, now, sender)
    finally:
        self._issued = issued


TAKEN = SimSink.taken
FOUND = Account._on_found
BUGS = {
    "a receipt before the commit": (SimSink, "taken", eager, "journal"),
    "the same, with ventilators that die": (SimSink, "taken", eager, "all die"),
    "nothing is seeded": (Director, "_resume", forgetful, "ventilator dies often"),
    "late results are not noted": (Account, "_on_found", blind, "ventilator dies often"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_world_finds_planted_bugs(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a receipt that comes before its commit nor ranges that are forgotten get through."""
    owner, name, broken, scenario = BUGS[bug]
    monkeypatch.setattr(owner, name, broken)

    def search() -> None:
        for seed in range(2 * SEEDS):
            World(seed, SCENARIOS[scenario]).run()

    with pytest.raises(Crash):
        search()
