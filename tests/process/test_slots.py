"""Slots: a supervisor's worker processes, started, restarted, and gone with it, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
from process.tools import LINUX, LOCAL, Zpipe, alive, values, wait_until

needs_proc = pytest.mark.skipif(not LINUX, reason="finds processes in /proc")


def test_as_many_processes_as_slots(zpipe: Zpipe) -> None:
    """`--slots N` makes N processes that all get work; by default there are as many as there are cores to use."""
    cores = len(os.sched_getaffinity(0)) if LINUX else os.cpu_count() or 1
    zpipe.write("parties", cores + 3)
    job = ("jobs:parent_and_pid", "--range", "0:60", "--chunk", "1", "--expect-workers", str(cores + 3), "--json")
    ventilator = zpipe.start("ventilator", *job, "--bind", f"{LOCAL}:0")
    sink = zpipe.start("sink", ventilator.url(), "--bind", f"{LOCAL}:0")
    three = zpipe.start("worker", ventilator.url(), "--slots", "3")
    usual = zpipe.start("worker", ventilator.url())
    for node in (ventilator, sink, three, usual):
        node.ended(0)
    processes = {tuple(value) for value in values(sink.out)}
    assert Counter(parent for parent, _ in processes) == {three.pid: 3, usual.pid: cores}
    assert json.loads(ventilator.out)["workers"] == cores + 3


@pytest.mark.parametrize(
    ("how", "said"),
    [("exit", "exit status 3"), ("segfault", "killed by SIGSEGV"), ("kill", "killed by SIGKILL")],
)
def test_a_slot_that_crashes_is_started_anew(zpipe: Zpipe, how: str, said: str) -> None:
    """However a task takes its worker down, the slot gets a new one, the item another attempt, the job its end."""
    (zpipe.folder / "how").write_text(how)
    node = zpipe.run("run", "jobs:crash_once", "--range", "0:20", "--workers", "1", "--json")
    assert values(node.out) == list(range(20))
    pid = (zpipe.folder / "crashed").read_text().strip()
    assert f"{pid} slot 0 had ended: {said}" in node.err
    told = json.loads(node.err.splitlines()[-1])
    assert (told["done"], told["failed"], told["lost"], told["workers"]) == (20, 0, 1, 2)


@needs_proc
@pytest.mark.parametrize("who", ["worker", "run"])
def test_sigkill_of_the_supervisor_leaves_nothing(zpipe: Zpipe, who: str) -> None:
    """Slots, and the commands that they run, are gone at once when who started them is killed with SIGKILL."""
    template = "sh -c 'echo $$ >>pids; sleep 1000 & exec sleep 1001' {}"
    job = ("--command", template, "--range", "0:100")
    if who == "run":
        node = zpipe.start("run", *job, "--workers", "3")
    else:
        ventilator = zpipe.start("ventilator", *job, "--bind", f"{LOCAL}:0")
        zpipe.start("sink", ventilator.url(), "--bind", f"{LOCAL}:0")
        node = zpipe.start("worker", ventilator.url(), "--slots", "3")
    wait_until(lambda: len(zpipe.task_pids()) == 3, "three commands")
    others = {other.pid for other in zpipe.nodes if other is not node}
    wait_until(lambda: len(set(zpipe.left()) - others) >= 1 + 3 + 3 + 3, "supervisor, slots, two processes a command")
    node.kill()
    wait_until(lambda: not set(zpipe.left()) - others, lambda: f"the end of {set(zpipe.left()) - others}", 10.0)
    assert not any(map(alive, zpipe.task_pids()))


@needs_proc
def test_a_second_signal_stops_a_worker_at_once(zpipe: Zpipe) -> None:
    """The first signal lets each slot finish its item; the second ends slots and their commands."""
    template = "sh -c 'echo $$ >>pids; exec sleep 1000' {}"
    ventilator = zpipe.start("ventilator", "--command", template, "--range", "0:9", "--bind", f"{LOCAL}:0")
    zpipe.start("sink", ventilator.url(), "--bind", f"{LOCAL}:0")
    worker = zpipe.start("worker", ventilator.url(), "--slots", "2")
    commands = wait_until(lambda: len(zpipe.task_pids()) == 2 and zpipe.task_pids(), "two commands")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert worker.end() == 130
    wait_until(lambda: not any(map(alive, commands)), "the commands' end")
    ventilator.said("lost worker ", "slot 0", "slot 1", " of its chunks go to others")


def test_a_killed_slot_takes_its_commands_along(zpipe: Zpipe) -> None:
    """What a slot has started ends with it, and its item is run again in a new one."""
    template = (
        "sh -c 'echo $PPID >>slots; echo $$ >>pids; test {} -gt 0 -o -e again || { touch again; exec sleep 1000; }'"
    )
    node = zpipe.start("run", "--command", template, "--range", "0:6", "--workers", "1", "--chunk", "1")
    command = wait_until(zpipe.task_pids, "a command")[0]
    wait_until((zpipe.folder / "again").exists, "its sleep")
    os.kill(zpipe.task_pids("slots")[0], signal.SIGKILL)
    wait_until(lambda: not alive(command), "the end of the command")
    node.ended(0)
    assert [value["exit"] for value in values(node.out)] == [0] * 6


def test_a_slot_that_can_never_start_is_given_up(zpipe: Zpipe) -> None:
    """When a file's every load takes the worker down the job ends with a message, not in an endless round."""
    (zpipe.folder / "fatal.py").write_text("import os\n\nos._exit(5)\n\n\ndef task(item):\n    return item\n")
    node = zpipe.run("run", "fatal.py:task", "--range", "0:3", "--workers", "1", status=1)
    assert "7 times before it had loaded a task: slot 0 is given up" in node.err
    assert "all local workers have ended before the job was done; see above why" in node.err


def test_a_killed_supervisor_is_told_of(zpipe: Zpipe) -> None:
    """The job ends, and says why."""
    text = "import os, signal\n\ndef task(item):\n    os.kill(os.getppid(), signal.SIGKILL)\n    signal.pause()\n"
    (zpipe.folder / "fatal.py").write_text(text)
    node = zpipe.run("run", "fatal.py:task", "--range", "0:3", "--workers", "1", "--quiet", status=1)
    assert "the supervisor of the local workers was killed by SIGKILL" in node.err


def test_signals_are_forwarded_to_slots_that_wait(zpipe: Zpipe) -> None:
    """A worker that has found no ventilator yet leaves at once when it is told to."""
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        worker = zpipe.start("worker", "ipc://nobody", "--slots", "2")
        if LINUX:
            wait_until(lambda: len(zpipe.left()) == 3, "its slots")
        worker.signal(number)
        worker.ended(status)
