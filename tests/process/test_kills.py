"""Workers that are killed, stopped or told to go in the middle of a job: every item's outcome counts once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from collections import Counter

from process.tools import LINUX, LOCAL, PATIENCE, Node, Zpipe, records, values, wait_until


def test_a_worker_is_killed_again_and_again(zpipe: Zpipe) -> None:
    """With a random slot killed every 300 ms every item is in the output exactly once, and every loss is told."""
    zpipe.allow(1599)
    ventilator = zpipe.start("ventilator", "jobs:pid_noted_nap", "--range", "0:1600", "--bind", f"{LOCAL}:0", "--json")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "4")
    killed = _kill_until_the_end(zpipe, ventilator, 8)
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(1600))
    told = json.loads(ventilator.out)
    assert (told["done"], told["failed"], told["total"]) == (1600, 0, 1600)
    assert told["lost"] >= len(killed) - 4, "but those killed after the job's end"
    for pid in killed[:-4]:
        assert f"worker {pid} of slot " in worker.err
    assert worker.err.count("killed by SIGKILL; a new one starts") >= len(killed) - 4
    assert ventilator.err.count("lost worker ") == told["lost"]


def test_slots_of_a_run_are_killed_again_and_again(zpipe: Zpipe) -> None:
    """A fold in the items' order is exact too while its workers are killed."""
    zpipe.allow(999)
    job = ("run", "jobs:pid_noted_nap", "--range", "0:1000", "--workers", "4", "--ordered")
    node = zpipe.start(*job, "--reduce", "jobs:gather", "--initial", "[]")
    killed = _kill_until_the_end(zpipe, node, 5)
    node.ended(0)
    assert json.loads(node.out) == list(range(1000))
    assert node.err.count("lost worker ") >= len(killed) - 4, "but those killed after the job's end"


def _kill_until_the_end(zpipe: Zpipe, node: Node, least: int) -> list[int]:
    """Kill a random process that has run a task every 300 ms, until `node` ends; return those killed.

    The last item waits until there are so many.
    """
    killed: list[int] = []
    chance = random.Random(7)
    deadline = time.monotonic() + 2 * PATIENCE
    while node.process.poll() is None:
        assert time.monotonic() < deadline, "the job does not end"
        running = zpipe.working()
        if running:
            victim = chance.choice(running)
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
        if len(killed) == least:
            zpipe.allow(10**9)
        soon = time.monotonic() + 0.3
        wait_until(lambda soon=soon: time.monotonic() > soon or node.process.poll() is not None)
    return killed


def test_only_what_a_killed_worker_had_is_done_again(zpipe: Zpipe) -> None:
    """The chunk that it ran goes to another with the next attempt; what it had not begun is not run twice."""
    job = ("run", "jobs:die_once", "--range", "0:40", "--chunk", "1", "--workers", "2", "--output", "out", "--json")
    told = json.loads(zpipe.run(*job).out)
    found = values((zpipe.folder / "out").read_text())
    assert [value for value, _ in found] == list(range(40))
    assert dict(found)[7] == 2
    noted = Counter(zpipe.noted())
    assert noted.pop(7) == 2
    assert set(noted.values()) == {1}
    assert (told["lost"], told["duplicates"]) == (1, 0)
    assert told["requeued"] >= 1


def test_a_lost_worker_is_told_with_all_that_is_known(zpipe: Zpipe) -> None:
    """Host, pid and slot at once, and how it ended as soon as its slot's next process has joined."""
    node = zpipe.run("run", "jobs:die_once", "--range", "0:20", "--workers", "1", "--output", "out")
    pid = (zpipe.folder / "victim").read_text().strip()
    lost = next(line for line in node.err.splitlines() if "lost worker" in line)
    host = os.uname().nodename
    assert re.search(rf"lost worker {host}/{pid} slot 0: its connection was cut; \d+ of its chunks go to others", lost)
    assert f"worker {host}/{pid} slot 0 had ended: killed by SIGKILL" in node.err
    assert re.search(r"1 worker lost, \d+ chunks? sent again", node.err.splitlines()[-1])


def test_a_worker_that_falls_silent(zpipe: Zpipe) -> None:
    """Heartbeats find out a stopped worker: others do its item, its own late result is dropped, and it joins again."""
    for name in ("stop", "go slow"):
        (zpipe.folder / name).touch()
    args = ("jobs:wait_at_first", "--range", "0:1000", "--bind", f"{LOCAL}:0", "--heartbeat", "1", "--json")
    ventilator = zpipe.start("ventilator", *args, "--chunk", "1")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    first = zpipe.start("worker", url, "--slots", "1", "--heartbeat", "30")
    stopped = wait_until(zpipe.task_pids, "the first worker at its item")[0]
    os.kill(stopped, signal.SIGSTOP)
    second = zpipe.start("worker", url, "--slots", "1")
    ventilator.said(f"/{stopped} slot 0: ", " of its chunks go to others")
    wait_until(lambda: zpipe.task_pids("again"), "another worker at that item")
    os.kill(stopped, signal.SIGCONT)
    (zpipe.folder / "stop").unlink()
    wait_until(lambda: zpipe.task_pids().count(stopped) > 1, "the worker back at work")
    (zpipe.folder / "go slow").unlink()
    for node in (ventilator, sink, first, second):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(1000))
    told = json.loads(ventilator.out)
    assert told["lost"] >= 1, "with such a heartbeat others may have been silent for too long, too"
    assert told["requeued"] >= 1


def test_a_slot_that_is_stopped_when_the_job_ends(zpipe: Zpipe) -> None:
    """A run goes on without a local slot that is stopped, and ends without it: nothing is left."""
    (zpipe.folder / "stop").touch()
    job = ("run", "jobs:wait_at_first", "--range", "0:50", "--chunk", "1", "--workers", "2", "--heartbeat", "1")
    node = zpipe.start(*job)
    wait_until((zpipe.folder / "waits").exists, "a slot at the first item")
    os.kill(zpipe.task_pids("waits")[0], signal.SIGSTOP)
    node.ended(0)
    assert values(node.out) == list(range(50))
    if LINUX:
        wait_until(lambda: not zpipe.left(), lambda: f"the end of {zpipe.left()}")


def test_a_worker_that_is_told_to_go(zpipe: Zpipe) -> None:
    """On SIGTERM each slot finishes the item it is at, hands back what it has not begun, and leaves with status 0."""
    args = ("jobs:noted_slow", "--range", "0:120", "--bind", f"{LOCAL}:0", "--json", "--chunk", "2")
    ventilator = zpipe.start("ventilator", *args)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    first = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(zpipe.noted()) >= 3, "both slots at work")
    first.signal(signal.SIGTERM)
    first.ended(0)
    assert len(zpipe.noted()) < 120
    (zpipe.folder / "hurry").touch()
    second = zpipe.start("worker", url, "--slots", "4")
    for node in (ventilator, sink, second):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(120))
    assert sorted(zpipe.noted()) == list(range(120)), "something was run twice"
    told = json.loads(ventilator.out)
    assert (told["lost"], told["duplicates"]) == (0, 0)


def test_chunks_queued_at_a_leaving_worker_are_handed_back(zpipe: Zpipe) -> None:
    """Quick items make a deep queue at a worker; when it is told to go, what it has not begun runs elsewhere, once."""
    args = ("jobs:noted_with_one_held", "--range", "0:3000", "--bind", f"{LOCAL}:0", "--json", "--chunk", "1")
    ventilator = zpipe.start("ventilator", *args)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    first = zpipe.start("worker", url, "--slots", "1")
    wait_until(lambda: 1000 in zpipe.noted(), "the item that is held")
    first.signal(signal.SIGTERM)
    ventilator.said("leaves; ", " chunks it had not started go to others")
    (zpipe.folder / "go").touch()
    first.ended(0)
    second = zpipe.start("worker", url, "--slots", "1")
    for node in (ventilator, sink, second):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(3000))
    assert sorted(zpipe.noted()) == list(range(3000)), "something was run twice"
    told = json.loads(ventilator.out)
    assert (told["lost"], told["duplicates"]) == (0, 0)
    assert told["requeued"] > 0


def test_when_all_are_killed_nothing_is_left(zpipe: Zpipe) -> None:
    """Sink, worker and ventilator are killed: no process of theirs is left, and what was written is right."""
    ventilator = zpipe.start("ventilator", "jobs:nap", "--range", "0:100000", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    worker = zpipe.start("worker", url, "--slots", "3")
    wait_until(lambda: sink.out.count("\n") > 10, "the first results")
    for node in (sink, worker, ventilator):
        node.kill()
    if LINUX:
        wait_until(lambda: not zpipe.left(), lambda: f"the end of {zpipe.left()}")
    assert all(record["value"] == record["index"] for record in records(sink.out.rpartition("\n")[0]))
