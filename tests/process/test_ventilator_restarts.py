"""A ventilator that is killed and started again goes on with the job that its sink has, and with no other."""

from __future__ import annotations

import pytest
from process.tools import LOCAL, Node, Zpipe, free_port, values, wait_until


def _begin(zpipe: Zpipe, url: str, command: tuple[str, ...], *more: str) -> tuple[Node, Node, Node]:
    """Start the three roles, and wait until some items were begun, of which those from 60 on wait."""
    zpipe.allow(60)
    ventilator = zpipe.start("ventilator", *command)
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out", *more)
    worker = zpipe.start("worker", url, "--slots", "2")
    wait_until(lambda: len(zpipe.noted()) > 20, "the first items")
    return ventilator, sink, worker


@pytest.mark.parametrize("source", ["--range", "--input", "--source"])
def test_a_ventilator_that_is_killed_twice(zpipe: Zpipe, source: str) -> None:
    """The same command goes on where it was, with the same workers and sink: every item once, hardly any run twice."""
    count, url = 560, f"{LOCAL}:{free_port()}"
    (zpipe.folder / "lines").write_text("".join(f"{n}\n" for n in range(count)))
    (zpipe.folder / "counted.py").write_text(f"def numbers():\n    return iter(range({count}))\n")
    items = {"--range": f"0:{count}", "--input": "lines", "--source": "counted.py:numbers"}[source]
    command = ("jobs:noted_nap", source, items, "--bind", url)
    ventilator, sink, worker = _begin(zpipe, url, command, "--ordered")
    for more in (200, 500):
        ventilator.kill()
        for node in (sink, worker):
            node.said(f"for a ventilator at {url}")
        zpipe.allow(more)
        ventilator = zpipe.start("ventilator", *command, "--chunk", "7")
        wait_until(lambda more=more: len(zpipe.noted()) > more - 50, "more items")
    zpipe.allow(count)
    for node in (ventilator, sink, worker):
        node.ended(0)
    found = values((zpipe.folder / "out").read_text())
    assert [int(value) for value in found] == list(range(count))
    assert f"{count:,} items done" in ventilator.err
    assert len(zpipe.noted()) < count + 100
    assert len(set(zpipe.task_pids())) == 2, "the workers are those of before"


def test_what_runs_while_the_ventilator_is_away_counts(zpipe: Zpipe) -> None:
    """Workers finish their item, and bring its result to the sink, which may come after the word of what it has."""
    url = f"{LOCAL}:{free_port()}"
    command = ("jobs:noted_slow", "--range", "0:14", "--bind", url)
    zpipe.allow(5)
    ventilator = zpipe.start("ventilator", *command)
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0")
    worker = zpipe.start("worker", url, "--slots", "2")
    for done in (4, 8):
        wait_until(lambda done=done: len(zpipe.noted()) > done, "items under way")
        ventilator.kill()
        ventilator = zpipe.start("ventilator", *command)
        zpipe.allow(9 if done == 4 else 14)
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values(sink.out) == list(range(14))
    assert sorted(set(zpipe.noted())) == list(range(14))
    assert len(zpipe.noted()) < 14 + 7


def test_another_command_is_not_mixed_with_the_job(zpipe: Zpipe) -> None:
    """It is told what differs and ends with status 2; sink and workers wait on, and the right command finishes."""
    url = f"{LOCAL}:{free_port()}"
    command = ("jobs:noted_nap", "--range", "0:150", "--bind", url)
    ventilator, sink, worker = _begin(zpipe, url, command)
    ventilator.kill()
    wrong = zpipe.start("ventilator", "jobs:double", "--range", "0:20", "--bind", url)
    text = wrong.ended(2).err
    sink.said("task: jobs:noted_nap there, jobs:double here")
    for told in (f"/{sink.pid}: it has", "of another job", "task: jobs:noted_nap there", "items: --range 0:150 there"):
        assert told in text
    zpipe.allow(150)
    ventilator = zpipe.start("ventilator", *command)
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == list(range(150))


def test_a_source_that_has_shrunk(zpipe: Zpipe) -> None:
    """Items done that are no longer there: the ventilator says so, and with the right ones the job goes on."""
    url = f"{LOCAL}:{free_port()}"
    lines = zpipe.folder / "lines"
    lines.write_text("".join(f"{n}\n" for n in range(200)))
    command = ("jobs:noted_nap", "--input", "lines", "--bind", url)
    ventilator, sink, worker = _begin(zpipe, url, command)
    ventilator.kill()
    text = lines.read_text()
    lines.write_text("1\n2\n")
    assert "the source has 2 items now, and" in zpipe.start("ventilator", *command).ended(2).err
    lines.write_text(text)
    zpipe.allow(200)
    ventilator = zpipe.start("ventilator", *command)
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert values((zpipe.folder / "out").read_text()) == [str(n) for n in range(200)]
