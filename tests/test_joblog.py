"""The job log's lines: GNU parallel's columns, for commands and for functions."""

from __future__ import annotations

import pytest

from zpipe import serialize
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Chunk, Fate
from zpipe.running.commands import CommandTask
from zpipe.running.joblog import HEADER
from zpipe.running.runner import Outcome, Runner


def run(task: TaskSpec, items: list[object], **chunk: object) -> list[list[str]]:
    """The columns of what a job with a log says of these items, which are those from 10 on."""
    made = Runner(JobSpec(task, encoding="json", joblog=True), "worker")
    body = serialize.dumps(items)
    outcomes = made.run(Chunk(10, 10 + len(items), 1, "pickle", **chunk), body)  # type: ignore[arg-type]
    lines = b"".join(outcome.log for outcome in outcomes).decode().splitlines()
    assert all(line.count("\t") == HEADER.count(b"\t") for line in lines)
    return [line.split("\t") for line in lines]


def test_a_command_is_told_as_it_was_run() -> None:
    """Exit status, signal, printed bytes, and the command with the item where it belongs, quoted if need be."""
    spec = TaskSpec("command", "printf {}; [ {} != 'a b' ] || exit 3; [ {#} != 13 ] || kill -9 $$", shell=True)
    ok, bad, dead = run(spec, ["x", "a b", "y"])
    assert [line[0] for line in (ok, bad, dead)] == ["11", "12", "13"]
    assert [line[4:8] for line in (ok, bad, dead)] == [["0", "1", "0", "0"], ["0", "3", "3", "0"], ["0", "1", "0", "9"]]
    assert bad[8].startswith("printf 'a b'; [ 'a b' != ")
    assert float(ok[2]) > 1e9
    assert 0 <= float(ok[3]) < 60


def test_a_function_is_told_by_name_and_item() -> None:
    """Its failures have the exit status 1; a tab or a newline in an item breaks no line."""
    lines = run(TaskSpec("import", "builtins:int"), ["7", "a\tb\nc"])
    assert [line[6:] for line in lines] == [["0", "0", "builtins:int 7"], ["1", "0", "builtins:int 'a\\tb\\nc'"]]


def test_an_item_that_was_never_run_has_a_line_too() -> None:
    """One that was given up has an outcome, and so a line."""
    (line,) = run(TaskSpec("import", "builtins:int"), ["7"], doom="it was given up", fate=None)
    assert (line[0], line[6], line[8]) == ("11", "1", "builtins:int 7")


def test_an_item_that_is_tried_again_has_its_line_later() -> None:
    """A line is of an outcome, not of a try."""
    spec = JobSpec(TaskSpec("import", "builtins:int"), encoding="json", joblog=True, retries=1, retry_delay=0.0)
    outcomes = Runner(spec).run(Chunk(0, 2, 1, "pickle"), serialize.dumps(["x", "1"]))
    logs = {outcome.start: outcome.log.count(b"\n") for outcome in outcomes if isinstance(outcome, Outcome)}
    assert logs == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("template", "line"), [("gzip -k", "gzip -k 'a b.txt'"), ("cat {.} > {/.}", "cat 'a b' > 'a b'")]
)
def test_a_command_line(template: str, line: str) -> None:
    """An item goes to the end where the template has no place for it."""
    assert CommandTask(template, shell=False).line("a b.txt") == line


def test_nothing_is_timed_without_a_log() -> None:
    """A job without one runs the task itself."""
    (outcome,) = Runner(JobSpec(TaskSpec("import", "builtins:int"), encoding="json")).run(
        Chunk(0, 1, 1, "pickle"), serialize.dumps(["1"])
    )
    assert outcome.log == b""


@pytest.mark.parametrize(("code", "told"), [(-9, ["0", "9"]), (70, ["70", "0"]), (0, ["1", "0"])])
def test_an_item_whose_worker_ended_over_it(code: int, told: list[str]) -> None:
    """The line has that worker's host, when it began the item, how long it had run it, and how it ended."""
    fate = Fate("node7/12 slot 1", 1e9, 2.5, code)
    (line,) = run(TaskSpec("import", "builtins:int"), ["7"], doom="it ran for 2.5 s", late=True, fate=fate)
    assert line == ["11", "node7", "1000000000.000", "     2.500", "0", "0", *told, "builtins:int 7"]
    (line,) = run(TaskSpec("command", "sleep {}"), ["7"], doom="it was given up", fate=fate)
    assert line[8] == "sleep 7"
