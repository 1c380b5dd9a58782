"""A job's stages without sockets: every output counts once, under one number, through any number of crashes."""

from __future__ import annotations

import random
import select
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe import serialize
from zpipe.cli import stages as cli_stages
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Failure, Result
from zpipe.errors import OutputError, UsageError
from zpipe.input.sources import IterSource
from zpipe.output.deadletters import by_stage
from zpipe.output.journal import Journal, Origin
from zpipe.output.landing import Landing
from zpipe.output.outputs import FileOutput
from zpipe.output.recorder import Recorder
from zpipe.running.packing import join, split, take_number
from zpipe.stages.flow import Flow, StagePlan
from zpipe.stages.outlet import StageOutlet
from zpipe.stages.staging import Staging, read_letters


class Loop:
    """Remembers what it would call."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], bool]] = {}

    def add_fd(self, fd: int, call: Callable[[], bool]) -> None:
        """Take it."""
        self.calls[fd] = call

    def remove(self, fd: int) -> None:
        """Let go of it."""
        del self.calls[fd]

    def wake(self) -> None:
        """Nothing sleeps here."""


class Sink:
    """Calls what it is given."""

    @staticmethod
    def attempt(write: Callable[[], object]) -> None:
        """Call it."""
        write()


class Director:
    """Knows the job."""

    job, fingerprint, workers = "job", dict[str, str](), 2


def outputs(path: str, stage: int) -> list[str] | None:
    """What a stage makes of an item, which is its path through the stages: none, some, or a failure (None)."""
    rolls = random.Random(f"{stage} {path}")
    count = rolls.choice([0, 1, 1, 2, 3, None])
    return None if count is None else [f"{path}.{k}" for k in range(count)]


def twin(count: int, stages: int) -> list[str]:
    """What comes out of the last stage, in order."""
    paths = [str(n) for n in range(count)]
    for stage in range(1, stages + 1):
        paths = [output for path in paths for output in outputs(path, stage) or []]
    return paths


class Run:
    """One process's run of the job whose journal is in `folder`."""

    def __init__(self, folder: Path, count: int, stages: int, *, ordered: bool, rolls: random.Random) -> None:
        self.rolls, self.stages = rolls, stages
        journal = Journal(folder / "journal")
        if not journal.staged and not journal.done.count:
            journal.begin(Origin(command="run"))
        mark = journal.state.marks.get("output")
        output = FileOutput(folder / "output", "raw", mark)
        self.recorder = Recorder(journal, output)
        self.loop: Any = Loop()
        plans = [StagePlan(JobSpec(TaskSpec("import", "a:b")), f"stage {n}") for n in range(1, stages + 1)]
        source = IterSource([str(n) for n in range(count)], "source")
        self.outlet = Staging(plans).outlet(self.loop, source, Landing(output, recorder=self.recorder, ordered=ordered))
        self.flow = self.outlet.flow
        self.outlet.start(self.loop, Sink(), Director())  # type: ignore[arg-type]
        self.flow.start(self.loop.wake)
        self.out: list[tuple[int, int, int, list[str]]] = []
        self.next = 0

    def send(self) -> bool:
        """Send a chunk; return whether there was one."""
        while (current := self.flow.current()) is not None:
            batch = self.flow.take(self.rolls.randint(1, 5))
            if batch is None:
                continue
            first, frames = take_number(batch.frames)
            items = serialize.loads(frames) if batch.kind == "pickle" else [one.decode() for one in split(frames[0])]
            assert len(items) == batch.count
            self.out.append((current[0], self.next, first, items))
            self.next += batch.count
            return True
        return False

    def receive(self) -> bool:
        """Have the outcomes of a part of a chunk; return whether any was out."""
        if not self.out:
            return False
        stage, start, first, items = self.out.pop(self.rolls.randrange(len(self.out)))
        if len(items) > 1 and self.rolls.random() < 0.3:
            at = self.rolls.randrange(1, len(items))
            self.out.append((stage, start + at, first + at, items[at:]))
            items = items[:at]
        made = [outputs(item, stage) for item in items]
        failures = [Failure(start + n, "E", "") for n, found in enumerate(made) if found is None]
        values = [value for found in made for value in found or []]
        frame = "".join(f"{value}\n" for value in values).encode()
        if stage < self.stages:
            frame = join([value.encode() for value in values])
        self.outlet.write(Result("job", 1, start, start + len(items), 1, 0.0, failures), [frame])
        self.flow.stages.check()
        return True

    def commit(self) -> None:
        """Wait for the commit that is under way."""
        if self.recorder._under_way is not None:
            select.select([self.recorder._hears], [], [], 60)
            self.recorder._on_committed()

    def close(self) -> None:
        """End without another word: what is not in the journal is lost."""
        self.recorder.close()
        self.outlet.output._file.close()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for all examples."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), stages=st.integers(2, 4), count=st.integers(0, 25), ordered=st.booleans())
def test_crashes_change_nothing(folder: Path, seed: int, stages: int, count: int, ordered: bool) -> None:
    """Outputs are there once, in order if that is wanted, however often the process ended at whatever moment."""
    rolls = random.Random(seed)
    home = folder / f"{seed}-{stages}-{count}-{ordered}-{rolls.random()}"
    home.mkdir()
    for _ in range(rolls.choice([0, 1, 3])):
        run = Run(home, count, stages, ordered=ordered, rolls=rolls)
        for _ in range(rolls.randrange(60)):
            rolls.choice([run.send, run.send, run.receive, run.receive, run.commit])()
        run.close()
    run = Run(home, count, stages, ordered=ordered, rolls=rolls)
    while not run.flow.exhausted:
        moved = rolls.random() < 0.5 and run.send()
        if not (moved or run.receive() or run.send()):
            run.commit()
    run.outlet.finish()
    found = (home / "output").read_text().split()
    wanted = twin(count, stages)
    assert found == wanted if ordered else sorted(found) == sorted(wanted)
    assert [stage.done for stage in run.flow.stages.stages][:1] == [count]
    failed = by_stage((number for number, _ in run.recorder.journal.letters), stages)
    for stage, first, items in run.recorder.journal.read("SELECT stage, first, count FROM stage_item"):
        assert any(first <= item < first + items for item in failed.get(stage + 1, [])), "for nobody to run again"
    assert run.recorder.journal._run("SELECT count(*) FROM stage_wait").fetchone() == (0,)
    run.close()


def test_items_that_failed_begin_in_their_stage(tmp_path: Path) -> None:
    """Dead letters are taken by stage; what is no letter of such a job is refused by line."""
    path = tmp_path / "letters"
    path.write_text('{"item": 1, "index": 0}\n{"item": "x", "stage": 2}\n{"item": [3], "stage": 1}\n')
    assert read_letters(str(path), 3) == {1: [1, [3]], 2: ["x"], 3: []}
    for text, said in [
        ("{}", "line 1 of .* is no dead letter"),
        ('{"item": 1}\nno', "line 2 of .* is no dead letter"),
        ('{"item": 1, "stage": 4}', "is of stage 4, and this job has 3"),
        ('{"item": null, "repr": "<x>"}', "an item that JSON can't hold"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_letters(str(path), 3)
    with pytest.raises(UsageError, match="can't read"):
        read_letters(str(tmp_path / "none"), 3)


def test_too_much_that_waits_for_its_turn_holds_all_back(tmp_path: Path) -> None:
    """In order, when the last stage's results wait for one of its items, no more are sent; that one is waited for."""
    run = Run(tmp_path, 300, 2, ordered=True, rolls=random.Random(2))
    run.outlet.collector.reorder = 50
    while not any(stage == 2 for stage, *_ in run.out):
        assert run.send()
        if run.out[-1][0] == 1:
            assert run.receive()
    held = next(entry for entry in run.out if entry[0] == 2)
    run.out.remove(held)
    while not run.outlet.collector.full:
        assert run.send() or run.receive()
        if run.out:
            assert run.receive()
    while run.receive():
        pass
    assert not run.send()
    run.out.append(held)
    assert run.receive()
    assert run.send()
    run.close()


def test_what_no_stage_packed_ends_the_job(tmp_path: Path) -> None:
    """A worker that sends something else is told of, and nothing of it goes on."""
    run = Run(tmp_path, 3, 2, ordered=False, rolls=random.Random(1))
    assert run.send()
    with pytest.raises(OutputError, match="what no stage hands on"):
        run.outlet.write(Result("job", 1, 0, 1, 1, 0.0), [b"\xc1"])
    run.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.py:f,worker=2", "'worker=2' is no setting of a stage; there are workers, chunk"),
        ("a.py:f,workers", "'workers' is no setting"),
        ("a.py:f,workers=0", "workers=0 is out of range"),
        ("a.py:f,chunk=many", "chunk=many is out of range, or no number"),
        ("a.py:f,timeout=nan", "timeout=nan is out of range"),
        ("a.py:f,chunk=1,chunk=2", "chunk is given twice"),
        ("a.py:f,unique=maybe", "unique=maybe is neither yes nor no"),
    ],
)
def test_settings_that_are_none(text: str, said: str) -> None:
    """Are refused by name, with those that there are."""
    with pytest.raises(UsageError, match=said):
        cli_stages._parse(text, "--then")


def test_settings() -> None:
    """Stand behind the function, so that a folder's name may have a comma."""
    assert cli_stages._parse("a,b/c.py:f,workers=2, retries=0", "TASK") == (
        "a,b/c.py:f",
        {"workers": 2, "retries": 0},
    )
    assert cli_stages._parse("m:f", "TASK") == ("m:f", {})


def test_a_job_in_stages_is_a_source_like_others() -> None:
    """Where nothing of it is left, it says so; it can be closed at any time."""
    loop: Any = Loop()
    plans = [StagePlan(JobSpec(TaskSpec("import", "a:b")), name) for name in ("one", "two")]
    flow = Flow(loop, plans, IterSource([], "source"), ordered=False)
    flow.start(loop.wake)
    assert flow.exhausted
    assert flow.current() is None
    assert flow.total() == (0, True)
    outlet = StageOutlet(flow, Landing(FileOutput("/dev/null", "raw")))
    assert [stage.text for stage in outlet.counts()] == ["one 0", "two 0"]
    outlet.finish()
    flow.close()
