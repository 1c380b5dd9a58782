"""Rare meetings of events that once went wrong, with real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from process.tools import free_port

from zpipe.cli import options, run, sink, ventilator, worker

DEADLINE = 120.0

TASKS = """
import os, time

def noop(x):
    return x

def slow(x):
    time.sleep(0.05)
    return x

def hit_at_one(x):
    time.sleep(0.02)
    return x == 1

def breaks():
    yield from range(20)
    raise ValueError("the source broke")

def raises(x):
    if x == 0:
        time.sleep(0.5)
        return 0
    raise ValueError(f"bad {x}")

def gated(x):
    with open("begun", "a") as file:
        file.write(".")
    while not os.path.exists("go"):
        time.sleep(0.01)
    time.sleep(0.02)
    return x

def collect(so_far, value):
    return so_far + [value]

BUFFER = bytearray(1 << 20)

class View:
    def __reduce_ex__(self, protocol):
        import pickle
        return bytes, (pickle.PickleBuffer(BUFFER),)

def reused(x):
    BUFFER[:] = bytes([x % 251]) * len(BUFFER)
    return View()

def whole(so_far, value):
    return so_far + (value == value[:1] * len(value))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tasks."""
    (tmp_path / "edge.py").write_text(TASKS)
    return tmp_path


def zpipe(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "zpipe", *args],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("task", ["noop", "slow"])
def test_a_source_that_breaks_is_not_a_success(folder: Path, task: str) -> None:
    """Quick or slow, a job whose source failed half-way keeps what it has apart, and says so by its status."""
    done = zpipe(folder, "run", f"edge.py:{task}", "--source", "edge.py:breaks", "-o", "out", "-w", "2")
    assert done.returncode == 1
    assert "the source broke" in done.stderr
    assert not (folder / "out").exists()
    assert len((folder / "out.partial").read_text().splitlines()) == 20


def test_a_hit_ends_the_job_while_its_lane_is_being_filled(folder: Path) -> None:
    """The receipt that brings the hit also frees the lane: nothing is sent down it any more."""
    for _ in range(3):
        done = zpipe(
            folder, "run", "edge.py:hit_at_one", *["--range", "3", "--first", "--chunk", "1", "-w", "1", "--raw"]
        )
        assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_value_in_memory_that_is_used_again_arrives_whole(folder: Path) -> None:
    """A task may refill the buffer it returned: what was sent is what it was then."""
    fold = ["--reduce", "edge.py:whole", "--initial", "0"]
    done = zpipe(folder, "run", "edge.py:reused", "--range", "120", *fold, "--chunk", "1", "-w", "1")
    assert done.stdout == "120\n", done.stderr


def test_one_slot_that_is_told_to_leave_leaves_alone(folder: Path) -> None:
    """SIGTERM to one worker process drains that one; its siblings finish the job."""
    job = ["run", "edge.py:gated", "--range", "50", "-w", "3", "--chunk", "1", "-o", "out"]
    process = subprocess.Popen([sys.executable, "-m", "zpipe", *job], cwd=folder, stderr=subprocess.PIPE, text=True)
    until(lambda: (folder / "begun").exists() and len((folder / "begun").read_text()) == 3, "three slots at work")
    slots = children(children(process.pid)[0])
    os.kill(slots[0], signal.SIGTERM)
    (folder / "go").touch()
    _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, told
    assert len((folder / "out").read_text().splitlines()) == 50


def test_fewer_lane_ports_than_workers_is_slower_not_wrong(folder: Path) -> None:
    """Workers for which there is no lane wait and say why; the others do the job."""
    port = free_port()
    bind = ["--bind", "tcp://127.0.0.1:0", "--lane-ports", f"{port}-{port}", "-w", "3"]
    job = [sys.executable, "-m", "zpipe", "run", "edge.py:gated", "--range", "20", "--reduce", "operator:add", *bind]
    with (folder / "told").open("w") as told, (folder / "sum").open("w") as out:
        process = subprocess.Popen(job, cwd=folder, stdout=out, stderr=told)
    until(lambda: "has to wait for a lane" in (folder / "told").read_text(), "a worker to wait")
    (folder / "go").touch()
    assert process.wait(DEADLINE) == 0, (folder / "told").read_text()
    assert (folder / "sum").read_text() == "190\n"


def test_failures_behind_a_slow_item_are_told_in_order(folder: Path) -> None:
    """With --ordered, failed items that had to wait for an earlier one are still told of."""
    done = zpipe(folder, "run", "edge.py:raises", *["--range", "4", "--ordered", "--raw", "--chunk", "1", "-w", "2"])
    assert done.returncode == 1
    assert done.stdout == "0\n"
    for item in (1, 2, 3):
        assert f"item {item} failed: ValueError: bad {item}" in done.stderr


def test_an_ipc_address_in_use_is_not_taken_away(folder: Path) -> None:
    """A second ventilator at a live socket is refused; and an ended one leaves no file behind."""
    first = subprocess.Popen(
        [sys.executable, "-m", "zpipe", "ventilator", "edge.py:noop", "--range", "3", "--bind", "ipc://s"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    until((folder / "s").exists, "the socket")
    done = zpipe(folder, "ventilator", "edge.py:noop", "--range", "3", "--bind", "ipc://s")
    assert done.returncode == 2
    assert "in use" in done.stderr
    sink = zpipe(folder, "run", "edge.py:noop", "--range", "3", "--bind", "ipc://t", "-q", "-o", "out")
    assert sink.returncode == 0
    first.send_signal(signal.SIGINT)
    assert first.wait(DEADLINE) == 130
    assert sorted(path.name for path in folder.iterdir()) == ["edge.py", "out"]


def test_a_stranger_on_a_lane_port_costs_nobody_his_work(folder: Path) -> None:
    """Connecting to every port and going away again, as scanners do, loses no worker."""
    job = ["run", "edge.py:gated", "--range", "60", "-w", "2", "--bind", "tcp://127.0.0.1:0", "--chunk", "1", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zpipe", *job, "-o", "out"],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until((folder / "begun").exists, "work")
    for port in listening(process.pid):
        with socket.socket() as stranger:
            stranger.connect(("127.0.0.1", port))
    (folder / "go").touch()
    summary, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, told
    assert '"lost":0' in summary


def listening(pid: int) -> list[int]:
    """The tcp ports a process listens at."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in links}
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    ports = [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]
    assert ports
    return ports


def test_an_interrupt_reaches_a_job_whose_reader_does_not_read(folder: Path) -> None:
    """Held up in a write to a pipe, it stops at the second interrupt and leaves nothing running."""
    reading, writing = os.pipe()
    job = [sys.executable, "-m", "zpipe", "run", "edge.py:noop", "--range", "3000000", "-w", "2"]
    process = subprocess.Popen(job, cwd=folder, stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    until(lambda: held_by(reading) > fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ) - 8192, "the pipe to be full")
    slots = [pid for child in children(process.pid) for pid in children(child)]
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    os.close(reading)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in slots), "the slots to end")


def held_by(pipe: int) -> int:
    """How many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_every_option_can_be_given_in_the_environment(folder: Path) -> None:
    """ZPIPE_ and the option's name, for each option of each command."""
    for command in (run.command, ventilator.command, worker.command, sink.command):
        for option in (each for each in command.params if isinstance(each, click.Option)):
            name = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
            with click.Context(command, **{**options.SETTINGS, "help_option_names": []}) as context:
                value = option.envvar or f"{context.auto_envvar_prefix}_{(option.name or '').upper()}"
            assert value == f"ZPIPE_{name}", option.opts
    done = zpipe(
        folder, "run", "edge.py:noop", ZPIPE_RANGE="3", ZPIPE_FORMAT="raw", ZPIPE_ORDERED="1", ZPIPE_WORKERS="1"
    )
    assert done.stdout == "0\n1\n2\n"
