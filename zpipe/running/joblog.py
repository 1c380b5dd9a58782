"""A job's log in the columns of GNU parallel's --joblog: a line for each item, made where the item was run.

    Seq         the item's number, from 1           Receive     bytes that a command printed; 0 for a function
    Host        where it was run, the last time     Exitval     a command's exit status; for a function 0, or 1
    Starttime   when, in seconds since 1970         Signal      the signal that killed a command, or 0
    JobRuntime  how long it took, in seconds        Command     the command, or the task's name and the item
    Send        0: items are not files

Only a worker of a job that has a log times its items: a job without one pays nothing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Any

from zpipe import context
from zpipe.core.wire import Fate
from zpipe.net.versions import host_name
from zpipe.running.commands import CommandTask
from zpipe.running.records import Batch, Error

__all__ = ["HEADER", "Clock"]

HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

LONGEST = 1000
"""Characters of an item's text at most."""

_Run = tuple[float, float, str]
"""When an item began, how long it took, and what was run."""


class Clock:
    """Times the items of a task that is called `name` in the log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._runs: dict[int, _Run] = {}
        self._describe: Callable[[Any], str] = self._named
        self._host = host_name()

    def timed(self, task: Callable[..., Any]) -> Callable[..., Any]:
        """Return the task, with its calls timed."""
        describe = self._describe = task.line if isinstance(task, CommandTask) else self._named

        def run(*args: Any, **kwargs: Any) -> Any:
            index, began, start = context.current().index, time.time(), time.perf_counter()
            try:
                return task(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self._runs[index] = (began, took, describe(args[0] if args else None))

        return run

    def note(self, index: int, began: float, took: float, item: Any) -> None:
        """An item began at this time, in seconds since 1970, and took so many."""
        self._runs[index] = (began, took, self._describe(item))

    def clear(self) -> None:
        """Forget the times of items that are to be tried again, perhaps elsewhere."""
        self._runs.clear()

    def _named(self, item: Any) -> str:
        return f"{self._name} {_text(item)}"

    def lines(self, part: Batch) -> bytes:
        """Return the log's lines for items whose outcome is known, and forget their times."""
        if part.fate is not None:
            return b"".join([self._lost(index, item, part.fate) for index, item, _ in part.rows()])
        return b"".join([self._line(*row, part.errors.get(row[0])) for row in part.rows()])

    def _lost(self, index: int, item: Any, fate: Fate) -> bytes:
        """Tell of an item that was given up as its last worker ended over it."""
        host = fate.worker.partition("/")[0] or self._host
        status = -fate.code if fate.code < 0 else max(1, fate.code)
        run = (fate.began or time.time(), fate.seconds, self._describe(item))
        return _columns(index, host, run, 0, *((0, status) if fate.code < 0 else (status, 0)))

    def _line(self, index: int, item: Any, value: Any, error: Error | None) -> bytes:
        run = self._runs.pop(index) if index in self._runs else (time.time(), 0.0, self._describe(item))
        told = error if error is not None else value if isinstance(value, dict) else {}
        status = told.get("exit", 1) if error is not None else 0
        printed = told.get("stdout", "") if "exit" in told else ""
        size = len(printed.encode("utf-8", "surrogateescape")) if isinstance(printed, str) else 0
        return _columns(index, self._host, run, size, max(0, status), max(0, -status))


def _columns(index: int, host: str, run: _Run, size: int, status: int, signal: int) -> bytes:
    began, took, what = run
    what = what.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") if {"\t", "\n"} & {*what} else what
    columns = [
        str(index + 1), host, f"{began:.3f}", f"{took:10.3f}", "0", str(size), str(status), str(signal), what,
    ]  # fmt: skip
    return "\t".join(columns).encode("utf-8", "surrogateescape") + b"\n"


def _text(item: Any) -> str:
    try:
        return (shlex.quote(item) if isinstance(item, str) else repr(item))[:LONGEST]
    except Exception as error:  # noqa: BLE001 - an item's own repr
        return f"<{type(item).__name__}, whose repr raised {type(error).__name__}>"
