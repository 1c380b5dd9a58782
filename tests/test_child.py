"""One program run: whichever way its end and its output are waited for, the output is whole."""

from __future__ import annotations

import os

import pytest

from zpipe.running.child import Child
from zpipe.running.commands import PATIENCE, CommandTask

LONG = 600.0
"""Seconds nobody waits for a program that has ended."""


@pytest.fixture(params=["seen", "unseen"])
def _ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a system that tells of a process's end by a descriptor, if it does, and with one that does not."""
    if request.param == "unseen":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


def run(script: str, patience: float) -> tuple[bytes, bytes, int]:
    """Run a script; return what it wrote and its status."""
    with Child([b"sh", b"-c", script.encode()], None, os.environb) as child:
        return *child.read(patience), child.wait()


@pytest.mark.usefixtures("_ends")
@pytest.mark.parametrize("patience", [0.0, LONG])
def test_little_is_heard(patience: float) -> None:
    """On both outputs, on one, or on none."""
    assert run("echo out; echo err >&2; exit 3", patience) == (b"out\n", b"err\n", 3)
    assert run("echo err >&2", patience) == (b"", b"err\n", 0)
    assert run("kill -9 $$", patience) == (b"", b"", -9)


@pytest.mark.usefixtures("_ends")
@pytest.mark.parametrize("patience", [0.0, LONG])
def test_what_is_left_behind_is_heard_out(patience: float) -> None:
    """A program that has ended may have left others that hold its output."""
    out, err, _ = run("(sleep 0.2; echo late) & (sleep 0.1; echo late >&2) & echo early", patience)
    assert (sorted(out.split()), err) == ([b"early", b"late"], b"late\n")


@pytest.mark.usefixtures("_ends")
@pytest.mark.parametrize("patience", [0.0, 0.001])
def test_much_is_heard(patience: float) -> None:
    """More than a pipe holds, which the program waits to be rid of."""
    out, err, status = run("head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2", patience)
    assert (len(out), len(err), status) == (1_000_000, 300_000, 0)


def test_exactly_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends where a read does is taken for no less than it is, nor for more."""
    monkeypatch.setattr("zpipe.running.child._READ", 4)
    assert run("printf 12345678", LONG)[0] == b"12345678"
    assert run("printf 123456789", 0.0)[0] == b"123456789"


def test_a_command_that_says_much_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next time: how much it said is what is expected of it."""
    asked: list[float] = []
    read = Child.read

    def noted(child: Child, patience: float = 0.0) -> tuple[bytes, bytes]:
        asked.append(patience)
        return read(child, patience)

    monkeypatch.setattr(Child, "read", noted)
    task = CommandTask("head -c {} /dev/zero", False)
    assert [len(task(size)["stdout"]) for size in (10, 100_000, 10, 10)] == [10, 100_000, 10, 10]
    assert asked == [PATIENCE, PATIENCE, 0.0, PATIENCE]
