"""An interrupt while a pipeline begins, or pulls its first items: it is raised, and nothing is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from pipeline import chores
from process.tools import wait_until

import zpipe
from zpipe.api.engine import Engine


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
