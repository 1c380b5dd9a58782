"""The journal's file, and what the recorder makes last of a job: after a crash at any moment nothing is missing."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe import serialize
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Buffer, Failure, Finished, Receipt, Result
from zpipe.errors import OutputError, UsageError
from zpipe.net.loop import Loop
from zpipe.nodes.sink import Sink
from zpipe.output import journal as journals
from zpipe.output.folds import FoldOutput
from zpipe.output.journal import Batch, Journal, Origin, State
from zpipe.output.landing import Landing
from zpipe.output.mark import Mark
from zpipe.output.outlet import Outlet
from zpipe.output.outputs import FileOutput, Output
from zpipe.output.partials import stands
from zpipe.output.recorder import Recorder


def result(start: int, stop: int, failures: Sequence[int] = ()) -> Result:
    """A result for these items."""
    told = [Failure(index, "ValueError", "no", letter=f"letter {index}\n".encode()) for index in failures]
    return Result("job", 1, start, stop, 1, 0.1, told)


def commit(journal: Journal, *ranges: tuple[int, int], **more: Any) -> None:
    """Commit these ranges."""
    journal.commit(Batch(more.pop("state", State()), RangeSet(ranges), **more))


def test_a_journal_tells_what_was_committed(tmp_path: Path) -> None:
    """Ranges come back as one where they touch; results, dead letters, the fold and the state as they were."""
    path = tmp_path / "j"
    first = Journal(path)
    first.begin(Origin(job="job", fingerprint={"task": "t"}, given={"chunk": None, "retry_on": ["A"]}))
    commit(first, (0, 5), (10, 12), (7, 9))
    commit(first, (5, 7), keep=[(result(5, 7, [6]), [b"ab", b"cde"])], letters=[(6, b"six")], fold=b"fold")
    commit(first, (9, 10), state=State(next=3, failed=1, marks={"output": Mark(4, 5)}))
    first.close()
    again = Journal(path)
    assert list(again.done) == [(0, 12)]
    assert again.origin.job == "job"
    assert again.origin.given == {"chunk": None, "retry_on": ["A"]}
    assert again.state == State(next=3, failed=1, marks={"output": Mark(4, 5)})
    assert [(r, [bytes(f) for f in frames]) for r, frames in again.kept()] == [(result(5, 7, [6]), [b"ab", b"cde"])]
    assert list(again.letters) == [(6, b"six")]
    assert again.fold == b"fold"
    commit(again, drop=[5])
    assert list(again.kept()) == []
    again.close()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=40))
@settings(max_examples=15, deadline=None)
def test_rows_are_as_few_as_gaps_allow(pieces: list[tuple[int, int]]) -> None:
    """Whatever the order in which ranges are done, the table has the set they make, and no row more."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Journal(Path(folder, "j"))) as journal:
        whole = RangeSet()
        for start, length in pieces:
            whole.add(start, start + length)
            commit(journal, (start, start + length))
        with contextlib.closing(sqlite3.connect(Path(folder, "j"))) as base:
            assert base.execute("SELECT * FROM done ORDER BY start").fetchall() == list(whole)


def test_a_large_result_is_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's limit for one value is none for a result."""
    monkeypatch.setattr(journals, "PIECE", 10)
    frames: list[Buffer] = [b"0123456789abc", b"", bytes(range(40))]
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        commit(journal, (0, 1), (4, 5), keep=[(result(0, 1), frames), (result(4, 5), [b"x" * 25])])
        kept = {r.start: [bytes(frame) for frame in found] for r, found in journal.kept()}
        assert kept == {0: frames, 4: [b"x" * 25]}
        commit(journal, drop=[0, 4])
        assert list(journal.kept()) == []


def test_one_sink_at_a_time_and_any_reader(tmp_path: Path) -> None:
    """A second one that wants to write is told who has it; one that looks sees what is committed."""
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        commit(journal, (0, 3))
        with pytest.raises(UsageError, match="in use by another process"):
            Journal(tmp_path / "j")
        with contextlib.closing(Journal(tmp_path / "j", reading=True)) as reader:
            assert list(reader.done) == [(0, 3)]
    Journal(tmp_path / "j").close()


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    """Text, another program's database, a newer format, a folder, nothing: each is told for what it is, untouched."""
    text = tmp_path / "text"
    text.write_text("this is a text and no journal\n" * 10)
    with pytest.raises(UsageError, match="no journal of zpipe"):
        Journal(text)
    assert text.read_text() == "this is a text and no journal\n" * 10
    other = tmp_path / "other"
    with contextlib.closing(sqlite3.connect(other)) as base:
        base.execute("CREATE TABLE mine (a)")
    with pytest.raises(UsageError, match="no journal of zpipe"):
        Journal(other)
    newer = tmp_path / "newer"
    Journal(newer).close()
    with contextlib.closing(sqlite3.connect(newer)) as base:
        base.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match=r"of format 99, .*made by a newer"):
        Journal(newer)
    with pytest.raises(UsageError, match="can't open the journal"):
        Journal(tmp_path)
    with pytest.raises(UsageError, match="there is no journal"):
        Journal(tmp_path / "none", reading=True)
    torn = tmp_path / "torn"
    Journal(torn).close()
    torn.write_bytes(torn.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"can't be read|no journal"):
        Journal(torn)


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """What mktemp makes will do, and so will one whose maker was killed before it wrote anything."""
    (tmp_path / "j").touch()
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        assert journal.origin == Origin()


class _Full:
    """A connection to a database on a disk that is full from its `commits`-th commit on."""

    def __init__(self, base: sqlite3.Connection, commits: int) -> None:
        self._base, self._left = base, commits

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        if statement == "COMMIT":
            self._left -= 1
            if self._left < 0:
                raise sqlite3.OperationalError("database or disk is full")
        return self._base.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def test_a_full_disk_leaves_the_last_commit(tmp_path: Path) -> None:
    """The error names the journal and the mend; what was committed before is there, and nothing else."""
    journal = Journal(tmp_path / "j")
    journal._base = _Full(journal._base, 1)  # type: ignore[assignment, arg-type]
    commit(journal, (0, 3))
    with pytest.raises(OutputError, match=r"can't write the journal .*j: .*full; free some space"):
        commit(journal, (3, 6))
    journal.close()
    with contextlib.closing(Journal(tmp_path / "j")) as again:
        assert list(again.done) == [(0, 3)]


def test_a_file_is_cut_to_its_mark(tmp_path: Path) -> None:
    """What was written behind the last commit goes; one that is shorter, or was changed, is refused and left alone."""
    path = tmp_path / "out"
    first = FileOutput(path, "raw")
    first.write([b"one\n", b"two\n"])
    mark = first.mark()
    first.write([b"thr"])
    first.flush()
    first.abandon()
    again = FileOutput(path, "raw", mark)
    again.write([b"three\n"])
    assert not stands(str(path), mark)
    again.finish()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    partial = tmp_path / "out.partial"
    for wrong in (b"one\ntwo", b"one\nTWO\nthree\n"):
        partial.write_bytes(wrong)
        with pytest.raises(UsageError, match=r"out\.partial is not what the journal says"):
            FileOutput(path, "raw", mark)
        assert partial.read_bytes() == wrong
    partial.unlink()
    with pytest.raises(UsageError, match="not what the journal says"):
        FileOutput(path, "raw", mark)
    assert not partial.exists()


class _Memory:
    """An output that can't be cut back, as standard output is none."""

    encoding = "raw"

    def __init__(self) -> None:
        self.data = b""

    def write(self, frames: Sequence[Buffer]) -> None:
        self.data += b"".join(map(bytes, frames))

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def abandon(self) -> str:
        return ""


@contextlib.contextmanager
def life(folder: Path, output: Output, ordered: bool, letters: Output | None = None) -> Iterator[Any]:
    """A sink's life: yields what takes a result's range and gives the receipts that may go out by then."""
    loop, journal = Loop(), Journal(folder / "j")
    recorder = Recorder(journal, output, letters)
    collector = recorder.resume(output, ordered=ordered)
    collector.job = "job"
    recorder.on_job()
    recorder.start(loop, lambda: None)

    def write(found: Sequence[tuple[Result, Sequence[Buffer]]]) -> None:
        for made, payload in found:
            if letters is not None:
                letters.write([failure.letter for failure in made.failures])
            output.write(payload)
            recorder.wrote(made, payload)

    def take(start: int, stop: int) -> None:
        items = range(start, stop)
        failures = [index for index in items if index % 5 == 4]
        good = [index for index in items if index % 5 != 4]
        payload = serialize.dumps(good) if output.encoding == "values" else [b"".join(b"%d\n" % i for i in good)]
        made = result(start, stop, failures)
        ready = collector.on_result(made, payload, 10)
        if collector.waits(start):
            recorder.waits(made, payload)
        write(ready)

    def receipts(*, wait: bool) -> list[Receipt]:
        found: list[Receipt] = []
        recorder.exchange(collector.take_receipts(), found)
        while wait and not recorder.idle:
            loop.turn(5.0)
            recorder.exchange([], found)
        return found

    try:
        yield collector, take, receipts, recorder
    finally:
        recorder.close()
        output.abandon()
        if letters is not None:
            letters.abandon()
        loop.close()


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=12),
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from(["file", "stream", "fold"]),
)
@settings(max_examples=30, deadline=None)
def test_nothing_is_missing_or_twice_after_crashes(sizes: list[int], seed: int, ordered: bool, kind: str) -> None:
    """Whatever comes in whatever order, and wherever the sink dies, the answer is that of a life without a death."""
    random, edges = Random(seed), [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    total, good = edges[-1], [index for index in range(edges[-1]) if index % 5 != 4]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for lives in range(4, -1, -1):
            with contextlib.closing(Journal(folder / "j")) as journal:
                state, done = journal.state, RangeSet(journal.done)
            output: Any = _Memory()
            if kind == "file":
                output = FileOutput(folder / "out", "raw", state.marks.get("output"))
            elif kind == "fold":
                output = FoldOutput(operator.add, True, 0)
            letters = FileOutput(folder / "dead", "raw", state.marks.get("letters"))
            left = [(a, b) for a, b in pairwise(edges) if not done.covers(a, b)]
            random.shuffle(left)
            dies = random.randrange(len(left) + 1) if lives and left else None
            with life(folder, output, ordered, letters) as (collector, take, receipts, recorder):
                assert list(collector.done) == list(done)
                sent: list[Receipt] = []
                for at in left[:dies]:
                    take(*at)
                    sent += receipts(wait=random.random() < 0.5)
                collector.on_total(total)
                if dies is None:
                    receipts(wait=True)
                    assert collector.finished
                    recorder.finish(Outlet(output, letters).finish)
                    break
            with contextlib.closing(Journal(folder / "j")) as journal:
                for receipt in sent:  # done means committed
                    assert journal.done.covers(receipt.start, receipt.stop)
        if kind == "fold":
            assert output.value == sum(good)
        else:
            data = output.data if kind == "stream" else (folder / "out").read_bytes()
            found = [int(line) for line in data.split()]
            assert (found if ordered else sorted(found)) == good
        dead = (folder / "dead").read_text().splitlines()
        wanted = [f"letter {index}" for index in range(4, total, 5)]
        assert (dead if ordered else sorted(dead, key=lambda line: int(line.split()[1]))) == wanted
        with contextlib.closing(Journal(folder / "j")) as journal:
            assert journal.finished
            assert [index for index, _ in journal.letters] == list(range(4, total, 5))


def test_a_receipt_waits_for_its_commit(tmp_path: Path) -> None:
    """What is asked for again goes out at once, a receipt only when the journal has it."""
    with life(tmp_path, _Memory(), False) as (collector, take, receipts, recorder):
        take(0, 3)
        assert receipts(wait=False) == []
        assert recorder.held.done == []
        asked = Result("job", 1, 7, 8, 1, 0.1, again=0.5)
        collector.on_result(asked, [b""], 1)
        found = receipts(wait=True)
        assert [(r.start, r.again) for r in found] in ([(7, 0.5), (0, None)], [(0, None), (7, 0.5)])
        assert recorder.held.done == [0, 3]


def test_a_fold_that_can_not_be_pickled_is_folded_again(tmp_path: Path) -> None:
    """Its values are kept instead."""

    def fold() -> FoldOutput:
        return FoldOutput(lambda so_far, value: lambda: so_far() + value, True, lambda: 0)

    serialized = fold()
    serialized.snapshot = lambda: None  # type: ignore[method-assign]
    with life(tmp_path, serialized, False) as (_, take, receipts, _):
        take(0, 4)
        receipts(wait=True)
        take(6, 8)
        receipts(wait=True)
    again = fold()
    with life(tmp_path, again, False):
        assert again.value() == 0 + 1 + 2 + 3 + 6 + 7


def test_a_full_disk_at_the_output_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipts of what could not be synced are never given out, and the journal does not have it."""
    output = FileOutput(tmp_path / "out", "raw")
    with life(tmp_path, output, False) as (_, take, receipts, _):
        take(0, 3)
        assert len(receipts(wait=True)) == 1

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fdatasync", full)
        take(3, 6)
        with pytest.raises(OutputError, match=r"can't write .*out: No space left on device; free some space"):
            receipts(wait=True)
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        assert list(journal.done) == [(0, 3)]
        assert journal.state.marks["output"].size == 6


def test_a_sink_whose_disk_is_full_ends_whatever_job_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ventilator that was started anew has another name for the job: it is told of the full disk by that."""
    told: list[Any] = []
    loop, context = Loop(), zmq.Context()
    journal = Journal(tmp_path / "j")
    recorder = Recorder(journal, _Memory())
    sink = Sink(loop, context, Landing(_Memory(), recorder=recorder), deliver=told.append, say=lambda *_: None)

    def full(_: Origin) -> None:
        raise OutputError("can't write the journal j: disk full")

    with contextlib.ExitStack() as undo:
        for part in (loop, recorder, sink):
            undo.callback(part.close)
        monkeypatch.setattr(journal, "begin", full)
        sink.on_job("first", {"task": "a"})
        sink.on_job("second", {"task": "a"})
        sink.settle(again=True)
    assert {(m.job, m.error) for m in told if isinstance(m, Finished)} == {
        ("first", "can't write the journal j: disk full"),
        ("second", "can't write the journal j: disk full"),
    }
    context.term()
