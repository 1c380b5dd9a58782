"""Ctrl-C and SIGTERM: the first ends the job in order with what is done kept, the second ends it now."""

from __future__ import annotations

import json
import signal

import pytest
from process.tools import LINUX, LOCAL, Node, Zpipe, alive, records, wait_until

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
    assert len(zpipe.noted()) <= begun + 2
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
        zpipe.start("sink", f"ipc://{zpipe.folder}/nobody", "--output", "out"),
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


def test_a_ventilator_that_is_interrupted(zpipe: Zpipe) -> None:
    """It drains; the sink keeps what is done and says why there is no more, and the worker leaves."""
    ventilator = zpipe.start(
        "ventilator", "jobs:noted_slow", "--range", "0:1000", "--chunk", "1", "--bind", f"{LOCAL}:0"
    )
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(zpipe.noted()) >= 4, "items under way")
    ventilator.signal(signal.SIGINT)
    ventilator.ended(130)
    sink.ended(1)
    assert "the job ended before it was whole: interrupted" in sink.err
    assert "the results so far are in out.partial" in sink.err
    assert worker.end() in (0, 1)
    found = records((zpipe.folder / "out.partial").read_text())
    assert [record["value"] for record in found] == sorted(zpipe.noted())


def test_a_sink_that_is_interrupted(zpipe: Zpipe) -> None:
    """It keeps what it has in a .partial file and ends with 130; the job can't go on, and all are told why."""
    ventilator = zpipe.start("ventilator", "jobs:nap", "--range", "0:100000", "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    worker = zpipe.start("worker", url, "--slots", "1")
    partial = zpipe.folder / "out.partial"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 500, "the first results")
    sink.signal(signal.SIGTERM)
    sink.ended(130)
    assert "the results so far are in out.partial" in sink.err
    assert all(record["value"] == record["item"] for record in records(partial.read_text()))
    for node in (ventilator, worker):
        assert "its sink was interrupted" in node.ended(1).err
