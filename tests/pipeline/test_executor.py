"""A Pipeline is a `concurrent.futures.Executor`: futures, exceptions and shutdown are what scripts know."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import PATIENCE, Node, marked, wait_until

import zpipe


def test_it_is_an_executor_that_calls_with_all_arguments(pipe: zpipe.Pipeline) -> None:
    """Positional and keyword arguments arrive, also those named `self` and `fn`."""
    assert isinstance(pipe, futures.Executor)
    assert pipe.submit(pow, 2, 8).result(PATIENCE) == 256
    assert pipe.submit(chores.echo, 1, self=2, fn=3).result(PATIENCE) == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        pipe.submit(fn=chores.echo, arg=1)  # type: ignore[call-arg]


def test_an_exception_comes_back_with_the_workers_traceback(pipe: zpipe.Pipeline) -> None:
    """Type and arguments are the task's own; its cause quotes the worker's traceback, source lines included."""
    error = pipe.submit(chores.late_failure).exception(PATIENCE)
    assert type(error) is RuntimeError
    assert error.args == (123,)
    assert isinstance(error.__cause__, zpipe.RemoteTraceback)
    quoted = str(error.__cause__)
    assert quoted.startswith('\n"""\n')
    assert quoted.endswith('"""')
    assert "raise RuntimeError(123)  # seen in the worker's own traceback" in quoted
    assert "# seen in the worker's own traceback" in "".join(traceback.format_exception(error))


def test_an_exception_that_is_false_is_raised(pipe: zpipe.Pipeline) -> None:
    """One without arguments that has a length, for instance: it is no result, in a future or a map."""
    with pytest.raises(chores.Hollow):
        pipe.submit(chores.fail_hollow, 1).result(PATIENCE)
    assert isinstance(pipe.submit(chores.fail_hollow, 1).exception(PATIENCE), chores.Hollow)
    with pytest.raises(chores.Hollow):
        list(pipe.map(chores.fail_hollow, [1]))


def test_whatever_can_not_be_pickled_fails_its_own_future(pipe: zpipe.Pipeline) -> None:
    """Arguments, results and exceptions that can't travel one way or the other are that future's exception."""
    with pytest.raises(TypeError, match="lock"):
        pipe.submit(chores.double, threading.Lock()).result(PATIENCE)
    with pytest.raises(TypeError, match="lock"):
        pipe.submit(chores.make_lock).result(PATIENCE)
    with pytest.raises(ValueError, match="burst when unpickled"):
        pipe.submit(chores.make_bomb).result(PATIENCE)
    with pytest.raises(ValueError, match="burst when unpickled"):
        pipe.submit(chores.double, chores.Bomb()).result(PATIENCE)
    assert "this and that" in "".join(
        traceback.format_exception(pipe.submit(chores.fail_half_made).exception(PATIENCE))
    )
    assert pipe.submit(chores.double, 21).result(PATIENCE) == 42


def test_ctrl_c_while_a_function_is_pickled_is_raised(pipe: zpipe.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the script's to hear of, not some future's."""

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipe._engine.functions, "find", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipe.submit(chores.double, 1)
    assert pipe.submit(chores.double, 1).result(PATIENCE) == 2


def test_leaving_from_a_task_is_an_exception_like_any_other(pipe: zpipe.Pipeline) -> None:
    """SystemExit is the future's exception, and both workers live on."""
    before = {pid for _, pid in pipe.map(chores.with_pid, range(200), chunksize=1)}
    with pytest.raises(SystemExit) as leaving:
        pipe.submit(chores.leave).result(PATIENCE)
    assert leaving.value.code == 4
    assert {pid for _, pid in pipe.map(chores.with_pid, range(200), chunksize=1)} == before


def test_results_are_told_one_by_one(pipe: zpipe.Pipeline, gate: str) -> None:
    """A call that lasts holds no other's result back, in `as_completed` and in `wait`."""
    slow = pipe.submit(chores.held, gate, "slow")
    quick = pipe.submit(chores.double, 4)
    done, waiting = futures.wait([slow, quick], PATIENCE, futures.FIRST_COMPLETED)
    assert (done, waiting) == ({quick}, {slow})
    ended = futures.as_completed([slow, quick], PATIENCE)
    assert next(ended) is quick
    wait_until(slow.running, "a call to run")
    with pytest.raises(futures.TimeoutError):
        slow.result(0.01)
    Path(gate).touch()
    assert next(ended) is slow
    assert slow.result() == "slow"


def test_a_cancelled_call_never_runs(pipe: zpipe.Pipeline, gate: str, tmp_path: Path) -> None:
    """What waits behind others can be cancelled; whoever waits for it is told."""
    notes = str(tmp_path / "notes")
    first = [pipe.submit(chores.held, gate) for _ in range(8)]
    rest = [pipe.submit(chores.note, notes, number) for number in range(5000)]  # more than are sent ahead
    assert rest[-1].cancel()
    with pytest.raises(futures.CancelledError):
        rest[-1].result(PATIENCE)
    Path(gate).touch()
    assert not futures.wait([*first, *rest], PATIENCE).not_done
    assert sorted(Path(notes).read_text().split(), key=int) == [str(number) for number in range(4999)]


def test_callbacks_are_called_and_can_not_break_the_pipeline(pipe: zpipe.Pipeline, gate: str) -> None:
    """Each callback gets the finished future; one that leaves like a script takes nothing with it."""
    told: list[Any] = []
    first, second = pipe.submit(chores.held, gate, 1), pipe.submit(chores.held, gate, 2)
    first.add_done_callback(lambda _: chores.leave())
    second.add_done_callback(lambda done: told.append(done.result()))
    Path(gate).touch()
    wait_until(lambda: first.done() and told == [2], "a callback")
    assert pipe.submit(chores.double, 3).result(PATIENCE) == 6


def test_calls_that_wait_cost_nothing(pipe: zpipe.Pipeline, gate: str) -> None:
    """While workers are busy, the pipeline's thread sleeps, however many calls are queued."""
    calls = [pipe.submit(chores.held, gate) for _ in range(100)]
    wait_until(calls[0].running, "a call to run")
    before, began = time.process_time(), time.monotonic()
    assert not futures.wait(calls, 0.5).done
    assert time.process_time() - before < (time.monotonic() - began) / 3
    Path(gate).touch()
    assert not futures.wait(calls, PATIENCE).not_done


def test_many_calls_may_be_outstanding(pipe: zpipe.Pipeline) -> None:
    """20,000 calls submitted before the first is asked for give their own results."""
    calls = [pipe.submit(chores.double, number) for number in range(20_000)]
    assert [call.result(PATIENCE) for call in calls] == [number * 2 for number in range(20_000)]


def test_arguments_and_results_are_let_go(pipe: zpipe.Pipeline) -> None:
    """Neither an argument nor a result is kept alive by the pipeline once the caller has dropped it."""
    thing = chores.Thing()
    gone = weakref.ref(thing)
    assert pipe.submit(thing.method).result(PATIENCE) == "called"
    del thing
    wait_until(lambda: gc.collect() >= 0 and gone() is None, "an argument's end")
    result = pipe.submit(chores.make_thing, 0).result(PATIENCE)
    gone = weakref.ref(result)
    del result
    wait_until(lambda: gc.collect() >= 0 and gone() is None, "a result's end")


def test_asyncio_takes_it_for_an_executor(pipe: zpipe.Pipeline) -> None:
    """`run_in_executor` and `wrap_future` work on it."""

    async def both() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(pipe, chores.double, 1)
        return await one, await asyncio.wrap_future(pipe.submit(chores.double, 2))

    assert asyncio.run(both()) == (2, 4)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"max_workers": 0}, "max_workers must be greater than 0"),
        ({"max_workers": -1}, "max_workers must be greater than 0"),
        ({"workers": -1}, "workers"),
        ({"workers": 0}, "bind"),
        ({"workers": 1.5}, "workers must be an integer, not 1.5"),
        ({"max_workers": "2"}, "max_workers must be an integer, not '2'"),
        ({"chunk": 2.5}, "chunk must be an integer, not 2.5"),
        ({"heartbeat": -1}, "heartbeat=-1 can't be"),
        ({"heartbeat": "x"}, "heartbeat='x' can't be"),
        ({"progress": 3}, "progress=3 can't be"),
    ],
)
def test_what_can_not_be_is_refused(how: dict[str, Any], said: str, mark: str) -> None:
    """Nonsense is refused before anything is started, and so is a pipeline nobody could ever work for."""
    before = set(marked(mark))
    with pytest.raises((ValueError, TypeError), match=said):
        zpipe.Pipeline(**how)
    wait_until(lambda: set(marked(mark)) <= before, "the end of what was started")


def test_what_a_call_can_not_be_given_fails_that_call(pipe: zpipe.Pipeline) -> None:
    """Not the pipeline: what is no function, and sizes that are no whole numbers."""
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        pipe.submit(None, 1).result(PATIENCE)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'int' object is not callable"):
        pipe.map(3, [1])  # type: ignore[arg-type]
    for items in (range(10), iter(range(10))):
        with pytest.raises(TypeError, match=r"chunksize must be an integer, not 2\.5"):
            pipe.map(chores.double, items, chunksize=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"workers must be an integer, not 1\.5"):
        pipe.resize(1.5)  # type: ignore[arg-type]
    assert pipe.submit(chores.double, 1).result(PATIENCE) == 2


def test_shutdown_runs_what_is_queued_and_leaves_nothing(mark: str) -> None:
    """After it all calls are done, no process or thread is left, and nothing new is taken."""
    before, threads = set(marked(mark)), threading.active_count()
    pipe = zpipe.Pipeline(max_workers=2)
    calls = [pipe.submit(chores.nap, number) for number in range(100)]
    results = pipe.map(chores.double, range(100))
    pipe.shutdown()
    assert all(call.done() for call in calls)
    assert list(results) == [number * 2 for number in range(100)]
    assert set(marked(mark)) <= before
    assert threading.active_count() <= threads
    for use in (lambda: pipe.submit(pow, 2, 3), lambda: pipe.map(chores.double, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            use()
    pipe.shutdown(wait=False)
    pipe.shutdown()


def test_shutdown_can_cancel_what_is_queued(gate: str) -> None:
    """Each call is either done or cancelled when it returns; at least one of each."""
    pipe = zpipe.Pipeline(workers=1)
    calls = [pipe.submit(chores.held, gate, number) for number in range(500)]
    wait_until(calls[0].running, "a call to run")
    pipe.shutdown(wait=False, cancel_futures=True)
    Path(gate).touch()
    assert not futures.wait(calls, PATIENCE).not_done
    cancelled = [call for call in calls if call.cancelled()]
    assert 0 < len(cancelled) < len(calls)
    assert all(call.result(0) == number for number, call in enumerate(calls) if not call.cancelled())
    pipe.shutdown()


def test_shutdown_without_waiting_still_runs_what_is_queued(gate: str, mark: str) -> None:
    """It returns while a call runs; that and those behind it are finished, then the processes leave."""
    before = set(marked(mark))
    pipe = zpipe.Pipeline(workers=1)
    held, queued = pipe.submit(chores.held, gate, 1), pipe.submit(chores.double, 2)
    pipe.shutdown(wait=False)
    assert not held.done()
    Path(gate).touch()
    assert (held.result(PATIENCE), queued.result(PATIENCE)) == (1, 4)
    wait_until(lambda: set(marked(mark)) <= before, "the end of the processes")


def test_a_pipeline_that_is_dropped_ends_by_itself(mark: str) -> None:
    """Without a reference to it, what was asked for is still done, then its processes leave."""
    before = set(marked(mark))
    pipe = zpipe.Pipeline(workers=1)
    results = pipe.map(chores.double, range(10))
    del pipe
    gc.collect()
    assert list(results) == [number * 2 for number in range(10)]
    del results
    gc.collect()
    wait_until(lambda: set(marked(mark)) <= before, "the end of the processes")


def test_leaving_by_an_exception_shuts_down() -> None:
    """The exception passes through the `with`, and the pipeline is closed."""
    with pytest.raises(KeyError), zpipe.Pipeline(workers=1) as pipe:
        raise KeyError("own")
    with pytest.raises(RuntimeError, match="after shutdown"):
        pipe.submit(pow, 2, 3)


FORGOTTEN = """
import atexit, time

@atexit.register
def late():
    try:
        idle.submit(pow, 2, 3)
    except RuntimeError as error:
        print("refused:", error, flush=True)

import itertools, zpipe

def speak(word):
    time.sleep(0.3)
    print(word, flush=True)

idle = zpipe.Pipeline(workers=1)
pipe = zpipe.Pipeline(workers=1)
print(next(pipe.map(abs, itertools.count(-5))), flush=True)
endless = pipe.map(abs, itertools.count())
print(next(endless), flush=True)
pipe.submit(speak, "apple")
"""


def test_a_forgotten_shutdown_does_not_hold_the_interpreter_up(script: Callable[[str], Node]) -> None:
    """What was submitted is finished, endless maps are not, and nothing is said on stderr."""
    node = script(FORGOTTEN).ended(0)
    lines = node.out.splitlines()
    assert lines[:3] == ["5", "0", "apple"]
    assert lines[3].startswith("refused: cannot schedule new futures")
    assert node.err == ""


def test_errors_are_those_that_scripts_catch() -> None:
    """What breaks a pipeline, or a call's worker, is a BrokenExecutor and one of zpipe's own errors."""
    for error in (zpipe.BrokenPipeline, zpipe.WorkerLost):
        assert issubclass(error, futures.BrokenExecutor)
        assert issubclass(error, zpipe.ZpipeError)


def test_it_moves_over_by_changing_a_name() -> None:
    """The same code runs on a standard executor and on Pipeline, and gives the same."""

    def job(kind: type[futures.Executor]) -> tuple[list[int], int, str]:
        with kind(max_workers=1) as executor:  # type: ignore[call-arg]
            values = list(executor.map(pow, range(5), range(5), chunksize=2))
            failed = executor.submit(chores.fail_on_three, 3).exception(PATIENCE)
            return values, executor.submit(os.getppid).result(PATIENCE) > 0, repr(failed)

    assert job(zpipe.Pipeline) == job(futures.ThreadPoolExecutor)
