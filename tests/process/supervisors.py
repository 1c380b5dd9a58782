"""Pipelines whose workers' supervisor is forked off a process that has loaded zpipe, as `process.zygote` has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from unittest import mock

from process.tools import ZYGOTE, alive
from process.zygote import Offspring

from zpipe.nodes.started import Process, Started

__all__ = ["START", "forked"]

START = Started._begin
"""How one is started that is not forked off."""


class _Supervisor:
    """What a pipeline knows of its supervisor's process, whose parent is another one."""

    def __init__(self, process: Offspring) -> None:
        self._process = process
        self.pid, self.stdin, self.stdout = process.pid, process.stdin, process.stdout

    def poll(self) -> int | None:
        # As for a child of one's own: once it has ended its status is known, though it takes a moment to be told.
        return self._process.poll() if alive(self.pid) else self._process.wait()

    def wait(self) -> int:
        return self._process.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """Have the supervisors of this process's own workers forked off, wherever they would be like those it starts."""
    ZYGOTE.fit(dict(os.environ), {})  # it is there before threads of a test ask for it

    def fork(started: Started, shared: list[int]) -> Process:
        env = dict(os.environ)
        if not ZYGOTE.fit(env, {}):
            return START(started, shared)
        return _Supervisor(ZYGOTE.supervisor(env, shared))

    with mock.patch.object(Started, "_begin", fork):
        yield
