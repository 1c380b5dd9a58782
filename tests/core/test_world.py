"""The protocol against the hostile world: every scenario over many seeds."""

from __future__ import annotations

import pytest
from world import SCENARIOS, Crash, Scenario, World

from zpipe.core.collector import Collector
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.ranges import RangeSet
from zpipe.core.speculation import Speculation

SEEDS = 50


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_item_counts_once(name: str) -> None:
    """Whatever is killed or cut, every item is written exactly once and everybody leaves."""
    for seed in range(SEEDS):
        World(seed, SCENARIOS[name]).run()


def test_a_seed_gives_the_same_world_again() -> None:
    """A failing seed can be looked at: two runs of it take the same steps."""
    first, second = (World(7, SCENARIOS["both"]).run() for _ in range(2))
    assert first.trace == second.trace
    assert (first.steps, first.now) == (second.steps, second.now)


@pytest.mark.parametrize("chunk", [1, 12])
def test_nothing_runs_twice_without_need(chunk: int) -> None:
    """What waits behind or in a straggler is recalled and runs elsewhere, and where nothing is lost, only there."""
    recalled = shared = 0
    for seed in range(SEEDS):
        world = World(seed, Scenario(kills=0, cuts=0, doubled=0.0, chunk=chunk, items=80)).run()
        recalled += world.recalled
        shared += world.shared
        assert set(world.executions.values()) == {1}, f"seed {seed}"
    assert (recalled if chunk == 1 else shared) > SEEDS / 2


def test_worlds_are_hostile() -> None:
    """The mishaps do happen: work is lost and redone, and duplicates reach the sink."""
    worlds = [World(seed, SCENARIOS["both"]).run() for seed in range(20)]
    assert sum(world.vent.director.ledger.requeued for world in worlds) > 20
    assert sum(world.sink.collector.duplicates for world in worlds) > 20
    assert sum(count > 1 for world in worlds for count in world.executions.values()) > 20


def never_overlaps(self: RangeSet, start: int, stop: int) -> bool:
    """A dedupe that lets everything through."""
    return False


def forget(self: Ledger, chunk: object) -> None:
    """A requeue that loses the chunk."""
    chunk.lane = 0


def no_receipt_again(self: Collector, result: object, size: int) -> None:
    """A sink that receipts only every second result."""
    if result.start % 2:
        RECEIPT(self, result, size)


def nobody(self: Director) -> list[object]:
    """A director that tells no lane of chunks that came back."""
    return []


def lose_half(self: Ledger, chunk: object) -> None:
    """A bisection that forgets the second half."""
    before = set(self._outstanding)
    SUSPECT(self, chunk)
    for start in set(self._outstanding) - before:
        self.done += self._outstanding[start].stop - start
        del self._outstanding[start]


def unordered(self: Collector) -> list[object]:
    """A sink that writes what waits in the order it came."""
    ready = [(result, payload) for result, payload, _ in self._waiting.values()]
    self._waiting.clear()
    self._waiting_bytes = 0
    return ready


def the_last_word(self: Collector, result: object) -> bool:
    """A sink for which the first failure of two runs counts."""
    return False


def untold(self: Collector, result: object) -> None:
    """A sink that drops what does not count, and says nothing."""


def deserted(self: Speculation, chunk: object) -> None:
    """A copy whose chunk stays with the lane that is lost."""
    self.end(self._lanes[chunk.twin])


RECEIPT = Collector._receipt
SUSPECT = Ledger._suspect
BUGS = {
    "dedupe": (RangeSet, "overlaps", never_overlaps, "both"),
    "requeue": (Ledger, "_requeue", forget, "kills"),
    "receipt": (Collector, "_receipt", no_receipt_again, "calm"),
    "refill": (Director, "_refill", nobody, "both"),
    "bisection": (Ledger, "_suspect", lose_half, "poison in big chunks"),
    "failure": (Collector, "_may_yet_succeed", the_last_word, "copies, failures"),
    "word": (Collector, "_ask", untold, "copies, retries"),
    "copy": (Speculation, "promote", deserted, "copies, chunks"),
    "order": (Collector, "_in_order", unordered, "ordered"),
}


def test_copies_are_made_and_win() -> None:
    """With slow workers a job that may speculate has copies that are done first, and is over sooner."""
    slow = {"kills": 0, "cuts": 0, "laggards": (0,), "workers": 4}
    plain, quick = ([World(seed, Scenario(speculate=on, **slow)).run() for seed in range(20)] for on in (False, True))
    assert sum(world.vent.director.ledger.speculation.won for world in quick) > 10
    assert sum(world.now for world in quick) < 0.8 * sum(world.now for world in plain)
    assert not any(world.vent.director.ledger.speculation.copies for world in plain)


@pytest.mark.parametrize("bug", BUGS)
def test_the_world_finds_planted_bugs(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken dedupe, requeue, receipt, refill, bisection or order does not get through: the world can fail."""
    owner, name, broken, scenario = BUGS[bug]
    monkeypatch.setattr(owner, name, broken)

    def search() -> None:
        for seed in range(SEEDS):
            World(seed, SCENARIOS[scenario]).run()

    with pytest.raises(Crash) as caught:
        search()
    assert f"seed {caught.value.seed}" in str(caught.value)
