"""Jobs with --codec: in no process does an unpickler run, and who wants one to is refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from process.tools import LOCAL, Node, Zpipe, free_port


class Trap:
    """Has every process of a test set up as in `trapped.py`."""

    def __init__(self, zpipe: Zpipe) -> None:
        self._zpipe, self.folder = zpipe, zpipe.folder
        self._folder = zpipe.folder / "traps"
        self._folder.mkdir()
        shutil.copy(Path(__file__).with_name("trapped.py"), self._folder / "sitecustomize.py")
        root = str(Path(__file__).parents[2])
        self._env = {"TRAPS": str(self._folder), "PYTHONPATH": f"{self._folder}:{root}"}

    def start(self, *args: object) -> Node:
        """Start `zpipe ARGS`."""
        return self.python("-m", "zpipe", *args)

    def python(self, *args: object) -> Node:
        """Start `python ARGS`."""
        return self._zpipe.python(*args, **self._env)

    def forked(self, *commands: tuple[str, ...]) -> list[tuple[int, str, str]]:
        """Run `zpipe` with each of these arguments, as `Zpipe.forked` does."""
        (self.folder / "commands").write_text(json.dumps(commands))
        found = json.loads(self.python("forked.py", "commands").ended(0).out)
        return [(status, out, err) for status, out, err in found]

    def pids(self) -> set[int]:
        """The processes that were set up."""
        return set(map(int, (self._folder / "trapped").read_text().split()))

    def holds(self, *nodes: Node) -> None:
        """Check that these were set up, and that nothing was unpickled."""
        assert {node.pid for node in nodes} <= self.pids()
        assert self.word() == ""

    def word(self) -> str:
        """What was left by who unpickled something."""
        path = self._folder / "unpickled"
        return path.read_text() if path.exists() else ""

    def clear(self) -> None:
        """Be as before."""
        (self._folder / "unpickled").unlink()


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
    trap.clear()
    (trap.folder / "lines").write_text("1\n2\n")
    trap.start("run", "builtins:int", "--input", "lines", "--reduce", "operator:add", "--workers", "1").end()
    assert "folds.py" in trap.word()


def test_nothing_is_unpickled_among_three(trap: Trap) -> None:
    """Not at ventilator, worker, slot or sink: for items, values of a fold, errors, retries, a journal."""
    job = ("jobs:fail_on_seven", "--range", "100", "--codec", "msgpack", "--retries", "1", "--retry-delay", "0.01")
    kept = ("--journal", "j", "--dead-letters", "letters", "--joblog", "log")
    parts = nodes(trap, job, ("--allow", "jobs:*"), ("--codec", "msgpack", "--reduce", "operator:add", *kept))
    ventilator, sink, worker = parts
    assert "--codec msgpack --output FILE" in ventilator.ended(1).err
    assert "--allow jobs:fail_on_seven" in ventilator.err
    assert sink.ended(1).out == f"{sum(range(100)) - 7}\n"
    assert "item 7 failed: ValueError: seven is not wanted" in sink.err
    worker.ended(0)
    exported, again = trap.forked(
        ("journal", "export", "j"),
        ("run", "jobs:double", "--resubmit", "letters", "--codec", "msgpack", "--raw", "--workers", "1"),
    )
    assert exported[:2] == (0, f"{sum(range(100)) - 7}\n")
    assert again[:2] == (0, "14\n")
    trap.holds(*parts)


def test_nothing_is_unpickled_on_one_machine(trap: Trap) -> None:
    """With items of every kind, functions and commands, searches and folds."""
    ends = ("--codec", "json", "--ordered", "--raw", "--workers", "1")
    found = trap.forked(
        ("run", "jobs:double", "--range", "3", "--until", "builtins:bool", *ends),
        ("run", "jobs:double", "--glob", "*.py", *ends),
        ("run", "--command", "echo {}", "--range", "3", *ends),
        ("run", "--shell", "--command", "echo {} | cat", "--range", "2", *ends),
        ("run", "jobs:same", "--range", "1000", "--reduce", "operator:add", *ends),
    )
    assert [status for status, _, _ in found] == [0] * 5, found
    assert found[0][1] == "0\n2\n"
    assert found[1][1].splitlines()[0] == "evil.pyevil.py"
    assert [out for _, out, _ in found[2:]] == ["0\n1\n2\n", "0\n1\n", "499500\n"]
    trap.holds()
    assert len(trap.pids()) in (1, 1 + 5), (
        "the commands' process, and each one's supervisor of workers unless forked off"
    )


def test_a_worker_that_sends_pickles(trap: Trap) -> None:
    """Its values are not looked at: the sink says so, and ends."""
    ventilator = trap.start("ventilator", "jobs:double", "--range", "5", "--bind", f"{LOCAL}:0", "--codec", "json")
    url = ventilator.url()
    sink = trap.start("sink", url, "--bind", f"{LOCAL}:0", "--reduce", "operator:add", "--codec", "json")
    evil = trap.python("evil.py", "worker", url, "--slots", "1")
    assert "a worker sent results that are no JSON, as --codec json has it" in sink.ended(1).err
    for node in (ventilator, evil):
        node.ended(1)
    trap.holds(ventilator, sink)
    assert not (trap.folder / "owned").exists()


def test_a_ventilator_that_sends_pickles(trap: Trap) -> None:
    """Its items are not looked at: the worker says so, and leaves that lane."""
    evil = trap.python(
        "evil.py", "ventilator", "jobs:double", "--range", "5", "--bind", f"{LOCAL}:0", "--codec", "json"
    )
    url = evil.url()
    sink = trap.start("sink", url, "--bind", f"{LOCAL}:0", "--codec", "json")
    worker = trap.start("worker", url, "--slots", "1", "--allow", "jobs:double")
    worker.said("gave up a lane", "a chunk of pickled items in a job of --codec json")
    for node in (evil, sink, worker):
        node.kill()
    trap.holds(sink, worker)
    assert not (trap.folder / "owned").exists()


def test_workers_that_allow_less(trap: Trap) -> None:
    """Whatever is not on the list, and every pickle, is refused, with the reason on both sides; nothing is run."""
    takes_none = "this worker takes no pickles, as it was started with --allow"
    for job, said in (
        (("jobs:noted", "--range", "5"), takes_none),
        (
            ("jobs:noted", "--range", "5", "--codec", "json"),
            "this worker does not allow 'jobs:noted': it is not on its",
        ),
    ):
        ventilator, sink, worker = nodes(trap, job, ("--allow", "jobs:double"), ())
        assert said in ventilator.ended(2).err
        assert said in worker.ended(1).err
        sink.ended(1)
    assert not (trap.folder / "noted").exists()
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
    (trap.folder / "lines").write_text("1\n2\n")
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


def test_a_list_in_the_environment(zpipe: Zpipe) -> None:
    """It counts as the options do; commands are its lines."""
    job = ("--command", "echo {}", "--range", "3", "--bind", f"{LOCAL}:0", "--codec", "json")
    ventilator = zpipe.start("ventilator", *job)
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--raw", "--ordered")
    env = {"ZPIPE_ALLOW": "jobs:double math:*", "ZPIPE_ALLOW_COMMAND": "touch {}\necho {}"}
    worker = zpipe.start("worker", url, "--slots", "1", **env)
    assert sink.ended(0).out == "0\n1\n2\n"
    for node in (ventilator, worker):
        node.ended(0)
