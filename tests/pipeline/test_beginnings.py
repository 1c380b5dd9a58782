"""An interrupt while a pipeline begins, or pulls its first items: it is raised, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from pipeline import chores
from process.supervisors import START
from process.tools import LINUX, MARK, wait_until

import zpipe
from zpipe.api.engine import Engine
from zpipe.errors import UsageError
from zpipe.nodes.started import Started


def test_an_interrupt_while_a_pipeline_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until there is something that can be ended as a whole."""
    before = threading.active_count()
    made: list[Engine] = []
    begin = Engine._open

    def struck(self: Engine, bind: str | None) -> None:
        made.append(self)
        signal.raise_signal(signal.SIGINT)
        begin(self, bind)
        assert self.helm

    monkeypatch.setattr(Engine, "_open", struck)
    with pytest.raises(KeyboardInterrupt):
        zpipe.Pipeline(workers=1)
    made[0].join()
    wait_until(lambda: threading.active_count() == before, "the end of its thread")


def test_the_workers_process_is_started_ahead_of_what_takes_time() -> None:
    """It has its own modules to load meanwhile."""
    code = "import sys, zpipe; zpipe.Pipeline; print([name for name in ('zmq', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """Return the list to which all supervisors are added that are started from now on."""
    made: list[Started] = []

    class Noted(Started):
        def __init__(self, stdout: int) -> None:
            super().__init__(stdout)
            made.append(self)

    monkeypatch.setattr("zpipe.api.pipeline.Started", Noted)
    return made


def test_a_supervisor_that_is_forked_off_for_these_tests_is_as_if_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers find the same folder, environment, modules and arguments."""

    def where(_: object) -> tuple[object, ...]:
        main = sys.modules["__main__"]
        words = os.environ[MARK], os.environ["A_TESTS_WORD"]
        return os.getcwd(), words, sys.path, sys.argv, signal.getsignal(signal.SIGINT), main.__spec__

    monkeypatch.setenv("A_TESTS_WORD", "some")
    made = _noted(monkeypatch)
    found = []
    for started in (False, True):
        if started:
            monkeypatch.setattr(Started, "_begin", START)
        with zpipe.Pipeline(1) as pipe:
            found.append(pipe.submit(where, 0).result())
    assert [type(each.process) is subprocess.Popen for each in made] == [not LINUX, True]
    assert found[0] == found[1]


def test_a_pipeline_that_can_not_be_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was started for it is ended."""
    made = _noted(monkeypatch)
    with pytest.raises(ValueError, match="retries"):
        zpipe.Pipeline(2, retries=-1)
    with pytest.raises(UsageError, match="without a key"):
        zpipe.Pipeline(2, bind="tcp://0.0.0.0:0")
    assert [one.process.poll() is not None for one in made] == [True, True]


def test_an_interrupt_while_a_map_begins(pipe: zpipe.Pipeline) -> None:
    """Nobody has the map then, which would have no end."""

    def numbers() -> Iterator[int]:
        for number in range(10**9):
            if number == 100:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        pipe.map(chores.double, numbers(), buffersize=1000)
    wait_until(lambda: not pipe._engine.maps(), "the end of the map")
    assert pipe.submit(chores.double, 2).result() == 4
