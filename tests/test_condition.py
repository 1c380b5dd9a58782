"""Conditions and flags that a signal's handler may strike whoever waits for at any moment: nobody else is harmed."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial
from types import FrameType
from typing import Any

import pytest

from zpipe.api import condition, held, maps
from zpipe.api import futures as own_futures
from zpipe.api.condition import Condition, Flag
from zpipe.api.functions import Function
from zpipe.api.futures import PipelineFuture
from zpipe.core.chunking import Chunker
from zpipe.core.spec import TaskSpec

PATIENCE = 120.0

FILES = {str(module.__file__) for module in (condition, held, maps, own_futures, futures._base, threading)}
"""Where moments are counted: our code that waits, and the standard's beneath it."""


class Struck(Exception):
    """What the test's handler raises."""


class Nobody:
    """A hand that is of no help."""

    def lend(self, future: Any, timeout: float | None) -> None:
        """Do nothing."""

    def look(self) -> None:
        """Do nothing."""

    on_done = lend


def pending() -> PipelineFuture[int]:
    """A future that nobody settles but the test."""
    future: PipelineFuture[int] = PipelineFuture()
    future.hand = Nobody()
    return future


def strike_at(moment: int, call: Callable[[], object]) -> str:
    """Call it, and have a handler raise at the so-manieth moment in `FILES`; return where, empty if it ended before.

    Python runs handlers where one of its functions begins, and after a call: just where a profiler hears of it.
    """
    seen, where = 0, ""

    def strike(number: int, frame: FrameType | None) -> None:
        raise Struck

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        nonlocal seen, where
        if event in ("call", "c_return") and frame.f_code.co_filename in FILES:
            seen += 1
            if seen == moment:
                where = f"{event} in {frame.f_code.co_name}, line {frame.f_lineno}"
                sys.setprofile(None)
                signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, strike)
    try:
        sys.setprofile(on_event)
        call()
    except Struck:
        assert where
    except futures.TimeoutError:
        assert not where, f"the handler did not run: {where}"
    finally:
        sys.setprofile(None)
        after = signal.signal(signal.SIGUSR1, before)
    assert after is strike, where
    return where


def elsewhere(call: Callable[[], object]) -> None:
    """Call it in another thread; it must come back."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "wait",
    [
        lambda calls: calls[0].result(0.001),
        lambda calls: calls[1].result(0.001),
        lambda calls: calls[0].exception(0.001),
        lambda calls: futures.wait(calls, 0.001),
        lambda calls: list(futures.as_completed(calls, 0.001)),
    ],
    ids=["result of one that is pending", "result of one that is done", "exception", "wait", "as_completed"],
)
def test_whoever_waits_for_futures_is_struck(wait: Callable[[list[PipelineFuture[int]]], object]) -> None:
    """At each moment there is: what the handler raises is raised, and the futures can be settled, and read."""
    for moment in itertools.count(1):
        calls = [pending(), pending(), pending()]
        calls[1].set_result(1)
        where = strike_at(moment, partial(wait, calls))
        elsewhere(partial(calls[0].set_result, 0))
        elsewhere(calls[2].cancel)
        assert [calls[0].result(), calls[1].result()] == [0, 1], where
        if not where:
            break
    assert moment > 5


def test_whoever_waits_for_a_maps_results_is_struck() -> None:
    """The pipeline's thread can hand them in all the same, and they can be dropped."""
    for moment in itertools.count(1):
        made = maps.MapCall(
            Function(1, TaskSpec("pickle", "f", b"")),
            range(3),
            wake=lambda: None,
            chunker=Chunker(),
            slots=lambda: 1,
        )
        where = strike_at(moment, partial(made.next, 0.001))
        elsewhere(partial(made.arrived, 0, 2, [b""], 1))
        assert made.next(PATIENCE) == (2, [b""]), where
        elsewhere(made.close)
        if not where:
            break
    assert moment > 5


def test_whoever_waits_for_a_flag_is_struck() -> None:
    """It can be set, and seen, by others and by the one that was struck."""
    for moment in itertools.count(1):
        flag = Flag()
        where = strike_at(moment, partial(flag.wait, 0.001))
        elsewhere(flag.set)
        assert flag.is_set()
        assert flag.wait(), where
        elsewhere(flag.wait)
        if not where:
            break
    assert moment > 5


def test_a_condition_wakes_those_who_wait() -> None:
    """As many as it is told to; one that is not woken says so, and one that does not have the lock may not wait."""
    made, woken = Condition(), []

    def wait() -> None:
        with made:
            woken.append(made.wait(PATIENCE))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(made._waiters) < 3:
        pass
    with made:
        made.notify(1)
    while len(woken) < 1:
        pass
    with made:
        assert len(made._waiters) == 2
        made.notify_all()
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * 3
    with made:
        assert not made.wait(0)
        assert not made.wait(0.001)
    with pytest.raises(RuntimeError, match="un-acquired"):
        made.wait(0)
