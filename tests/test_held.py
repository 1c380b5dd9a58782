"""Signals that wait: nothing strikes inside, nothing is lost, everything is as it was afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zpipe.api.held import Held


class Struck(Exception):
    """What the test's handler raises."""


@pytest.fixture
def struck() -> Iterator[list[int]]:
    """SIGUSR1 raises; every time is noted."""
    times: list[int] = []

    def strike(number: int, _: Any) -> None:
        times.append(number)
        raise Struck

    before = signal.signal(signal.SIGUSR1, strike)
    yield times
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_runs_as_soon_as_it_may(struck: list[int]) -> None:
    """Not inside, where the bell is rung instead; on leaving, once, and what it raises is raised there."""
    rung = []
    handler = signal.getsignal(signal.SIGUSR1)

    def kill() -> None:
        with Held(lambda: rung.append(1)) as held:
            os.kill(os.getpid(), signal.SIGUSR1)
            while not held.came:
                pass
            assert (struck, rung) == ([], [1])

    with pytest.raises(Struck):
        kill()
    assert struck == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is handler
    with Held():
        pass
    assert struck == [signal.SIGUSR1]


def test_ctrl_c_waits_too() -> None:
    """It is the signal that this is for."""
    reached = False

    def interrupt() -> None:
        nonlocal reached
        with Held():
            signal.raise_signal(signal.SIGINT)
            reached = True

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_all_that_came_run_though_one_raises(struck: list[int]) -> None:
    """Each handler is called, and each signal's is its own again."""
    handler = signal.getsignal(signal.SIGUSR1)

    def raise_two() -> None:
        with Held():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises((Struck, KeyboardInterrupt)):
        raise_two()
    assert struck == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_leaves_nothing_held() -> None:
    """Whatever ends it."""
    with pytest.raises(ZeroDivisionError), Held():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_was_set_meanwhile_stays(struck: list[int]) -> None:
    """Some callback's, say: it is not put back over."""
    with Held():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    assert struck == []


def test_one_in_another(struck: list[int]) -> None:
    """The outer one's end is what counts."""

    def nest() -> None:
        with Held():
            with Held():
                signal.raise_signal(signal.SIGUSR1)
            assert struck == []

    with pytest.raises(Struck):
        nest()
    assert struck == [signal.SIGUSR1]


def test_other_threads_have_no_signals_to_hold(struck: list[int]) -> None:
    """Handlers only ever run in the main thread."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Held():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(Struck):
        signal.raise_signal(signal.SIGUSR1)
    leave.set()
    thread.join(60)
    assert struck == [signal.SIGUSR1]


def test_a_forked_child_has_its_handlers() -> None:
    """Even if it was forked by another thread, whereas the one that would put them back is no more."""
    inside, forked = threading.Event(), threading.Event()
    children = []

    def fork() -> None:
        inside.wait(60)
        pid = os.fork()
        if not pid:
            os._exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
        children.append(pid)
        forked.set()

    thread = threading.Thread(target=fork)
    thread.start()
    with Held():
        inside.set()
        assert forked.wait(60)
    thread.join(60)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
