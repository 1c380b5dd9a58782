"""A job that is asked for its state, paused and ended from another shell."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from process.tools import LINUX, LOCAL, PATIENCE, Node, Zpipe, records, wait_until

from zpipe.core.wire import State
from zpipe.errors import UsageError, ZpipeError
from zpipe.jobs.steering import ask, find
from zpipe.nodes.local import jobs_here

JOB = ("jobs:noted_slow", "--range", "0:1000", "--chunk", "1")


def state(job: object, wish: str = "status") -> State:
    """Ask something of a job, in this process, which takes no time to start."""
    (url,) = find(str(job)).values()
    return ask(url, wish, PATIENCE)


def at_work(zpipe: Zpipe, node: Node, least: int = 1) -> None:
    """Wait until items of a job are under way."""
    wait_until(lambda: len(zpipe.noted()) >= least or node.process.poll() is not None, "items under way")


def test_a_job_is_paused_and_goes_on(zpipe: Zpipe) -> None:
    """By its pid: what runs ends, nothing new begins, whoever looks is told; then it goes on and is cancelled."""
    zpipe.anew = True  # the job is told by its command line, too
    node = zpipe.start("run", *JOB, "--workers", "2", "--output", "out")
    at_work(zpipe, node)
    asked = zpipe.run("pause", node.pid)
    assert f"{node.pid} (zpipe run jobs:noted_slow" in asked.out or not LINUX
    assert "): paused: " in asked.out or not LINUX
    node.said(f"paused; to go on: zpipe unpause {node.pid}")
    told = wait_until(lambda: (found := state(node.pid)).in_flight == 0 and found, "what runs to be done")
    begun = zpipe.noted()
    assert (told.paused, told.phase, told.items, told.total) == (True, "running", len(begun), 1000)
    printed = json.loads(zpipe.run("status", node.pid, "--json").out)
    assert (printed["items"], printed["paused"]) == (len(begun), True)
    assert zpipe.noted() == begun
    assert "running: " in zpipe.run("unpause", node.pid).out
    wait_until(lambda: len(zpipe.noted()) > len(begun), "it to go on")
    zpipe.run("cancel", node.pid)
    node.ended(130)
    assert ": cancelled; the results so far are in out.partial" in node.err.splitlines()[-1]
    assert not LINUX or not zpipe.left()


@pytest.mark.parametrize("drain", [True, False])
def test_three_processes_are_told(zpipe: Zpipe, drain: bool) -> None:
    """By address: the worker that joins in a pause waits for its end; all three end, and what is done is kept."""
    ventilator = zpipe.start("ventilator", *JOB, "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out")
    state(url, "pause")
    worker = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: state(url).workers == 2, "the workers")
    assert not zpipe.noted()
    worker.signal(signal.SIGTERM)
    worker.ended(0)
    other = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: state(url).workers == 2, "others")
    state(ventilator.pid, "unpause")
    at_work(zpipe, ventilator, 3)
    zpipe.run("cancel", url, *(["--drain"] if drain else []))
    ventilator.ended(130)
    sink.ended(1)
    assert "the job ended before it was whole: cancelled" in sink.err
    other.end()
    found = [record["value"] for record in records((zpipe.folder / "out.partial").read_text())]
    assert found == sorted(zpipe.noted()) if drain else set(found) <= set(zpipe.noted())


def test_cancel_ends_what_runs(zpipe: Zpipe) -> None:
    """A command that would run for long is ended with its worker, at once."""
    node = zpipe.start(
        "run", "--command", "sh -c 'echo $$ >>pids; exec sleep 1000' {}", "--range", "0:9", "--workers", "2"
    )
    wait_until(lambda: len(zpipe.task_pids()) == 2, "two commands")
    state(node.pid, "cancel")
    node.ended(130)
    assert not zpipe.working()


def test_a_script_is_steered(zpipe: Zpipe) -> None:
    """A pipeline of a script answers to the script's pid, too."""
    (zpipe.folder / "script.py").write_text(
        "import time, zpipe\n"
        "with zpipe.Pipeline(1) as pipe:\n    try:\n        list(pipe.map(time.sleep, [0.1] * 9999))\n"
        "    except zpipe.BrokenPipeline as error:\n        print(error)\n"
    )
    node = zpipe.python("script.py")
    wait_until(lambda: node.pid in jobs_here(), "its control socket")
    assert state(node.pid).phase in ("gathering", "running")
    state(node.pid, "cancel")
    node.ended(0)
    assert node.out == "the pipeline has ended: cancelled\n"


def test_who_can_not_be_asked(zpipe: Zpipe) -> None:
    """Nobody there, no such process, no address: each is said within seconds, with status 1 or 2."""
    with pytest.raises(ZpipeError, match=r"no answer from a job at tcp://127.0.0.1:9 within 0.1 s"):
        ask(f"{LOCAL}:9", "pause", 0.1)
    assert f"no job of yours runs in process {os.getpid()}" in zpipe.run("cancel", os.getpid(), status=2).err
    with pytest.raises(UsageError, match="is no address"):
        find("tcp://")
    node = zpipe.start("ventilator", *JOB, "--bind", f"{LOCAL}:0")
    node.url()
    node.signal(signal.SIGSTOP)
    (url,) = find(str(node.pid)).values()
    with pytest.raises(ZpipeError, match=r"within 0.5 s: is it running"):
        ask(url, "status", 0.5)
    node.signal(signal.SIGCONT)


@pytest.fixture
def own() -> Iterator[dict[str, str]]:
    """A folder in which no job is but the test's, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="own-", dir="/tmp") as folder:
        yield {"TMPDIR": folder}


def test_the_only_job_needs_no_name(zpipe: Zpipe, own: dict[str, str]) -> None:
    """With no job named it is the one there is; of several, each is shown, and one has to be named."""
    assert "no job of yours runs on this machine" in zpipe.run("pause", status=2, **own).err
    jobs = []
    for count in (1, 2):
        jobs.append(zpipe.start("run", *JOB, "--workers", "0", "--bind", f"{LOCAL}:0", **own))
        jobs[-1].said("listening")
        wait_until(lambda: zpipe.run("status", **own).out.count("\n") == count, "its address")  # noqa: B023
        if count == 1:
            assert zpipe.run("pause", **own).out.startswith(str(jobs[0].pid))
    assert "which of them? Give the pid of one" in zpipe.run("unpause", status=2, **own).err
    for job in jobs:
        job.signal(signal.SIGINT)
        job.ended(130)
    assert os.listdir(own["TMPDIR"]) == []


def test_what_killed_processes_left_is_removed(zpipe: Zpipe, own: dict[str, str]) -> None:
    """The next job of the same user does: not what a living one has, nor what merely looks like it."""
    where = Path(own["TMPDIR"])
    living, dead = (zpipe.start("run", *JOB, "--workers", "1", **own) for _ in range(2))
    wait_until(lambda: len(list(where.glob("zpipe-*/control"))) == 2, "both jobs")
    at_work(zpipe, dead, 2)
    dead.kill()
    mine = where / "zpipe-2024-results"
    mine.mkdir(mode=0o700)
    (mine / "answer").write_text("42")
    open_to_all = where / "zpipe-1-abcdefgh"
    open_to_all.mkdir(mode=0o755)
    assert len(list(where.iterdir())) == 4
    zpipe.run("run", "jobs:same", "--range", "3", "--workers", "1", **own)
    assert {path.name.split("-")[1] for path in where.iterdir()} == {str(living.pid), "2024", "1"}
    assert "running" in zpipe.run("status", living.pid, **own).out
    zpipe.run("cancel", living.pid, **own)
    living.ended(130)
    assert {path.name for path in where.iterdir()} == {mine.name, open_to_all.name}
