"""A short storm over real processes; `python -m tests.chaos` has longer ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaos.hosts import Cables, Host, why_not
from chaos.storm import Storm, compare, plan
from chaos.tasks import worth

ITEMS = 450
EVERY = 50


@pytest.mark.parametrize(("seed", "shape"), [(67, "journal"), (47, "run")])
def test_a_storm_on_this_host(tmp_path: Path, seed: int, shape: str) -> None:
    """Workers are killed, stopped, told to go and replaced, and so is who has the journal: the output is whole."""
    storm = Storm(seed, tmp_path, items=ITEMS, every=EVERY, hosts=[Host()] * 4)
    assert storm.shape == shape
    report = storm.run()
    assert report.happened["sink"], report
    assert report.runs >= ITEMS


def test_a_storm_over_cables(tmp_path: Path) -> None:
    """Hosts are cut off besides, for less and for more than the heartbeat."""
    unfit = why_not()
    if unfit:
        pytest.skip(unfit)
    cables = Cables(3, delay=0.005, loss=0.01)
    try:
        report = Storm(42, tmp_path, items=ITEMS, every=EVERY, hosts=[cables.head, *cables.hosts]).run()
    finally:
        cables.close()
    assert report.happened["pull"], report


def test_a_seed_gives_the_same_storm_again() -> None:
    """What happens when is drawn from the seed alone; a job without cables or a journal is spared some of it."""
    wired = {"cables": True, "journal": True}
    assert plan(5, 3000, 3, **wired) == plan(5, 3000, 3, **wired) != plan(6, 3000, 3, **wired)
    assert {mishap.kind for mishap in plan(5, 30_000, 3, **wired)} >= {"pull", "slot", "sink", "stop sink", "term"}
    assert all(mishap.kind not in ("pull", "sink") for mishap in plan(5, 30_000, 3, cables=False, journal=False))


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lambda lines: lines[:3] + lines[4:], "missing in the output: \\[3\\]"),
        (lambda lines: [*lines, lines[2]], "twice in the output: \\[2\\]"),
        (lambda lines: [*lines[:4], lines[4].replace("16", "17")], "17"),
        (lambda lines: lines[::-1], "out of order"),
    ],
)
def test_a_wrong_output_is_found(spoil: object, wrong: str) -> None:
    """An item that is missing, there twice, of another value or at another place does not get through."""
    lines = [json.dumps({"index": i, "item": i, "value": worth(i)}) for i in range(5)]
    compare("\n".join(lines), 5, ordered=True)
    with pytest.raises(AssertionError, match=wrong):
        compare("\n".join(spoil(lines)), 5, ordered=True)
