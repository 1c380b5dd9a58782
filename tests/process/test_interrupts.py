"""Ctrl-C and SIGTERM: the first ends the job in order with what is done kept, the second ends it now."""

from __future__ import annotations

import json
import os
import signal

import pytest
from process.tools import LINUX, LOCAL, Node, Zpipe, alive, records, values, wait_until

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_drains(zpipe: Zpipe, number: int) -> None:
    """What is in flight is finished and counted, nothing new is begun, the rest is told, and the status is 130."""
    job = ("run", "jobs:noted_slow", "--range", "0:1000", "--chunk", "1", "--workers", "2", "--output", "out")
    node = zpipe.start(*job)
    wait_until(lambda: len(zpipe.noted()) >= 4, "items under way")
    node.signal(number)
    node.said("interrupted: finishing what is in flight; once more to stop now")
    begun = len(zpipe.noted())
    node.ended(130)
    assert len(zpipe.noted()) <= begun + 100
    found = records((zpipe.folder / "out.partial").read_text())
    assert [record["value"] for record in found] == sorted(zpipe.noted()), "what was begun is done and written"
    assert not (zpipe.folder / "out").exists()
    last = node.err.splitlines()[-1]
    assert last.startswith(f"zpipe: interrupted: {len(found)} items done in ")
    assert "the results so far are in out.partial" in last
    if LINUX:
        assert not zpipe.left()


def test_a_second_signal_stops_now(zpipe: Zpipe) -> None:
    """The second one does not wait for what is in flight, and ends the commands under way too."""
    template = "sh -c 'echo $$ >>pids; exec sleep 1000' {}"
    node = zpipe.start("run", "--command", template, "--range", "0:9", "--workers", "2", "--json")
    commands = wait_until(lambda: len(zpipe.task_pids()) == 2 and zpipe.task_pids(), "two commands")
    node.signal(signal.SIGINT)
    node.said("interrupted: finishing what is in flight")
    assert all(map(alive, commands))
    assert node.process.poll() is None
    node.signal(signal.SIGINT)
    node.ended(130)
    assert not any(map(alive, commands))
    told = json.loads(node.err.splitlines()[-1])
    assert told["interrupted"]
    assert (told["done"], told["exit_status"]) == (0, 130)
    assert node.out == ""


def test_ctrl_c_in_a_terminal(zpipe: Zpipe) -> None:
    """A signal to the whole foreground group, as a terminal sends it, is no different: slots and commands go on."""
    template = "sh -c 'echo begin {} >>seen; sleep 0.5; echo end {} >>seen' {}"
    job = ("run", "--command", template, "--range", "0:1000", "--chunk", "1", "--workers", "2")
    node = zpipe.start(*job, popen={"start_new_session": True})
    seen = zpipe.folder / "seen"
    wait_until(lambda: seen.exists() and seen.read_text().count("begin") >= 2, "two commands")
    node.signal_group(signal.SIGINT)
    node.ended(130)
    assert seen.read_text().count("begin") == seen.read_text().count("end") == len(node.out.splitlines())
    assert all(record["value"]["exit"] == 0 for record in records_of(node))


def records_of(node: Node) -> list[dict[str, dict[str, int]]]:
    """Return the records on stdout."""
    return [json.loads(line) for line in node.out.splitlines()]


def test_an_interrupt_while_nothing_runs(zpipe: Zpipe) -> None:
    """A run that waits for its source, or for workers, ends at once."""
    nodes = [
        zpipe.piped("run", "jobs:same", "--workers", "1"),
        zpipe.start("run", "jobs:same", "--range", "0:9", "--workers", "0", "--bind", f"{LOCAL}:0"),
        zpipe.start("ventilator", "jobs:same", "--range", "0:9", "--bind", f"{LOCAL}:0"),
        zpipe.start("sink", "ipc://nobody", "--output", "out"),
    ]
    for node in nodes[1:3]:
        node.said("listening")
    nodes[0].write("one\n")
    nodes[0].printed("one")
    wait_until((zpipe.folder / "out.partial").exists, "the sink's output")
    for node in nodes:
        node.signal(signal.SIGINT)
        node.ended(130)
    assert not list(zpipe.folder.glob("out*"))


def test_an_interrupt_while_modules_load(zpipe: Zpipe) -> None:
    """It ends the process at once, without a traceback."""
    zpipe.anew = True
    (zpipe.folder / "click.py").write_text("import os, signal\n\nos.kill(os.getpid(), signal.SIGINT)\n")
    node = zpipe.start("run", "jobs:same", "--range", "0:9")
    assert node.end() == -signal.SIGINT
    assert node.err == node.out == ""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_ventilator_that_is_interrupted(zpipe: Zpipe, number: int) -> None:
    """It drains; the sink keeps what is done and says why there is no more, and the worker leaves."""
    ventilator = zpipe.start(
        "ventilator", "jobs:noted_slow", "--range", "0:1000", "--chunk", "1", "--bind", f"{LOCAL}:0"
    )
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(zpipe.noted()) >= 4, "items under way")
    ventilator.signal(number)
    ventilator.ended(130)
    sink.ended(1)
    assert "the job ended before it was whole: interrupted" in sink.err
    assert "the results so far are in out.partial" in sink.err
    assert worker.end() in (0, 1)
    found = records((zpipe.folder / "out.partial").read_text())
    assert [record["value"] for record in found] == sorted(zpipe.noted())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_sink_that_is_interrupted(zpipe: Zpipe, number: int) -> None:
    """It has the job drained: what workers have begun it receives and keeps; the job ends, and all are told why."""
    job = ("jobs:noted_slow", "--range", "0:1000", "--chunk", "1")
    ventilator = zpipe.start("ventilator", *job, "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(zpipe.noted()) >= 4, "items under way")
    sink.signal(number)
    sink.ended(130)
    assert "interrupted: finishing what is in flight; once more to stop now" in sink.err
    assert "the results so far are in out.partial" in sink.err
    for node in (ventilator, worker):
        assert "its sink was interrupted" in node.ended(1).err
    found = records((zpipe.folder / "out.partial").read_text())
    assert [record["value"] for record in found] == sorted(zpipe.noted())


def test_a_sink_that_is_interrupted_twice(zpipe: Zpipe) -> None:
    """It waits for nothing: what has come is kept."""
    ventilator = zpipe.start("ventilator", "jobs:stuck_at_first", "--range", "0:9", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    wait_until((zpipe.folder / "begun").exists, "the item that is stuck")
    sink.signal(signal.SIGTERM)
    sink.said("finishing what is in flight")
    assert sink.process.poll() is None
    sink.signal(signal.SIGTERM)
    sink.ended(130)
    ventilator.ended(1)
    (zpipe.folder / "go").touch()
    worker.ended(1)


@pytest.mark.parametrize("to", ["supervisor", "slot"])
def test_a_worker_that_is_told_to_leave_in_a_long_chunk(zpipe: Zpipe, to: str) -> None:
    """It finishes its item, not its chunk: the rest is another's; what it has done is delivered, once."""
    job = ("jobs:noted_gate", "--range", "0:40", "--chunk", "20")
    ventilator = zpipe.start("ventilator", *job, "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    (pid,) = wait_until(zpipe.task_pids, "the first item")
    if to == "supervisor":
        worker.signal(signal.SIGTERM)
    else:
        os.kill(pid, signal.SIGTERM)
    ventilator.said("leaves")
    (zpipe.folder / "go").touch()
    worker.ended(0)
    assert len(zpipe.noted()) == 1, "the item that it was at"
    other = zpipe.start("worker", url, "--slots", "1")
    for node in (ventilator, sink, other):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(40))
    assert sorted(zpipe.noted()) == list(range(40)), "each was run once"
