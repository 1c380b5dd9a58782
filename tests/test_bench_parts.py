"""The benchmarks' pure parts: ratios, what counts as right, and tables that are made and never typed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import bursts  # noqa: E402
import handover  # noqa: E402
import harness  # noqa: E402
import passes  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import unequal  # noqa: E402
import workers  # noqa: E402
import workloads  # noqa: E402

# The benchmarks are scripts, whose folder is on the path: to other tests their names mean other things.
sys.path.remove(str(BENCH))
SCRIPTS = """
    balance bursts chain fleet floor handover harness passes peers report tasks throughput unequal workers workloads
"""
for script in SCRIPTS.split():
    del sys.modules[script]


def test_what_cannot_be_measured_is_refused() -> None:
    """With the status of wrong usage, before anything is measured or written."""
    cases = [
        ([str(BENCH), "--only", "items,nonsense"], "no such question: nonsense; there are beside, "),
        ([str(BENCH / "items.py"), "--rounds", "0"], "0 are too few: give 1 at least"),
        ([str(BENCH / "report.py"), "--lots"], "unrecognized arguments: --lots"),
    ]
    for command, said in cases:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert said in done.stderr


def spread(median: float) -> dict[str, float]:
    """A figure measured three times."""
    return {"median": median, "min": median / 2, "max": median * 2, "n": 3}


def figure(rate: float, ratio: float = 1.0) -> dict[str, Any]:
    """A workload's figures."""
    return {"rate": spread(rate), "ratio": spread(ratio)}


def results() -> dict[str, Any]:
    """Three systems' results: one is the yardstick, one has no round trips."""
    made = {
        "chain": {"name": "bare chain", "versions": "zmq 1", "how": "bare", "workloads": {}},
        "zpipe_": {"name": "zpipe", "versions": "zpipe 2", "how": "fine", "workloads": {}},
        "slow": {"name": "slow", "versions": "slow 3", "how": "by hand", "workloads": {}},
    }
    for key in report.COLUMNS:
        for name, rate in (("chain", 2_000_000.0), ("zpipe_", 500_000.0), ("slow", 100.0)):
            made[name]["workloads"][key] = figure(rate, rate / 2_000_000)  # type: ignore[index]
    made["slow"]["workloads"]["trip"] = {"error": "ImportError: no slow here"}  # type: ignore[index]
    return {"beside": {"peers": made}}


def test_a_spread_is_median_least_and_greatest() -> None:
    """Whatever order they come in."""
    assert harness.spread([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0, "n": 4}


def test_ratios_are_taken_within_a_round() -> None:
    """So a round that was slow for both says the same as one that was not."""
    above = [harness.Checked(100, 1.0), harness.Checked(100, 10.0)]
    below = [harness.Checked(100, 2.0), harness.Checked(100, 20.0)]
    assert harness.per_round(above, below) == [2.0, 2.0]


def test_a_wrong_run_has_no_speed() -> None:
    """An item that is missing, or one that comes twice in its place, ends it."""
    tally = harness.Tally(4)
    tally.add([0, 1, 2])
    with pytest.raises(harness.WrongResult, match="3 items"):
        tally.check(1.0)
    tally.add([2])
    with pytest.raises(harness.WrongResult, match="sum 5"):
        tally.check(1.0)
    assert workloads.count(iter([3, 1, 0, 2]), 4) > 0


def test_items_are_made_more_until_they_take_long_enough() -> None:
    """And what is measured is never the first run."""
    asked: list[int] = []

    def once(items: int) -> float:
        asked.append(items)
        return items / 10_000

    items, took = workloads.grown(once, 1.0)
    assert took == items / 10_000
    assert took >= 0.5
    assert asked[0] == asked[1] < items == asked[-1]


def test_the_list_schedule_gives_the_next_to_whoever_is_free() -> None:
    """Three workers, four sleeps, and never worse than twice the ideal (Graham, 1966)."""
    assert workloads.list_schedule([3.0, 1.0, 2.0, 2.0], 3) == 3.0
    draw = random.Random(1)
    sleeps = [draw.random() for _ in range(50)]
    best = workloads.list_schedule(sleeps, 4)
    ideal = max(*sleeps, sum(sleeps) / 4)
    assert ideal <= best <= 2 * ideal


def test_a_makespan_is_of_sleeps_that_were_slept() -> None:
    """One too few, or one too short, is a wrong result."""
    assert workloads.makespan([1.0, 2.0], [(10.0, 12.0), (11.5, 12.5)]) == 2.5
    for spans in ([(10.0, 12.0)], [(10.0, 12.0), (11.5, 12.4)]):
        with pytest.raises(harness.WrongResult):
            workloads.makespan([1.0, 2.0], spans)


def test_items_of_a_chain_have_slept_in_each_stage() -> None:
    """One that is missing, or that slept too short, or in one stage too few, is a wrong result."""
    wanted = unequal.even(0.1, 0.2, 0.3, count=2)
    right = (wanted[0], [0.1, 0.25, 0.3])
    assert unequal.slept([right, right], wanted) == pytest.approx(1.3)
    for wrong in ([right], [right, (wanted[0], [0.1, 0.19, 0.3])], [right, (wanted[0], [0.1, 0.2])]):
        with pytest.raises(harness.WrongResult):
            unequal.slept(wrong, wanted)


@pytest.mark.parametrize("name", unequal.DRAWS)
def test_stages_cost_very_differently(name: str) -> None:
    """And as much on average, whichever is first."""
    items = unequal.DRAWS[name](count=400)
    assert len(items) == 400
    assert all(len(item) == unequal.STAGES for item in items)
    total = unequal.SHORT + unequal.MIDDLE + unequal.LONG
    assert sum(map(sum, items)) / len(items) == pytest.approx(total, rel=0.3)


def test_batches_and_lumps_are_the_items() -> None:
    """What is cut by hand comes back as it was."""
    lists = list(peers.batches(range(7), 3))
    assert lists == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(peers.flat(peers.lump(abs, one) for one in lists)) == list(range(7))


def test_the_dispatch_rate_is_that_of_lanes_up_to_speed() -> None:
    """The clocks run from a third of the results to the last, however many come at a time, and each is counted."""
    tally = harness.Tally(10)
    clocks = workers.Clocks(tally)
    for values in ([0], [1], [2, 3, 4], [5], [6, 7, 8, 9]):
        clocks.add(values)
    assert tally.check(1.0).items == 10
    assert [done for done, _, _ in clocks.marks] == [5, 10]


def test_the_passes_are_those_of_the_way_there_and_back() -> None:
    """Each takes some time, and what comes out is right, or there would be no figures."""
    found = passes.passes(40_000)
    first, *_, last = found
    assert (first, last, len(found)) == ("pull into a list", "hand out and count", 9)


def test_every_peer_has_the_interface() -> None:
    """Named, with its packages, how it is set up, and a way to open it; none imports its system before that."""
    code = (
        "import peers\nfor name in peers.ALL:\n    peer = peers.named(name)\n    assert peer.NAME and peer.HOW, name\n"
    )
    code += "    assert isinstance(peer.PACKAGES, tuple) and callable(peer.opened)\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=BENCH)


def test_the_table_of_peers() -> None:
    """Ratios in brackets, the best but the yardstick in bold, what could not be run with its reason."""
    head, _, chain, zpipe, slow, _, note = report.peers_table(results()).split("\n")
    assert head.startswith("| system | no-op, one a message, items/s |")
    assert chain.startswith("| bare chain | 2 M | 2 M |")
    assert zpipe.startswith("| zpipe | **500 k** (0.25) |")
    assert slow.startswith("| slow | 100 (5e-05) |")
    assert slow.count("–") == 1
    assert note == "slow, –: ImportError: no slow here"
    best = [cell for cell in slow.split(" | ") if "**" in cell]
    assert best == ["**100** (5e-05) |"], "of the time to the first result less is better"


def test_only_what_is_between_the_marks_changes() -> None:
    """And what was not measured says so."""
    page = "a\n<!-- bench: peers -->\nold\ntext\n<!-- end -->\nb\n<!-- bench: scale -->\nold\n<!-- end -->\nc\n"
    made = report.made(page, results())
    assert made.startswith("a\n<!-- bench: peers -->\n| system |")
    assert made.endswith("b\n<!-- bench: scale -->\nNot measured: 'workers'.\n<!-- end -->\nc\n")
    assert report.made(made, results()) == made


def test_the_tables_are_those_of_the_results() -> None:
    """Nobody has edited them by hand: `python bench/report.py` would change nothing."""
    found = json.loads(report.RESULTS.read_text())
    for page in report.PAGES:
        assert report.made(page.read_text(), found) == page.read_text(), f"{page}: run python bench/report.py"


@pytest.mark.parametrize("name", bursts.QUESTIONS)
def test_automatic_chunks_leave_little_idle(name: str) -> None:
    """After a burst, and around items that take far longer: reckoned in virtual time, and the same anywhere."""
    seconds, how = bursts.QUESTIONS[name]
    share, chunks = bursts.idle_share(seconds, 2, **how)
    assert 0 <= share < 0.04
    assert chunks < len(seconds) / 7


@pytest.mark.parametrize("name", [name for name in unequal.DRAWS if "mixed" not in name])
@pytest.mark.parametrize("workers", [4, 8])
def test_a_worker_seldom_waits_for_its_next_chunk(name: str, workers: int) -> None:
    """Where each stage's items take the same time none is a straggler: what waits behind one stays. In virtual time."""
    items = unequal.DRAWS[name](count=100 * workers)
    floor = handover.dealt(items, workers)
    assert floor.done == len(items)
    assert floor.waited < floor.handed / 10
    assert floor.recalls < floor.handed / 20
    floor.ledger.check()
    assert floor.end > sum(map(sum, items)) / workers


def test_uneven_sleeps_come_close_to_a_list_schedule() -> None:
    """With a message a hand-over, and one more where the next chunk was not there. In virtual time."""
    share, floors = handover.of_list(workloads.lognormal, 5)
    assert 0.97 < share < 1.03
    assert all(floor.done == workloads.SLEEPS for floor in floors)
