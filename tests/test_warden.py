"""The supervisor's eye on a slot: when it looks, whom it has killed, and what it knows of it afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from math import inf

import pytest

from zpipe import context
from zpipe.nodes.warden import LEAST, LOOK, Warden, resident
from zpipe.running.stopwatch import Stopwatch, can_measure


class Desk:
    """A slot at work, as its page tells: `run(item)` has it begin an item now, `idle` end it."""

    def __init__(self, seconds: float = 0.0, memory: int = 0, held: int = 0) -> None:
        self.held = held
        self.warden = Warden(lambda _pid: self.held)
        self.warden.begin()
        self.warden.stopwatch.tell = lambda seconds, memory: self.warden.on_limits(seconds, memory, 100.0)
        self.task = self.warden.stopwatch.watched(lambda then: then(), seconds, memory)

    def during(self, item: int, then: object) -> object:
        """Do something while an item runs."""
        with context.running(item, [], 1, "worker", "job"):
            return self.task(then)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory can be told of here, whatever the system."""
    monkeypatch.setattr("zpipe.running.stopwatch.can_measure", lambda: True)


def test_without_limits_nobody_looks() -> None:
    """A job that has none costs the supervisor nothing."""
    warden = Warden()
    warden.begin()
    assert warden.due is None
    assert warden.explain("killed by SIGSEGV", True) == ("killed by SIGSEGV", True, None, False)


def test_it_looks_when_the_running_item_may_be_late() -> None:
    """An item that begins right after a look can't be late before the limit has passed once more."""
    desk = Desk(5.0)
    assert desk.warden.due == 100.0
    now = time.monotonic()
    assert not desk.warden.look(1, now)
    assert desk.warden.due == now + 5.0
    since = desk.during(7, lambda: desk.warden.stopwatch.read().since)
    assert not desk.during(8, lambda: desk.warden.look(1, since + 3.0))
    read = desk.during(8, desk.warden.stopwatch.read)
    assert (read.item, read.limit) == (8, 5.0)
    assert since + 3.0 + LEAST < desk.warden.due <= read.since + 5.0


def test_an_item_that_is_late_is_named() -> None:
    """The process is to be killed; what it ran, and how long, is known afterwards."""
    desk = Desk(5.0)
    assert desk.during(7, lambda: desk.warden.look(1, time.monotonic() + 6.0))
    assert desk.warden.killed
    assert desk.warden.due is None
    told = desk.during(7, lambda: None) or desk.warden.explain("killed by SIGKILL", False)
    assert told[1:] == (False, None, False), "that one had ended when the process was killed"

    def die() -> object:
        assert desk.warden.look(1, desk.warden.stopwatch.read().since + 6.0)
        return desk.warden.explain("killed by SIGKILL", False)

    desk.warden.begin()
    assert desk.during(7, die) == ("it ran for 6 s, and its limit is 5 s", False, 7, True)


def test_memory_is_looked_at_while_it_has_a_limit() -> None:
    """A process over it has crashed by its item; between items by nobody's that is known."""
    desk = Desk(0.0, 1 << 30, held=1 << 29)
    desk.during(6, lambda: None)
    assert not desk.warden.look(1, 100.0)
    assert desk.warden.due == 100.0 + LOOK
    desk.held = 3 << 29

    def die() -> object:
        assert desk.warden.look(1, 101.0)
        return desk.warden.explain("killed by SIGKILL", False)

    assert desk.during(6, die) == ("it used 1.5 GB of memory, and its limit is 1 GB", True, 6, False)
    assert desk.warden.explain("killed by SIGKILL", False)[2] is None


def test_a_crash_of_a_watched_item_is_its_own() -> None:
    """Whatever it was; a kill from outside says nothing of the item."""
    desk = Desk(5.0)
    crash = desk.during(9, lambda: desk.warden.explain("killed by SIGSEGV", True))
    assert crash == ("killed by SIGSEGV", True, 9, False)
    assert desk.during(9, lambda: desk.warden.explain("killed by SIGKILL", False))[2] is None


def test_a_page_tells_nothing_of_the_process_before() -> None:
    """A new process begins with a clean page."""
    desk = Desk(5.0)

    def forget() -> float:
        desk.warden.begin()
        return desk.warden.stopwatch.read().since

    assert desk.during(9, forget) == 0.0
    assert desk.warden.due is None


def test_the_page_is_shared_with_a_fork() -> None:
    """What a child writes its parent reads."""
    watch = Stopwatch()
    pid = os.fork()
    if not pid:
        with context.running(41, [None], 1, "worker", "job"):
            watch.watched(lambda: os._exit(0), 2.5, 0)()
    os.waitpid(pid, 0)
    page = watch.read()
    assert (page.item, page.limit) == (42, 2.5)
    assert 0 < page.since <= time.monotonic() < inf


@pytest.mark.skipif(not can_measure(), reason="only Linux tells how much memory processes hold")
def test_memory_is_that_of_all_that_was_started() -> None:
    """A child's counts, and its child's; a process that is no more holds nothing."""
    hold = "import sys; data = bytearray(b'x' * 50_000_000); print(1, flush=True); sys.stdin.read()"
    spawn = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", spawn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        assert 50_000_000 < resident(child.pid) < 200_000_000
        child.stdin.close()
    assert resident(child.pid) == 0
