"""A second run of what takes too long, with real processes."""

from __future__ import annotations

import json
import re

import pytest
from process.tools import LINUX, LOCAL, Zpipe, values

JOB = ("--range", "0:40", "--chunk", "1", "--speculate")


@pytest.mark.parametrize("bind", [(), ("--bind", f"{LOCAL}:0")])
def test_the_job_ends_without_the_run_that_is_stuck(zpipe: Zpipe, bind: tuple[str, ...]) -> None:
    """An item whose first run never ends is run by the idle worker; nobody waits for the first, or leaves it there."""
    job = ("run", "jobs:stuck_at_first", *JOB, "--workers", "2", "--output", "out", "--json", *bind)
    told = json.loads(zpipe.run(*job).out)
    assert values((zpipe.folder / "out").read_text()) == list(range(40))
    assert (told["done"], told["failed"]) == (40, 0)
    assert told["copies"] >= told["copies_won"] >= 1, "others, too, may have been held up"
    assert not LINUX or not zpipe.left()


def test_without_the_option_nothing_runs_twice(zpipe: Zpipe) -> None:
    """The same item holds the job up until it is done."""
    node = zpipe.start("run", "jobs:stuck_at_first", *JOB[:-1], "--workers", "2")
    node.printed('"value":39')
    (zpipe.folder / "go").touch()
    node.ended(0)
    assert "run twice" not in node.err


def test_a_copy_that_fails_is_not_the_last_word(zpipe: Zpipe) -> None:
    """Its item is done by the first run: nothing has failed, nothing is a dead letter."""
    job = ("run", "jobs:copy_fails", *JOB, "--workers", "2", "--output", "out", "--dead-letters", "dead")
    node = zpipe.run(*job)
    assert values((zpipe.folder / "out").read_text()) == list(range(40))
    assert (zpipe.folder / "dead").read_text() == ""
    assert re.search(r"\d slow chunks? run twice", node.err)


def test_three_processes(zpipe: Zpipe) -> None:
    """The sink of another process is told of copies, too: a failing one does not count."""
    ventilator = zpipe.start("ventilator", "jobs:copy_fails", *JOB, "--bind", f"{LOCAL}:0", "--expect-workers", "2")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "2")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(40))
