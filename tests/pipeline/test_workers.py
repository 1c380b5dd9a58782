"""Workers come, go and die at any time; results stay exact, nothing hangs, nothing is left behind."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pipeline import chores
from pipeline.crowds import in_threads
from process.tools import PATIENCE, Node, Zpipe, alive, wait_until

import zpipe

ITEMS = 2_000


class Killer:
    """Kills the worker of an item now and then, as results tell who has it."""

    def __init__(self, times: int = 3, every: int = 400) -> None:
        self.killed: list[int] = []
        self._times, self._every, self._seen = times, every, 0

    def see(self, row: tuple[int, int]) -> int:
        """Take a result of `chores.with_pid`; return its item."""
        item, pid = row
        self._seen += 1
        if self._seen % self._every == 100 and len(self.killed) < self._times and pid not in self.killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)
        return item


def test_workers_killed_during_a_map(pipe: zpipe.Pipeline) -> None:
    """Every item comes once and in its place, whichever workers die."""
    killer = Killer()
    assert [killer.see(row) for row in pipe.map(chores.with_pid, range(ITEMS))] == list(range(ITEMS))
    assert killer.killed
    killer = Killer()
    rows = pipe.imap_unordered(chores.with_pid, iter(range(ITEMS)), chunksize=10)
    assert sorted(map(killer.see, rows)) == list(range(ITEMS))
    assert killer.killed


def test_workers_killed_during_a_reduce(pipe: zpipe.Pipeline) -> None:
    """The folded value counts every item once."""
    for ordered in (True, False):
        killer = Killer()

        def fold(total: int, row: tuple[int, int], killer: Killer = killer) -> int:
            return total + killer.see(row)

        assert pipe.reduce(chores.with_pid, range(ITEMS), fold, 0, ordered=ordered) == ITEMS * (ITEMS - 1) // 2
        assert killer.killed


def test_workers_killed_while_calls_are_outstanding(pipe: zpipe.Pipeline) -> None:
    """Each future gets its own result."""
    killer = Killer()
    calls = [pipe.submit(chores.with_pid, item) for item in range(ITEMS)]
    assert [killer.see(call.result(PATIENCE)) for call in calls] == list(range(ITEMS))
    assert killer.killed


def test_a_call_that_kills_its_workers_is_lost_alone(pipe: zpipe.Pipeline) -> None:
    """It is tried again, then given up with WorkerLost; all others have their results."""
    calls = [pipe.submit(chores.die_on_three, item) for item in range(20)]
    with pytest.raises(zpipe.WorkerLost):
        calls.pop(3).result(PATIENCE)
    assert sum(call.result(PATIENCE) for call in calls) == sum(range(20)) - 3
    found = list(pipe.map(chores.die_on_three, range(20), chunksize=10, on_error="collect"))
    assert isinstance(found.pop(3), zpipe.WorkerLost)
    assert found == [*range(3), *range(4, 20)]
    with pytest.raises(zpipe.WorkerLost):  # one that does so when it is unpickled, too
        pipe.submit(chores.double, chores.Deadly()).result(PATIENCE)
    assert not pipe._engine._work.tickets


def test_the_number_of_workers_may_change(tmp_path: Path) -> None:
    """More can be had and fewer, while work goes on."""
    with zpipe.Pipeline(workers=1) as pipe:
        calls = [pipe.submit(chores.with_pid, item) for item in range(500)]
        pipe.resize(3)
        wait_until(lambda: pipe.workers == 3, "three workers")
        assert len(set(pipe.map(chores.meet, [str(tmp_path)] * 3, [3] * 3, chunksize=1))) == 3
        pids = [int(name) for name in os.listdir(tmp_path)]
        pipe.resize(1)
        wait_until(lambda: pipe.workers == 1 and sum(map(alive, pids)) <= 1, "two workers' end")
        assert [call.result(PATIENCE)[0] for call in calls] == list(range(500))
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        with pytest.raises(ValueError, match="workers"):
            pipe.resize(-1)


def test_remote_workers_join(nodes: Zpipe) -> None:
    """With no workers of its own a pipeline waits for those that are given its address, and works with any number."""
    with zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0") as pipe:
        assert pipe.url is not None
        assert pipe.url.startswith("tcp://127.0.0.1:")
        assert pipe.workers == 0
        call = pipe.submit(os.getppid)
        results = pipe.map(lambda item: item * 2, range(1000))
        assert not call.done()
        first = nodes.start("worker", pipe.url, "--slots", 1)
        assert call.result(PATIENCE) in nodes.left()
        assert list(results) == list(range(0, 2000, 2))
        second = nodes.start("worker", pipe.url, "--slots", 1)
        wait_until(lambda: pipe.workers == 2, "the second worker")
        first.kill()
        assert list(pipe.map(lambda item: item + 1, range(1000))) == list(range(1, 1001))
    second.ended(0)


def test_local_and_remote_workers_share_the_work(nodes: Zpipe, tmp_path: Path) -> None:
    """Two items that wait for each other meet in a local and a remote worker."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    with zpipe.Pipeline(workers=1, bind="tcp://127.0.0.1:0") as pipe:
        node = nodes.start("worker", pipe.url, "--slots", 1, PYTHONPATH=str(Path(__file__).parents[1]))
        wait_until(lambda: pipe.workers == 2, "the remote worker")
        assert len(set(pipe.map(chores.meet, [str(meeting)] * 2, [2] * 2, chunksize=1))) == 2
    node.ended(0)


def test_without_an_address_nobody_can_join(pipe: zpipe.Pipeline) -> None:
    """A pipeline that was not bound has no address, and counts its own workers."""
    assert pipe.url is None
    wait_until(lambda: pipe.workers == 2, "both workers")


def test_an_open_address_without_keys_is_refused() -> None:
    """Binding where strangers can connect takes a word by name."""
    with pytest.raises((ValueError, zpipe.ZpipeError), match="insecure"):
        zpipe.Pipeline(workers=1, bind="tcp://0.0.0.0:0")


def test_a_task_may_use_a_pipeline_of_its_own(pipe: zpipe.Pipeline) -> None:
    """More tasks than workers, each with a pipeline inside, all end."""
    assert list(pipe.map(chores.nested, [3, 4, 5], chunksize=1)) == [6, 12, 20]


def test_many_threads_may_share_a_pipeline(pipe: zpipe.Pipeline) -> None:
    """Maps, folds and single calls of eight threads at once are all exact."""

    def use(seed: int) -> None:
        items = range(seed, seed + 300)
        assert list(pipe.map(chores.double, items)) == [item * 2 for item in items]
        calls = [pipe.submit(chores.double, item) for item in items]
        assert [call.result(PATIENCE) for call in calls] == [item * 2 for item in items]
        assert pipe.reduce(chores.double, iter(items), operator.add, 0) == 2 * sum(items)
        assert list(itertools.islice(pipe.map(chores.nap, itertools.count(seed)), 50)) == list(items[:50])

    in_threads(use)


FORKED = """
import os, sys, warnings, zpipe
warnings.simplefilter("ignore")  # from 3.12 on, of forking with threads

with zpipe.Pipeline(workers=1) as pipe:
    assert pipe.submit(pow, 2, 3).result() == 8
    results = pipe.map(abs, range(1_000), chunksize=1)
    pid = os.fork()
    if not pid:
        try:
            assert pipe.submit(pow, 2, 4).result(30) == 16
        except RuntimeError as error:
            print("refused:", error, flush=True)
        try:
            next(results)
        except RuntimeError as error:
            print("refused:", error, flush=True)
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    print(pipe.submit(pow, 2, 5).result(), list(pipe.map(abs, range(-3, 0))))
"""


def test_a_fork_of_the_parent_does_no_harm(script: Callable[[str], Node]) -> None:
    """The child can use it or is told that it can't; it ends, and the parent's pipeline goes on."""
    lines = script(FORKED).ended(0).out.splitlines()
    assert lines[-2:] == ["7", "32 [3, 2, 1]"]
    assert [line.partition(":")[0] for line in lines[:-2]] == ["refused"] * 2


HUNG = """
import time, zpipe

with zpipe.Pipeline(workers=2) as pipe:
    assert pipe.submit(pow, 2, 3).result() == 8
    print("ready", flush=True)
    for _ in pipe.map(time.sleep, [600] * 10): pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_a_killed_script(script: Callable[[str], Node], nodes: Zpipe, number: int) -> None:
    """However the script dies, and though its tasks last, its workers end too."""
    node = script(HUNG)
    node.printed("ready")
    node.signal(number)
    node.end()
    wait_until(lambda: not nodes.left(), lambda: f"the end of processes {nodes.left()}")


def test_ctrl_c_ends_a_map(nodes: Zpipe) -> None:
    """KeyboardInterrupt comes out of the loop; leaving the `with` does not wait for what is queued or lasts."""
    path = nodes.folder / "hung.py"
    path.write_text(HUNG)
    node = nodes.python(path.name, popen={"start_new_session": True})
    node.printed("ready")
    node.signal_group(signal.SIGINT)
    assert node.end() != 0
    assert "KeyboardInterrupt" in node.err
    wait_until(lambda: not nodes.left(), lambda: f"the end of processes {nodes.left()}")


WAITING = """
import sys, time, zpipe

def wait(how):
    calls = [pipe.submit(time.sleep, 600) for _ in range(20)]
    if how == "result":
        calls[0].result()
    elif how == "shutdown":
        pipe.shutdown()

pipe = zpipe.Pipeline(workers=2)
assert pipe.submit(pow, 2, 3).result() == 8
print("ready", flush=True)
wait(sys.argv[1])
"""


@pytest.mark.parametrize("how", ["result", "shutdown", "exit"])
def test_ctrl_c_ends_a_script_that_waits(nodes: Zpipe, how: str) -> None:
    """In `result()`, in `shutdown()` and at the interpreter's exit: no other traceback, and no process is left."""
    path = nodes.folder / "waiting.py"
    path.write_text(WAITING)
    node = nodes.python(path.name, how, popen={"start_new_session": True})
    node.printed("ready")
    node.signal_group(signal.SIGINT)
    node.end()
    assert node.err.count("Traceback") <= 1
    assert "zpipe.broken" not in node.err
    wait_until(lambda: not nodes.left(), lambda: f"the end of processes {nodes.left()}")


CAUGHT = """
import zpipe, time

with zpipe.Pipeline(workers=2) as pipe:
    print(pipe.submit(pow, 2, 3).result(), flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print(list(pipe.map(abs, range(-50, 0)))[-1], flush=True)
"""


def test_a_script_may_go_on_after_ctrl_c(nodes: Zpipe) -> None:
    """One that catches KeyboardInterrupt, as an interactive session does, has its workers still."""
    path = nodes.folder / "caught.py"
    path.write_text(CAUGHT)
    node = nodes.python(path.name, popen={"start_new_session": True})
    node.printed("8")
    node.signal_group(signal.SIGINT)
    node.ended(0)
    assert node.out.split() == ["8", "1"]
    assert node.err == ""


def test_a_second_run_of_what_takes_too_long(tmp_path: Path) -> None:
    """An idle worker runs it too, and that is the result; the first worker is of use again once it is through."""
    task = functools.partial(chores.stuck_at_first, str(tmp_path))
    with zpipe.Pipeline(2, speculate=True) as pipe:
        assert list(pipe.map(task, range(40), chunksize=1)) == list(range(40))
        (tmp_path / "gate").touch()
        wait_until(lambda: len({pid for _, pid in pipe.map(chores.with_pid, range(20), chunksize=1)}) == 2, "both")


def test_a_pipeline_does_not_wait_for_the_run_that_has_lost(tmp_path: Path) -> None:
    """Its worker is ended with the others, in the middle of an item that would never end."""
    task = functools.partial(chores.stuck_at_first, str(tmp_path))
    with zpipe.Pipeline(2, speculate=True) as pipe:
        assert list(pipe.map(task, range(40), chunksize=1)) == list(range(40))
