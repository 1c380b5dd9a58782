"""Limits on what an item may take: time, memory, crashes; and workers that are replaced after so many items."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from process.tools import LINUX, LOCAL, Zpipe, records, values, wait_until

ONE_CHUNK = ("--range", "0:16", "--chunk", "16", "--workers", "2")
LIMIT = ("--timeout", "0.5", "--retries", "3", "--retry-delay", "0.01")
"""A quick item, too, may be held up for so long, on a busy machine; but not so often."""


@pytest.mark.parametrize("task", ["spin_on_seven", "hold_on_seven"])
def test_an_item_that_takes_too_long_fails_alone(zpipe: Zpipe, task: str) -> None:
    """Whatever code it is in, it is killed and given up; the fifteen others of its chunk come out right."""
    job = ("run", f"jobs:{task}", *ONE_CHUNK, *LIMIT, "--dead-letters", "dead", "--json", "--joblog", "log")
    node = zpipe.run(*job, "--output", "out", status=1)
    found = records((zpipe.folder / "out").read_text())
    assert [record["index"] for record in found] == list(range(16))
    assert [record["value"] for record in found if "value" in record] == [n for n in range(16) if n != 7]
    (letter,) = map(json.loads, (zpipe.folder / "dead").read_text().splitlines())
    assert (letter["index"], letter["item"], letter["attempts"]) == (7, 7, 4)
    assert letter["error"]["type"] == "ItemTimeout"
    assert re.match(r"it ran for [\d.]+ s, and its limit is 0.5 s ", letter["error"]["message"])
    assert f"(worker {letter['worker']})" in letter["error"]["message"]
    (line,) = [line for line in (zpipe.folder / "log").read_text().splitlines() if line.startswith("8\t")]
    assert line.split("\t")[6:8] == ["0", "9"]
    assert float(line.split("\t")[3]) >= 0.5
    told = json.loads(node.out)
    assert (told["done"], told["failed"], told["lost"]) == (16, 1, 0)
    assert "over item 7: it ran for " in node.err


def test_an_item_that_kills_its_worker_by_hand_is_given_up(zpipe: Zpipe) -> None:
    """Nobody can know who sent the signal; but so often it is no chance. The log and the letter say who died of it."""
    job = ("run", "jobs:die_at_three", "--range", "0:6", "--workers", "1", "--max-crashes", "1", "--chunk", "1")
    job = (*job, "--dead-letters", "dead", "--joblog", "log")
    found = records(zpipe.run(*job, status=1).out)
    assert [record["value"] for record in found if "value" in record] == [[n, 1] for n in range(6) if n != 3]
    killed = zpipe.task_pids()
    assert len(killed) == 8
    (letter,) = map(json.loads, (zpipe.folder / "dead").read_text().splitlines())
    message = letter["error"]["message"]
    assert message == "it was given up: 8 workers ended while they ran it; the last one: killed by SIGKILL"
    assert letter["attempts"] == 8
    assert f"/{killed[-1]} slot " in letter["worker"]
    line = next(line for line in (zpipe.folder / "log").read_text().splitlines() if line.startswith("4\t"))
    assert line.split("\t")[6:8] == ["0", "9"]


def test_an_item_that_took_too_long_is_tried_again(zpipe: Zpipe) -> None:
    """That is a retry as any other, and one of them comes good."""
    node = zpipe.run("run", "jobs:hold_once_on_seven", *ONE_CHUNK, *LIMIT, "--output", "out", "--json")
    found = records((zpipe.folder / "out").read_text())
    assert [record["value"] for record in found] == list(range(16))
    assert found[7]["attempts"] >= 2
    assert json.loads(node.out)["retried"] >= 1


def test_a_command_is_killed_with_what_it_has_started(zpipe: Zpipe) -> None:
    """A child of the shell's, too, and no process is left; others run to their end."""
    job = ("run", "--shell", "--command", "echo $$ >> pids; sleep {} & echo $! >> pids; wait", *LIMIT)
    node = zpipe.run(*job, "--workers", "2", text="0.01\n999\n0.02\n", status=1)
    found = records(node.out)
    assert [record.get("error", {}).get("type") for record in found] == [None, "ItemTimeout", None]
    wait_until(lambda: not zpipe.working(), lambda: f"the end of {zpipe.working()}")


def test_workers_of_other_hosts_are_watched_too(zpipe: Zpipe) -> None:
    """The limits travel with the job; a worker whose only slot was killed last ends with the job."""
    job = ("jobs:hold_on_seven", "--range", "0:8", "--chunk", "8", *LIMIT)
    ventilator = zpipe.start("ventilator", *job, "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    for node, status in ((ventilator, 1), (sink, 1), (worker, 0)):
        node.ended(status)
    found = records((zpipe.folder / "out").read_text())
    assert [record["index"] for record in found if "error" in record] == [7]
    assert "ended: it ran for " in worker.err


def test_a_slot_whose_items_all_take_too_long_is_not_given_up(zpipe: Zpipe) -> None:
    """Many more of its processes are killed than a slot that crashes by itself is allowed."""
    job = ("run", "jobs:spin", "--range", "0:12", "--timeout", "0.02", "--workers", "1", "--json", "--output", "out")
    node = zpipe.run(*job, status=1)
    found = records((zpipe.folder / "out").read_text())
    assert [record["error"]["type"] for record in found] == ["ItemTimeout"] * 12
    assert json.loads(node.out)["lost"] == 0
    assert "given up" not in node.err


@pytest.mark.skipif(not LINUX, reason="only Linux tells how much memory processes hold")
def test_an_item_that_takes_too_much_memory_is_given_up(zpipe: Zpipe) -> None:
    """Each worker killed over it counts as a crash of that item alone, and its error names the limit."""
    job = ("run", "jobs:hoard_on_seven", *ONE_CHUNK, "--max-memory", "200M", "--max-crashes", "2")
    node = zpipe.run(*job, "--output", "out", "--json", status=1)
    found = records((zpipe.folder / "out").read_text())
    assert [record["value"] for record in found if "value" in record] == [n for n in range(16) if n != 7]
    error = found[7]["error"]
    assert error["type"] == "WorkerLost"
    assert error["message"].startswith("it was given up: 2 workers ended while they ran it; the last one: it used ")
    assert error["message"].endswith(" of memory, and its limit is 200 MB")
    assert json.loads(node.out)["lost"] == 2


@pytest.mark.skipif(not LINUX, reason="only Linux tells how much memory processes hold")
def test_memory_that_a_command_takes_is_its_workers(zpipe: Zpipe) -> None:
    """What the command's processes hold counts."""
    command = "python -c \"x = [b'x' * 4000000 for _ in range({} * 100)]\""
    job = ("run", "--command", command, "--max-memory", "200M", "--max-crashes", "1", "--workers", "1")
    node = zpipe.run(*job, text="0\n1000\n", status=1)
    assert [record.get("error", {}).get("type") for record in records(node.out)] == [None, "WorkerLost"]


def test_an_item_is_given_up_after_so_many_crashes(zpipe: Zpipe) -> None:
    """Three by default, or as many as are asked for; with a time limit its chunk need not be halved to find it."""
    for args, crashes in (((), 3), (("--max-crashes", "1", "--timeout", "60"), 1)):
        (zpipe.folder / "crashes").unlink(missing_ok=True)
        node = zpipe.run("run", "jobs:crash_on_seven", *ONE_CHUNK, *args, status=1)
        assert [record["index"] for record in records(node.out) if "error" in record] == [7]
        seen = len((zpipe.folder / "crashes").read_text().split())
        assert seen >= crashes
        if "--timeout" in args:
            assert seen == 1


def test_workers_are_replaced_after_so_many_items(zpipe: Zpipe) -> None:
    """No process runs more than its chunk allows beyond that; nothing is lost, and nothing counts as sent again."""
    job = (
        "run",
        "jobs:with_pid",
        "--range",
        "0:200",
        "--workers",
        "2",
        "--max-tasks-per-worker",
        "20",
        "--output",
        "out",
    )
    node = zpipe.run(*job, "--chunk", "3", "--json")
    found = values((zpipe.folder / "out").read_text())
    assert [item for item, _ in found] == list(range(200))
    ran = Counter(pid for _, pid in found)
    assert max(ran.values()) <= 22
    assert len(ran) >= 200 // 22
    told = json.loads(node.out)
    assert (told["lost"], told["requeued"], told["duplicates"]) == (0, 0, 0)
    assert "leaves" not in node.err


def test_replaced_workers_end_with_their_job(zpipe: Zpipe) -> None:
    """A worker of one slot, replaced again and again, does not wait for another job after the last."""
    ventilator = zpipe.start(
        "ventilator", "jobs:with_pid", "--range", "0:8", "--max-tasks-per-worker", "1", "--bind", f"{LOCAL}:0"
    )
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert len({pid for _, pid in values((zpipe.folder / "out").read_text())}) == 8


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--timeout", "0"), "--timeout"),
        (("--max-memory", "much"), "'much' is no size"),
        (("--max-crashes", "0"), "--max-crashes"),
        (("--max-tasks-per-worker", "0"), "--max-tasks-per-worker"),
    ],
)
def test_limits_that_make_no_sense_are_refused(zpipe: Zpipe, args: tuple[str, ...], said: str) -> None:
    """With status 2, before anything is run."""
    assert said in zpipe.run("run", "jobs:same", "--range", "3", *args, status=2).err
