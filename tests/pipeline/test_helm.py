"""Whoever submits or waits does the pipeline's work meanwhile: whatever happens to it then, nothing else is harmed."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from pipeline.crowds import in_threads
from process.tools import PATIENCE, Node, Zpipe, wait_until

import zpipe
from zpipe.api.futures import PipelineFuture
from zpipe.api.helm import Helm

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="a socket is lent with Linux's epoll")


TRY = 2.0
"""Seconds that somebody waits for a result at a time."""


def helm_of(pipe: zpipe.Pipeline) -> Helm:
    """What its threads share."""
    return pipe._engine.helm


@contextmanager
def leading(pipe: zpipe.Pipeline, future: futures.Future[Any]) -> Iterator[list[Any]]:
    """A thread of the test's waits for the future, and is the one to take results; what it got is there afterwards."""
    got: list[Any] = []
    wait_until(future.running, "the call to run")  # before it does, there is more to see to than results

    def wait() -> None:
        while futures.wait([future], 0).not_done:
            # Whoever finds others at work for long leaves it to them: again.
            with suppress(Exception):
                future.result(TRY)
        try:
            got.append(future.result(0))
        except BaseException as error:  # noqa: BLE001 - the test looks
            got.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: helm_of(pipe).leader == thread.ident, "somebody to take results")
    yield got
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_whoever_waits_takes_its_result(pipe: zpipe.Pipeline) -> None:
    """One call at a time: callers send their chunks and take their results, and the pipeline's thread has them back."""
    wait_until(lambda: pipe.workers == 2, "two workers")
    before = helm_of(pipe).leads
    for item in range(200):
        assert pipe.submit(chores.double, item).result(PATIENCE) == 2 * item
    assert helm_of(pipe).leads > before
    wait_until(lambda: not helm_of(pipe).out, "the socket to be back in the loop")


class Poll:
    """Answers what waits for results; the last time there are some."""

    def expect(self, vain: int) -> None:
        """There are none so many times, and then some."""
        self.asked: list[int | None] = []
        self._answers = [[(99, select.POLLIN)], *[list[tuple[int, int]]()] * vain]

    def poll(self, milliseconds: int | None) -> list[tuple[int, int]]:
        """Return what there is."""
        self.asked.append(milliseconds)
        return self._answers.pop()


def asking() -> tuple[Helm, Poll]:
    """Return a helm that asks that, and nobody else."""
    nobody: Any = None
    helm, poll = Helm(nobody, nobody, nobody, nobody), Poll()
    helm._poll = poll
    return helm, poll


def test_who_waits_looks_only_after_what_came_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that takes long is waited for asleep, and so is the next; if that comes soon, the one after is not."""
    helm, poll = asking()
    monkeypatch.setattr("zpipe.net.lookout.CROWDED", 600.0)
    for brisk, given, waited in ((0.0, 1, [0, None]), (600.0, 1, [0, None]), (600.0, 3, [0, 0, 0, 0])):
        monkeypatch.setattr("zpipe.net.lookout.BRISK", brisk)
        poll.expect(given)
        assert helm._await(None)
        assert poll.asked == waited


def test_who_waits_sleeps_where_others_want_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they have taken long with the room that was made for them, and for a while after that."""
    helm, poll = asking()
    monkeypatch.setattr("zpipe.net.lookout.BRISK", 600.0)
    monkeypatch.setattr("zpipe.net.lookout.RESPITE", 600.0)
    for crowded, given, waited in ((-1.0, 2, [0, 0, None]), (600.0, 1, [0, None])):
        monkeypatch.setattr("zpipe.net.lookout.CROWDED", crowded)
        poll.expect(given)
        assert helm._await(None)
        assert poll.asked == waited


def test_every_way_to_wait_is_served_after_that(pipe: zpipe.Pipeline) -> None:
    """Callbacks, `wait`, `as_completed`, `done` and `exception`, by turns with results that the caller takes."""
    for item in range(30):
        assert pipe.submit(chores.double, item).result(PATIENCE) == 2 * item
        assert futures.wait([pipe.submit(chores.double, item)], PATIENCE).not_done == set()
        assert pipe.submit(chores.double, item).exception(PATIENCE) is None
        ended = futures.as_completed([pipe.submit(chores.double, n) for n in range(item % 4)], PATIENCE)
        assert sorted(call.result() for call in ended) == [0, 2, 4, 6][: item % 4]
        told = threading.Event()
        pipe.submit(chores.double, item).add_done_callback(lambda _, told=told: told.set())
        assert told.wait(PATIENCE)
        call = pipe.submit(chores.double, item)
        wait_until(call.done, "a call that somebody keeps asking for")


def test_many_threads_one_call_at_a_time(pipe: zpipe.Pipeline) -> None:
    """Whoever sends and whoever takes changes all the time; each gets its own results."""

    def use(seed: int) -> None:
        for item in range(seed, seed + 150):
            assert pipe.submit(chores.double, item).result(PATIENCE) == 2 * item

    in_threads(use)
    wait_until(lambda: not pipe._engine._work.tickets, "no ticket to be left")


def test_others_submit_while_somebody_takes_results(pipe: zpipe.Pipeline, gate: str) -> None:
    """Theirs come, singly, many at once and as a map; so does the one that was waited for."""
    with leading(pipe, pipe.submit(chores.held, gate, "slow")) as got:
        assert pipe.submit(chores.double, 4).result(PATIENCE) == 8
        calls = [pipe.submit(chores.double, item) for item in range(500)]
        assert [call.result(PATIENCE) for call in calls] == list(range(0, 1000, 2))
        assert list(pipe.map(chores.double, range(2000))) == list(range(0, 4000, 2))
        assert futures.wait([pipe.submit(chores.double, 5)], PATIENCE).not_done == set()
        Path(gate).touch()
    assert got == ["slow"]


def test_a_timeout_while_taking_results(pipe: zpipe.Pipeline, gate: str) -> None:
    """It is raised, again and again; what comes later comes, and nothing piles up with the future."""
    call = pipe.submit(chores.held, gate, 3)
    assert isinstance(call, PipelineFuture)
    for timeout in [0.01] * 20 + [0, -1]:
        with pytest.raises(futures.TimeoutError):
            call.result(timeout)
        with pytest.raises(futures.TimeoutError):
            call.exception(timeout)
    assert len(call._done_callbacks) <= 1  # type: ignore[attr-defined]
    told: list[Any] = []
    call.add_done_callback(told.append)
    Path(gate).touch()
    assert call.result(PATIENCE) == 3
    wait_until(lambda: told == [call], "the callback")


def test_callbacks_are_the_pipelines_thread_to_call(pipe: zpipe.Pipeline, gate: str) -> None:
    """Not whoever's that takes results: one may wait for just what that thread does next. They may submit."""
    later: list[Any] = []
    there = threading.Event()

    def go_on(_: futures.Future[Any]) -> None:
        later.append(threading.current_thread().name)
        later.append(pipe.submit(chores.double, 21))
        there.set()

    with leading(pipe, call := pipe.submit(chores.held, gate, 1)) as got:
        call.add_done_callback(go_on)
        Path(gate).touch()
    assert got == [1]
    assert there.wait(PATIENCE)
    assert later[0] == "zpipe pipeline"
    assert later[1].result(PATIENCE) == 42


def test_cancelling_what_is_waited_for(pipe: zpipe.Pipeline, gate: str) -> None:
    """Running calls can't be; one that is settled from outside wakes whoever takes results for it."""
    call = pipe.submit(chores.held, gate, 1)
    with leading(pipe, call) as got:
        assert not call.cancel()
        call.set_result("by hand")
    assert got == ["by hand"]
    Path(gate).touch()
    assert pipe.submit(chores.double, 2).result(PATIENCE) == 4


def test_a_worker_dies_while_somebody_takes_results(pipe: zpipe.Pipeline, gate: str, tmp_path: Path) -> None:
    """The call goes to another worker, and its result still to the one that waits."""
    seen = tmp_path / "seen"

    def ran(times: int) -> int:
        """Where the call ran, once it has so many times."""
        wait_until(lambda: seen.exists() and len(seen.read_text().split()) == times, "the call to run")
        return int(seen.read_text().split()[-1])

    for times in range(1, 6, 2):
        with leading(pipe, pipe.submit(chores.noted_and_held, str(seen), gate)) as got:
            os.kill(ran(times), signal.SIGKILL)
            ran(times + 1)
            Path(gate).touch()
        assert got == [ran(times + 1)]
        Path(gate).unlink()


def test_a_call_that_ends_every_worker_while_somebody_takes_results(pipe: zpipe.Pipeline) -> None:
    """It is given up, and whoever waits is told."""
    with pytest.raises(zpipe.WorkerLost):
        pipe.submit(chores.die_on_three, 3).result(PATIENCE)
    assert pipe.submit(chores.die_on_three, 4).result(PATIENCE) == 4


def test_the_end_while_somebody_takes_results(gate: str) -> None:
    """`shutdown` waits for the call; an abort fails it. Either way whoever waits is told, and all is closed."""
    with zpipe.Pipeline(workers=1) as pipe:
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        with leading(pipe, pipe.submit(chores.held, gate, 1)) as got:
            pipe.shutdown(wait=False)
            Path(gate).touch()
        assert got == [1]
    Path(gate).unlink()
    with zpipe.Pipeline(workers=1) as pipe:
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        with leading(pipe, pipe.submit(chores.held, gate, 1)) as got:
            pipe._engine.abort("interrupted")
        assert [type(error) for error in got] == [zpipe.BrokenPipeline]
        pipe.shutdown()
        assert not helm_of(pipe).out or not helm_of(pipe).leader


def test_the_end_between_a_result_and_whoever_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's any more once all calls have failed: whoever was about to take it leaves it."""
    with zpipe.Pipeline(workers=1) as pipe:
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        found = Helm._await

        def late(helm: Helm, milliseconds: int | None) -> bool:
            came = found(helm, milliseconds)
            if came:
                pipe._engine.abort("ended meanwhile")
                wait_until(lambda: not pipe._engine._work.tickets, "all calls to have failed")
            return came

        monkeypatch.setattr(Helm, "_await", late)

        def go_on() -> None:
            for _ in range(1000):
                pipe.submit(chores.double, 2).result(PATIENCE)

        with pytest.raises(zpipe.BrokenPipeline, match="ended meanwhile"):
            go_on()
        pipe.shutdown()
        assert helm_of(pipe).fault is None


@pytest.mark.parametrize("part", ["_take", "_take_expected", "_offer"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_helpers_hands_breaks_the_pipeline(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Nobody is left waiting for what is uncertain: calls fail, and so does whoever submits later."""
    with zpipe.Pipeline(workers=1) as pipe:
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        wait_until(lambda: not helm_of(pipe).out, "the socket to be back in the loop")

        def fail(_: Helm) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Helm, part, fail)

        def go_on() -> None:
            for _ in range(1000):
                pipe.submit(chores.double, 2).result(PATIENCE)

        with pytest.raises(zpipe.BrokenPipeline, match="a bug"):
            go_on()
        with pytest.raises(zpipe.BrokenPipeline):
            pipe.submit(chores.double, 3)


def test_unpickling_may_use_the_pipeline(pipe: zpipe.Pipeline) -> None:
    """A result that submits as it is unpickled, in the hands of whoever waits for it."""
    chores.eager.append(pipe)
    try:
        for _ in range(20):
            assert pipe.submit(chores.make_eager).result(PATIENCE).call.result(PATIENCE) == 10
    finally:
        chores.eager.clear()


INTERRUPTED = """
import os, signal, sys, threading, time, zpipe
from concurrent.futures import TimeoutError

def tell():
    while not pipe._engine.helm.leader:
        time.sleep(0.001)
    print("ready", flush=True)

class Late(Exception):
    pass

def late(*_):
    raise Late

signal.signal(signal.SIGALRM, late)
with zpipe.Pipeline(workers=2) as pipe:
    assert pipe.submit(pow, 2, 3).result() == 8
    call = pipe.submit(time.sleep, 3600)
    threading.Thread(target=tell).start()
    try:
        while True:
            try:
                call.result(2)
            except TimeoutError:
                pass
    except (KeyboardInterrupt, Late) as error:
        print(type(error).__name__, flush=True)
    for n in range(100):
        assert pipe.submit(pow, 2, n).result() == 2**n
    assert signal.getsignal(signal.SIGALRM) is late
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("went on", flush=True)
    pipe._engine.abort("interrupted")
"""


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGALRM, "Late")])
def test_a_handler_raises_in_whoever_takes_results(
    script: Callable[[str], Node], nodes: Zpipe, number: int, said: str
) -> None:
    """At once, out of `result()`; the pipeline is as good as ever, and the handlers are back."""
    node = script(INTERRUPTED)
    node.printed("ready")
    node.process.send_signal(number)
    node.printed(said)
    node.printed("went on")
    assert node.end() == 0
    wait_until(lambda: not nodes.left(), lambda: f"the end of processes {nodes.left()}")


STORM = """
import os, signal, threading, time, zpipe

def storm():
    while not over.is_set():
        os.kill(os.getpid(), signal.SIGALRM)
        time.sleep(0.0007)

class Late(Exception):
    pass

def late(*_):
    if striking:
        raise Late

striking, over, struck = False, threading.Event(), 0
signal.signal(signal.SIGALRM, late)
with zpipe.Pipeline(workers=2) as pipe:
    threading.Thread(target=storm).start()
    helm = pipe._engine.helm
    lend, dispatch = helm.lend, helm.dispatch

    def struck_inside(call):
        def inside(*given):
            global striking
            striking = True
            try:
                return call(*given)
            finally:
                striking = False
        return inside

    helm.lend, helm.dispatch = struck_inside(lend), struck_inside(dispatch)
    for n in range(2000):
        while True:
            try:
                assert pipe.submit(pow, 2, 5).result() == 32
                break
            except Late:
                struck += 1
    over.set()
    print("struck", struck > 0, list(pipe.map(abs, range(-3, 0))), flush=True)
"""


def test_a_storm_of_signals(script: Callable[[str], Node]) -> None:
    """A handler that raises again and again, while callers send and take: no call is lost, nothing hangs."""
    assert script(STORM).ended(0).out.splitlines() == ["struck True [3, 2, 1]"]


FORKED = """
import os, signal, sys, threading, time, warnings, zpipe
warnings.simplefilter("ignore")  # from 3.12 on, of forking with threads

def fork():
    while not pipe._engine.helm.leader:
        time.sleep(0.001)
    pid = os.fork()
    if not pid:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            pipe.submit(pow, 2, 4)
        except RuntimeError as error:
            os._exit(7)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

with zpipe.Pipeline(workers=1) as pipe:
    assert pipe.submit(pow, 2, 3).result() == 8
    thread = threading.Thread(target=fork)
    thread.start()
    while thread.is_alive():
        pipe.submit(time.sleep, 0.1).result()
    print([pipe.submit(pow, 2, n).result() for n in range(5)])
"""


def test_a_fork_while_somebody_takes_results(script: Callable[[str], Node]) -> None:
    """The child is refused and has its handlers; the parent's pipeline goes on."""
    assert sorted(script(FORKED).ended(0).out.splitlines()) == ["7", "[1, 2, 4, 8, 16]"]
