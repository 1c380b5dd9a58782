"""Workers that are not quite themselves: two of one identity, and clocks that are wrong."""

from __future__ import annotations

import pytest
from process.tools import LOCAL, Zpipe, records, values, wait_until


def test_two_workers_of_one_identity(zpipe: Zpipe) -> None:
    """The second has to wait, and takes the place of the first when that is gone; each item counts once."""
    zpipe.allow(150)
    ventilator = zpipe.start("ventilator", "jobs:noted_nap", "--range", "240", "--bind", f"{LOCAL}:0", "--json")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    owner = zpipe.python("impostor.py", "twin", "worker", url, "--slots", "1")
    wait_until(lambda: len(zpipe.noted()) > 100, "work")
    twin = zpipe.python("impostor.py", "twin", "worker", url, "--slots", "1")
    twin.said("another process is here as this one")
    assert len(set(zpipe.task_pids())) == 1
    owner.kill()
    wait_until(lambda: len(set(zpipe.task_pids())) == 2, "the other one to take over")
    zpipe.allow(240)
    for node in (sink, ventilator, twin):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(240))
    assert len(zpipe.noted()) < 340


@pytest.mark.parametrize("how", ["ahead", "late"])
def test_a_worker_whose_clock_is_wrong(zpipe: Zpipe, how: str) -> None:
    """Beside one whose clock is right: both work, all is done once, nothing is late that is not, and all end."""
    url = f"{LOCAL}:0"
    zpipe.allow(150)
    job = ("jobs:noted_nap", "--range", "300", "--retries", "2", "--timeout", "600", "--speculate")
    ventilator = zpipe.start("ventilator", *job, "--bind", url, "--expect-workers", "2")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out", "--joblog", "log", "--ordered")
    workers = [
        zpipe.python("impostor.py", how, "worker", url, "--slots", "1"),
        zpipe.start("worker", url, "--slots", "1"),
    ]
    wait_until(lambda: len(set(zpipe.task_pids())) == 2, "both to work")
    zpipe.allow(300)
    for node in (sink, ventilator, *workers):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(300))
    assert len((zpipe.folder / "log").read_text().splitlines()) == 301
    assert "0 failed" not in ventilator.err
    assert "killed" not in ventilator.err


def test_a_ventilator_and_a_sink_whose_clocks_are_wrong(zpipe: Zpipe) -> None:
    """They agree on nothing but how far the job is: what fails is tried again, with a journal too."""
    ventilator = zpipe.python("impostor.py", "ahead", "ventilator", "jobs:flaky", "--range", "40", "--retries", "3",
                              "--retry-delay", "0.1", "--bind", f"{LOCAL}:0")  # fmt: skip
    url = ventilator.url()
    sink = zpipe.python("impostor.py", "late", "sink", url, "--bind", f"{LOCAL}:0", "--output", "out", "--journal", "j")
    worker = zpipe.start("worker", url, "--slots", "2")
    for node, status in ((sink, 1), (ventilator, 1), (worker, 0)):
        node.ended(status)
    found = records((zpipe.folder / "out").read_text())
    assert [record["index"] for record in found] == list(range(40))
    assert [record["index"] for record in found if "error" in record] == [7, 8]
    assert [record["attempts"] for record in found if "attempts" in record] == [3, 4, 2, 3]
