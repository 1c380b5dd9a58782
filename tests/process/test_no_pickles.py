"""Jobs with --codec: in no process does an unpickler run, and who wants one to is refused with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from process.tools import LOCAL, Node, Zpipe, free_port, values, wait_until


class Trap:
    """Has every process of a test set up as in `trapped.py`."""

    def __init__(self, zpipe: Zpipe) -> None:
        self._zpipe = zpipe
        self._folder = zpipe.folder / "traps"
        self._folder.mkdir()
        shutil.copy(Path(__file__).with_name("trapped.py"), self._folder / "sitecustomize.py")
        root = str(Path(__file__).parents[2])
        self._env = {"TRAPS": str(self._folder), "PYTHONPATH": f"{self._folder}:{root}"}

    def start(self, *args: object) -> Node:
        """Start `zpipe ARGS`."""
        return self._zpipe.start(*args, **self._env)

    def holds(self, *nodes: Node) -> None:
        """Check that these were set up, and that nothing was unpickled."""
        there = (self._folder / "trapped").read_text().split()
        assert {str(node.pid) for node in nodes} <= set(there)
        assert self.word() == ""

    def word(self) -> str:
        """What was left by who unpickled something."""
        path = self._folder / "unpickled"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def trap(zpipe: Zpipe) -> Trap:
    """Where unpicklers do not go unseen."""
    return Trap(zpipe)


def nodes(trap: Trap, job: tuple[object, ...], worker: tuple[object, ...], sink: tuple[object, ...]) -> list[Node]:
    """Start a ventilator, a sink and a worker."""
    ventilator = trap.start("ventilator", *job, "--bind", f"{LOCAL}:{free_port()}")
    url = ventilator.url()
    collector = trap.start("sink", url, "--bind", f"{LOCAL}:0", *sink)
    return [ventilator, collector, trap.start("worker", url, "--slots", "2", *worker)]


def test_the_trap(trap: Trap) -> None:
    """A job as usual springs it: at the worker for its items, at the sink for its values."""
    trap.start("run", "jobs:same", "--range", "3", "--workers", "1").end()
    assert "_read_pickle" in trap.word()
    (trap._folder / "unpickled").unlink()
    (trap._zpipe.folder / "lines").write_text("1\n2\n")
    trap.start("run", "builtins:int", "--input", "lines", "--reduce", "operator:add", "--workers", "1").end()
    assert "outputs.py" in trap.word()


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_nothing_is_unpickled(trap: Trap, codec: str) -> None:
    """Not at ventilator, worker, slot or sink: for items of a source, values of a fold, errors, retries, a journal."""
    job = ("jobs:fail_on_seven", "--range", "100", "--codec", codec, "--chunk", "5")
    tried = ("--retries", "1", "--retry-delay", "0.01")
    folded = (
        "--codec",
        codec,
        "--reduce",
        "operator:add",
        "--journal",
        "j",
        "--dead-letters",
        "letters",
        "--joblog",
        "log",
    )
    parts = nodes(trap, (*job, *tried), ("--allow", "jobs:*"), folded)
    ventilator, sink, worker = parts
    assert ventilator.ended(1).err.count(f"--codec {codec} --output FILE") >= 1
    assert "--allow jobs:fail_on_seven" in ventilator.err
    assert sink.ended(1).out == f"{sum(range(100)) - 7}\n"
    assert "item 7 failed: ValueError: seven is not wanted" in sink.err
    worker.ended(0)
    again = trap.start("resume", "j")
    assert again.ended(1).out in ("", f"{sum(range(100)) - 7}\n")
    exported = trap.start("journal", "export", "j")
    assert exported.ended(0).out == f"{sum(range(100)) - 7}\n"
    local = trap.start(
        "run",
        "jobs:same",
        "--glob",
        "*.py",
        "--codec",
        codec,
        "--workers",
        "2",
        "--ordered",
        "--until",
        "builtins:bool",
    )
    assert local.ended(0).out.startswith('{"index":0,"item":"forked.py"')
    lettered = trap.start("run", "jobs:double", "--resubmit", "letters", "--codec", codec, "--raw")
    assert lettered.ended(0).out == "14\n"
    command = trap.start("run", "--command", "echo {}", "--range", "3", "--codec", codec, "--raw", "--ordered")
    assert command.ended(0).out == "0\n1\n2\n"
    shell = trap.start("run", "--shell", "--command", "echo {} | cat", "--range", "2", "--codec", codec)
    assert [value["stdout"] for value in values(shell.ended(0).out)] == ["0\n", "1\n"]
    trap.holds(*parts, again, exported, local, lettered, command, shell)


def test_workers_that_allow_less(trap: Trap) -> None:
    """Whatever is not on the list, and every pickle, is refused, with the reason on both sides; nothing is run."""
    takes_none = "this worker takes no pickles, as it was started with --allow"
    for job, said in (
        (("jobs:noted", "--range", "5"), takes_none),
        (("jobs.py:noted", "--range", "5"), takes_none),
        (
            ("jobs:noted", "--range", "5", "--codec", "json"),
            "this worker does not allow 'jobs:noted': it is not on its",
        ),
        (("--command", "touch noted", "--range", "5", "--codec", "json"), "this worker does not allow 'touch noted'"),
    ):
        ventilator, sink, worker = nodes(trap, job, ("--allow", "jobs:double"), ())
        assert said in ventilator.ended(2).err
        assert said in worker.ended(1).err
        sink.ended(1)
    assert not (trap._zpipe.folder / "noted").exists()
    trap.holds()


def test_sinks_that_take_no_pickles(trap: Trap) -> None:
    """One that wants pickles of a job that has none is refused; one that takes none gets data of any job."""
    ventilator = trap.start("ventilator", "jobs:double", "--range", "5", "--bind", f"{LOCAL}:0", "--codec", "msgpack")
    url = ventilator.url()
    stray = trap.start("sink", url, "--bind", f"{LOCAL}:0", "--reduce", "operator:add")
    assert (
        "it wants results as pickles, in a job of --codec msgpack; give the sink --codec msgpack" in stray.ended(1).err
    )
    ventilator.said("refused sink", "give the sink --codec msgpack")
    sink = trap.start("sink", url, "--bind", f"{LOCAL}:0", "--reduce", "operator:add", "--codec", "json")
    worker = trap.start("worker", url, "--slots", "1")
    assert sink.ended(0).out == "20\n"
    for node in (ventilator, worker):
        node.ended(0)
    (trap._zpipe.folder / "lines").write_text("1\n2\n")
    parts = nodes(trap, ("builtins:int", "--input", "lines"), (), ("--reduce", "operator:add", "--codec", "json"))
    assert parts[1].ended(0).out == "3\n"
    for node in parts:
        node.ended(0)
    trap.holds(*parts)


def test_values_and_items_that_are_no_data(zpipe: Zpipe) -> None:
    """A value fails its item, an item its source, with the mend."""
    (zpipe.folder / "odd.py").write_text(
        "def some(n):\n    return {n} if n == 3 else n\n\n\ndef items():\n    yield from (1, b'x', 2)\n"
    )
    values = zpipe.run("run", "odd:some", "--range", "5", "--codec", "json", "--reduce", "operator:add", status=1)
    assert values.out == "7\n"
    assert (
        "the value of item 3, a set, can't be carried as JSON: JSON has nothing for a set; return plain data"
        in values.err
    )
    items = zpipe.run("run", "odd:some", "--source", "odd:items", "--codec", "json", status=1)
    assert "item 1, of type bytes, can't be sent to a worker" in items.err
    assert "--codec msgpack carries it" in items.err


def test_what_does_not_go_with_it(zpipe: Zpipe) -> None:
    """Is wrong usage, and says what to write."""
    found = zpipe.forked(
        ("run", "jobs.py:double", "--range", "5", "--codec", "json"),
        ("ventilator", "jobs:double", "--until", "jobs.py:same", "--range", "5", "--codec", "json"),
        ("run", "jobs:double", "--range", "5", "--codec", "json", "--format", "pickle"),
        ("sink", f"{LOCAL}:1", "--codec", "msgpack", "--format", "pickle"),
        ("worker", f"{LOCAL}:1", "--allow", "jobs.py:double"),
        ("run", "jobs:double", "--range", "5", "--codec", "yaml"),
    )
    for (status, out, err), said in zip(
        found,
        (
            "Name it by its module, jobs:double, and have that on the workers",
            "Name it by its module, jobs:same, and have that on the workers",
            "--format pickle and --codec json",
            "--format pickle and --codec msgpack",
            "write module:function, or module:*",
            "'yaml' is not one of",
        ),
        strict=True,
    ):
        assert (status, out) == (2, "")
        assert said in err


def test_a_journal_of_another_codec(zpipe: Zpipe) -> None:
    """What was folded from pickles is not gone on with as data."""
    job = ("run", "jobs:double", "--range", "5", "--reduce", "operator:add", "--journal", "j", "--workers", "1")
    assert zpipe.run(*job).out == "20\n"
    refused = zpipe.run(*job, "--codec", "json", status=2)
    assert "--codec: not given there, json here" in refused.err


def test_a_worker_that_stays_true(trap: Trap) -> None:
    """A list in the environment counts; commands are its lines."""
    env = {"ZPIPE_ALLOW": "jobs:double math:*", "ZPIPE_ALLOW_COMMAND": "echo {}\ntouch {}"}
    ventilator = trap.start(
        "ventilator", "--command", "echo {}", "--range", "3", "--bind", f"{LOCAL}:0", "--codec", "json"
    )
    url = ventilator.url()
    sink = trap.start("sink", url, "--bind", f"{LOCAL}:0", "--raw", "--ordered")
    worker = trap._zpipe.start("worker", url, "--slots", "1", **env)
    assert sink.ended(0).out == "0\n1\n2\n"
    for node in (ventilator, worker):
        node.ended(0)
    wait_until(lambda: not trap._zpipe.left(), "all to end")
