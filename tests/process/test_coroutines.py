"""Coroutine functions: many items at a time on one event loop, with everything that may befall them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from process.tools import LOCAL, Zpipe, records, values, wait_until

WAYS = {"worker": ("--workers", "1"), "inline": ("--workers", "0")}


@pytest.fixture(autouse=True)
def tasks(zpipe: Zpipe) -> None:
    """The tasks are a module in the folder."""
    shutil.copy(Path(__file__).with_name("waits.py"), zpipe.folder)


def begun(zpipe: Zpipe) -> list[tuple[int, int]]:
    """Which items have been begun, and in which process."""
    path = zpipe.folder / "begun"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(item), int(pid)) for item, pid in map(str.split, lines)]


@pytest.mark.parametrize("way", WAYS)
def test_as_many_run_at_a_time_as_wanted(zpipe: Zpipe, way: str) -> None:
    """Two hundred items that wait for each other are all there at once, in one process, and come in order."""
    node = zpipe.run("run", "waits:meet", "--range", "200", "--concurrency", "200", "--ordered", *WAYS[way])
    assert values(node.out) == list(range(200))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", ["lazily", "called", "bound"])
def test_what_makes_awaitables_counts_as_one(zpipe: Zpipe, way: str, task: str) -> None:
    """A function that gives an awaitable back, an object that is called, a partial: items run side by side."""
    node = zpipe.run("run", f"waits:{task}", "--range", "20", "--ordered", *WAYS[way])
    assert values(node.out) == list(range(20))


@pytest.mark.parametrize("way", WAYS)
def test_items_fail_and_are_tried_again_alone(zpipe: Zpipe, way: str) -> None:
    """By --retries, by Retry and not by Reject; attempts and dead letters are those of any job."""
    job = ("run", "waits:flaky", "--range", "20", "--retries", "2", "--retry-delay", "0.01", "--ordered")
    node = zpipe.run(*job, "--dead-letters", "dead", "--json", "--output", "out", *WAYS[way], status=1)
    found = records((zpipe.folder / "out").read_text())
    assert {record["index"]: record["attempts"] for record in found if "attempts" in record} == {
        **dict.fromkeys(range(0, 20, 3), 2),
        4: 3,
    }
    assert [record["index"] for record in found if "error" in record] == [8]
    assert json.loads((zpipe.folder / "dead").read_text())["item"] == 8
    assert json.loads(node.out)["retried"] == 9


@pytest.mark.parametrize("way", WAYS)
def test_an_item_that_waits_for_too_long_is_cancelled(zpipe: Zpipe, way: str) -> None:
    """Even one that will not have it fails, alone, with how long it ran; nobody is killed."""
    node = zpipe.run("run", "waits:hang", "--range", "8", "--timeout", "5", "--ordered", *WAYS[way], status=1)
    found = records(node.out)
    assert [record.get("value") for record in found] == [0, 1, 2, None, 4, 5, 6, 7]
    assert found[3]["error"]["type"] == "ItemTimeout"
    assert "its limit is 5 s" in found[3]["error"]["message"]
    assert "killed" not in node.err


def test_an_item_that_holds_up_the_loop_has_its_worker_killed(zpipe: Zpipe) -> None:
    """It is the one that timed out; those beside it are run again."""
    node = zpipe.run("run", "waits:block", "--range", "8", "--timeout", "5", "--ordered", "-w", "1", status=1)
    found = records(node.out)
    assert [record.get("value") for record in found] == [0, 1, 2, None, 4, 5, 6, 7]
    assert found[3]["error"]["type"] == "ItemTimeout"
    assert "killed worker" in node.err


def test_the_item_that_ends_its_worker_is_given_up_alone(zpipe: Zpipe) -> None:
    """Of fifty that run at a time it is known which was at work; the others are done, once each."""
    node = zpipe.run("run", "waits:segfault", "--range", "50", "--max-crashes", "1", "--ordered", "-w", "1", status=1)
    found = records(node.out)
    assert [record["index"] for record in found if "error" in record] == [17]
    assert found[17]["error"]["type"] == "WorkerLost"
    assert [record["index"] for record in found] == list(range(50))


def test_what_ran_in_a_killed_worker_is_run_again(zpipe: Zpipe) -> None:
    """All of it, in the process that takes its place."""
    node = zpipe.start("run", "waits:held", "--range", "10", "--ordered", "-w", "1")
    wait_until(lambda: len(begun(zpipe)) == 10)
    first = begun(zpipe)[0][1]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(begun(zpipe)) == 20)
    assert {pid for _, pid in begun(zpipe)[10:]}.isdisjoint({first})
    (zpipe.folder / "gate").touch()
    assert values(node.ended(0).out) == list(range(10))


def test_a_worker_told_to_leave_finishes_what_it_has_begun(zpipe: Zpipe) -> None:
    """And hands back the rest, which another one runs: nothing is run twice."""
    ventilator = zpipe.start("ventilator", "waits:held", "--range", "30", "--bind", f"{LOCAL}:0", "--chunk", "5")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    leaving = zpipe.start("worker", url, "--slots", "1", "--concurrency", "7")
    wait_until(lambda: len(begun(zpipe)) == 7)
    leaving.signal(signal.SIGTERM)
    staying = zpipe.start("worker", url, "--slots", "1", "--concurrency", "100")
    wait_until(lambda: len(begun(zpipe)) == 30)
    (zpipe.folder / "gate").touch()
    for node in (ventilator, sink, leaving, staying):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(30))
    assert sorted(item for item, _ in begun(zpipe)) == list(range(30))


def test_a_worker_is_replaced_after_so_many_items(zpipe: Zpipe) -> None:
    """For libraries that leak."""
    job = ("run", "waits:pid", "--range", "60", "--chunk", "5", "--max-tasks-per-worker", "10", "-w", "1", "--ordered")
    assert len(set(values(zpipe.run(*job, "--concurrency", "5").out))) >= 3


@pytest.mark.parametrize("way", WAYS)
def test_a_search_does_not_wait_for_the_others(zpipe: Zpipe, way: str) -> None:
    """What runs when the job is over is cancelled."""
    node = zpipe.run("run", "waits:first_of", "--range", "20", "--first", *WAYS[way])
    assert [record["index"] for record in map(json.loads, node.out.splitlines())] == [5]


def test_an_ordinary_function_has_no_concurrency(zpipe: Zpipe) -> None:
    """That is said, with what to do, and the job has not begun; of a command, too."""
    for way in WAYS.values():
        node = zpipe.run("run", "builtins:int", "--range", "5", "--concurrency", "5", *way, status=2)
        assert "no coroutine function: it returned a value of type int" in node.err
        assert "Traceback" not in node.err
    node = zpipe.run("run", "--command", "true", "--range", "5", "--concurrency", "5", status=2)
    assert "--concurrency is for coroutine functions" in node.err


def test_a_second_interrupt_stops_what_runs(zpipe: Zpipe) -> None:
    """In the process itself, as with workers: the first waits for what is in flight."""
    node = zpipe.start("run", "waits:held", "--range", "5", "--workers", "0")
    wait_until(lambda: len(begun(zpipe)) == 5)
    node.signal(signal.SIGINT)
    node.said("finishing what is in flight")
    node.signal(signal.SIGINT)
    node.ended(130)
    assert "stopped by a second interrupt" in node.err
