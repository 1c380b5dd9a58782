"""The protocol against the hostile world: 2,000 worlds, and the proof that bugs do not get through them."""

from __future__ import annotations

import random

import pytest
from core.planted import BUGS
from world import SCENARIOS, Crash, Fault, Scenario, World, drawn
from world.clock import Clock
from world.hunt import hunt, main
from world.shrink import attempt, ddmin, shrink

SEEDS = 10
DRAWN = 550
PARTS = 10
"""The drawn worlds are run in so many tests."""
SEARCH = 200


def run(seed: int, scenario: Scenario) -> World:
    """Run a world; one that fails is reduced first."""
    try:
        return World(seed, scenario).run()
    except Crash as crash:
        raise shrink(crash, 1000) from None


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_item_counts_once(name: str) -> None:
    """Whatever is killed or cut, every item is written exactly once and everybody leaves."""
    for seed in range(SEEDS):
        run(seed, SCENARIOS[name])


@pytest.mark.parametrize("part", range(PARTS))
def test_every_item_counts_once_in_drawn_worlds(part: int) -> None:
    """So it is in worlds of all sorts."""
    for seed in range(part, DRAWN, PARTS):
        run(seed, drawn(seed))


def test_there_are_enough_worlds() -> None:
    """Two thousand of them."""
    assert len(SCENARIOS) * SEEDS + DRAWN >= 2000


def test_a_seed_gives_the_same_world_again() -> None:
    """A failing seed can be looked at: two runs of it take the same steps, watched or not."""
    first, second = (World(7, SCENARIOS["both"], verbose=verbose).run() for verbose in (False, True))
    assert first.trace == [line for line in second.trace if ", there at " not in line]
    assert (first.steps, first.now, first.faults) == (second.steps, second.now, second.faults)


@pytest.mark.parametrize("name", ["calm, one by one", "calm, big chunks"])
def test_what_waits_or_lasts_is_shared(name: str) -> None:
    """What waits behind or in a straggler is recalled; that it runs elsewhere, and only there, each world checks."""
    worlds = [World(seed, SCENARIOS[name]).run() for seed in range(SEEDS)]
    assert not any(world.faults for world in worlds)
    assert sum(world.recalled if name == "calm, one by one" else world.shared for world in worlds) > SEEDS / 2


def test_an_item_that_overruns_is_charged_for_it_and_no_other() -> None:
    """Where nothing else befalls workers, it is run once for each try it has, and the rest of its chunk is free."""
    lost = 0
    for seed in range(20):
        world = World(seed, SCENARIOS["overruns, calm"]).run()
        assert world.overran == dict.fromkeys((0, 5, 24, 25, 99), 3), f"seed {seed}"
        assert world.vent.director.ledger.retries.count == 10
        lost += world.vent.director.counts.lost
    assert lost < 60, "all but those of whom nothing was heard in time are told as what they are"


def test_worlds_are_hostile() -> None:
    """The mishaps do happen: work is lost and redone, and duplicates reach the sink."""
    worlds = [World(seed, SCENARIOS["both"]).run() for seed in range(SEEDS)]
    assert sum(world.vent.director.ledger.returns.requeued for world in worlds) > SEEDS
    assert sum(world.sink.collector.duplicates for world in worlds) > SEEDS
    assert sum(count > 1 for world in worlds for count in world.executions.values()) > SEEDS


def test_clocks_differ() -> None:
    """A reading comes when it should, whatever the clock."""
    for clock in (Clock(), Clock(1e6, 0.5), Clock(3.0, 2.0)):
        assert clock.read(clock.when(1e6 + 7.0)) >= 1e6 + 7.0
        assert clock.read(clock.when(1e6 + 7.0) - 0.01) < 1e6 + 7.0


def test_copies_are_made_and_win() -> None:
    """With slow workers a job that may speculate has copies that are done first, and is over sooner."""
    slow = {"kills": 0, "cuts": 0, "laggards": (0,), "workers": 4}
    plain, quick = ([World(seed, Scenario(speculate=on, **slow)).run() for seed in range(20)] for on in (False, True))
    assert sum(world.vent.director.ledger.speculation.won for world in quick) > 10
    assert sum(world.now for world in quick) < 0.8 * sum(world.now for world in plain)
    assert not any(world.vent.director.ledger.speculation.copies for world in plain)


@pytest.mark.parametrize("bug", BUGS)
def test_the_world_finds_planted_bugs(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the dedupe, the requeue, the receipts, the bisection or elsewhere does not get through."""
    BUGS[bug].plant(monkeypatch)

    def search() -> None:
        for seed in range(SEARCH):
            World(seed, SCENARIOS[BUGS[bug].scenario]).run()

    with pytest.raises(Crash) as caught:
        search()
    assert f"seed {caught.value.seed}" in str(caught.value)


def test_delta_debugging_finds_what_matters() -> None:
    """Of a hundred parts the three that are needed together stay, in their order; none if none is needed."""
    rng = random.Random(1)
    for _ in range(20):
        needed = sorted(rng.sample(range(100), 3))
        assert ddmin(range(100), lambda parts, needed=needed: set(needed) <= set(parts)) == needed
    assert ddmin(range(5), lambda parts: True) == []


def test_a_failing_world_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left are a mishap or two, a trace of every message, and an expression that makes this very world."""
    BUGS["a requeue loses it from the books, too"].plant(monkeypatch)
    crash = next(filter(None, (attempt(seed, SCENARIOS["sink cut"], None) for seed in range(SEARCH))))
    assert len(crash.faults) == 10
    least = shrink(crash, 400)
    assert least.kind == crash.kind
    assert len(least.faults) <= 2
    assert least.scenario.items < 20
    assert least.trace[0].split("to ventilator")[1]
    with pytest.raises(Crash) as again:
        eval(least.recipe, {"World": World, "Scenario": Scenario, "Fault": Fault})
    assert again.value.kind == least.kind
    assert least.recipe in str(least)


def test_the_long_mode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It tells how far it came; a failure is reduced and told with how to see it again, each kind once."""
    assert main(["--seed", "5", "--worlds", "12"]) == 0
    assert "12 worlds, " in capsys.readouterr().err
    BUGS["the hit itself is not wanted"].plant(monkeypatch)
    said: list[str] = []
    found = hunt(name="first in order, one by one", most=3, budget=50, say=said.append)
    assert [crash.kind for crash in found] == ["AssertionError in verdict: # are said to be done"]
    assert sum("it is\nWorld(" in text for text in said) == 1
    assert "--scenario 'first in order, one by one' --seed 0 --worlds 1" in "\n".join(said)
    assert said[-1].endswith("3 failed; next seed 3")


def test_a_recalled_worker_is_cut_off_before_its_answer() -> None:
    """A chunk goes whole to another while its beginning is in already: this job never ended."""
    World(
        649,
        Scenario(items=36, workers=4, chunk=10, chaos=8.0, kills=0, cuts=0, deaf=0.0),
        [
            Fault("cut", at=1.8647, who=3, link=1, told=(True, False)),
            Fault("cut", step=95, who=2, told=(False, True)),
            Fault("cut", step=38, who=1, told=(True, False), crashed=True),
        ],
    ).run()


def test_a_result_comes_between_a_sink_and_its_new_ventilator() -> None:
    """It joined with nothing, and is welcomed when it has something of the earlier start: this job never ended."""
    quiet = {"kills": 0, "cuts": 0, "doubled": 0.0, "refused": 0.0, "deaf": 0.0}
    World(
        1,
        Scenario(items=3, workers=2, chunk=2, flaky=(0,), chaos=10.0, ventilator_dies=1, clocks=True, **quiet),
        [Fault("mute", at=0.3844), Fault("ventilator dies", at=2.9646, who=-2, span=0.0155, crashed=True)],
    ).run()


def test_an_item_fails_in_a_copy_whose_first_run_then_dies() -> None:
    """That it is to be tried again was told once, while the first run might still have done it: this never ended."""
    World(
        2,
        Scenario(
            items=17, workers=2, chunk=16, flaky=(13,), speculate=True, laggards=(0,), chaos=10.0, kills=0, cuts=0,
            doubled=0.0, refused=0.0, deaf=0.0,
        ),
        [
            Fault("kill", step=42, who=1, span=0.3299, crashed=True),
            Fault("cut", at=2.8959, link=1, told=(False, True)),
            Fault("cut", at=1.4635, who=-1, link=2),
            Fault("cut", at=6.6893, who=-1, link=1, told=(False, False)),
        ],
    ).run()  # fmt: skip


def test_a_copy_hands_back_an_item_that_is_tried_again_elsewhere() -> None:
    """The first run was dropped after that one had failed in it: what had the item went out of the books."""
    World(
        1735,
        Scenario(
            items=14, workers=5, chunk=10, pace=0.3, flaky=(0, 1, 4, 6), speculate=True, laggards=(0,), unlucky=(3, 5),
            chaos=10.0, kills=0, cuts=0, doubled=0.0, refused=0.0, deaf=0.0,
        ),
        [Fault("cut", at=2.4651, who=4)],
    ).run()  # fmt: skip


def test_an_item_cut_off_a_chunk_that_has_a_copy_fails() -> None:
    """Another item of that chunk has failed before; that one's failure counted at once."""
    World(
        7, Scenario(items=8, chunk=5, speculate=True, unlucky=(5, 6), kills=0, cuts=0, doubled=0.0, deaf=0.0), []
    ).run()


def test_an_item_that_overran_keeps_those_of_its_key_behind_it() -> None:
    """It may be tried again, after it has been told of; then another of its key has not been begun."""
    scenario = Scenario(
        items=12, workers=2, poison=(2,), overruns=(0, 9), flaky=(10,), pauses=2, kills=0, cuts=0, planned=True,
        doubled=0.0, refused=0.0, deaf=0.0,
    )  # fmt: skip
    World(4, scenario, [Fault("cut", step=13, who=-1)]).run()


def test_items_of_one_key_over_which_workers_ended_run_one_by_one() -> None:
    """Each alone on its lane, and the second of them not before the first is settled."""
    scenario = Scenario(
        items=26, workers=2, chunk=5, recycle=1, kills=0, cuts=0, planned=True, doubled=0.5, refused=0.0, deaf=0.0
    )
    faults = [
        Fault("kill", at=9.4672, span=0.2903),
        Fault("kill", at=5.7086, who=1, span=0.542, told=(True, False), crashed=True),
        Fault("split", step=61, span=4.6815, told=(False, True), crashed=True, group=(-2, -1, 1)),
        Fault("freeze", step=49, span=21.9083),
    ]
    World(670, scenario, faults).run()
