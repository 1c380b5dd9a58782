"""Jobs with a journal whose processes are killed: what a second start makes of them is what one start would have."""

from __future__ import annotations

import json
import random
import signal

import pytest
from process.tools import LOCAL, Node, Zpipe, free_port, records, wait_until

JOB = ("run", "jobs:noted_nap", "--range", "400", "--journal", "j", "--workers", "2", "--quiet")
PIPED = ("run", "jobs:noted", "--journal", "j", "--workers", "2", "--raw", "--ordered", "--output", "out")
LINES = [f'{{"index":{n},"item":{n},"value":{n}}}' for n in range(400)]


def committed(zpipe: Zpipe, journal: str = "j") -> int:
    """How many items the journal has."""
    if not (zpipe.folder / journal).exists():
        return 0
    found = zpipe.start("journal", "show", "--json", journal)
    return json.loads(found.out)["done"] if found.end() == 0 else 0


def kill_once_it_has(zpipe: Zpipe, node: Node, some: int) -> int:
    """Kill a job, workers and all, once so many items have been noted; return how many the journal has by then."""
    wait_until(lambda: len(zpipe.noted()) >= some or node.process.poll() is not None, "some items to be run")
    node.kill()
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    return committed(zpipe)


@pytest.mark.parametrize("more", [("--ordered", "--chunk", "3"), ()], ids=["ordered", "as-they-come"])
def test_killed_again_and_again(zpipe: Zpipe, more: tuple[str, ...]) -> None:
    """Killed at any moment, and started again: the output is what it had been without, and what was done is not redone.

    The last start is `zpipe resume`, from another folder.
    """
    job = (*JOB, "--output", "out", "--dead-letters", "dead", "--joblog", "log", *more)
    chance = random.Random(7)
    for some in (1, 90, 170):
        kept = kill_once_it_has(zpipe, zpipe.start(*job), len(zpipe.noted()) + chance.randrange(some, some + 30))
        assert kept == len(LINES) or not (zpipe.folder / "out").exists()
    (zpipe.folder / "noted").unlink(missing_ok=True)
    away = zpipe.folder / "away"
    away.mkdir()
    zpipe.start("resume", zpipe.folder / "j", folder=away).ended(0)
    lines = (zpipe.folder / "out").read_text().splitlines()
    assert (lines if "--ordered" in more else sorted(lines, key=LINES.index)) == LINES
    assert (zpipe.folder / "dead").read_text() == ""
    header, *log = (zpipe.folder / "log").read_text().splitlines()
    assert header.split("\t")[0] == "Seq"
    assert sorted(int(line.split("\t")[0]) for line in log) == list(range(1, 401))
    assert len(zpipe.noted()) == len(LINES) - kept
    assert zpipe.run(*job).err == ""
    assert (zpipe.folder / "out").read_text().splitlines() == lines


def test_the_command_is_told_that_began_the_job(zpipe: Zpipe) -> None:
    """Also when nothing was done before it was killed, and it was gone on with."""
    zpipe.anew = True  # as users start it
    zpipe.allow(0)
    for command in (JOB, ("resume", "j")):
        node = zpipe.start(*command)
        assert kill_once_it_has(zpipe, node, 1) == 0
        (zpipe.folder / "noted").unlink()
    said = json.loads(zpipe.run("journal", "show", "--json", "j").out)["command"]
    assert said.startswith("zpipe run jobs:noted_nap")


def test_to_a_pipe_all_of_it_comes_again(zpipe: Zpipe) -> None:
    """What went to standard output can't be taken back: it is given whole, from the journal and from new results."""
    job = (*JOB, "--ordered")
    zpipe.allow(160)
    node = zpipe.start(*job)
    wait_until(lambda: node.out.count("\n") > 10, "what is in the journal")
    kept = kill_once_it_has(zpipe, node, 100)
    assert 0 < kept < 400
    zpipe.allow(400)
    so_far = zpipe.run("journal", "export", "j").out.splitlines()
    assert so_far == LINES[: len(so_far)]
    (zpipe.folder / "noted").unlink()
    assert zpipe.run("resume", "j").out.splitlines() == LINES
    assert len(zpipe.noted()) == 400 - kept
    for again in (job, ("journal", "export", "j")):
        assert zpipe.run(*again).out.splitlines() == LINES


def test_a_fold_goes_on(zpipe: Zpipe) -> None:
    """What was folded is in the journal, and each value is folded once."""
    job = (*JOB, "--reduce", "jobs.py:complex_sum", "--initial", "0", "--format", "raw", "--output", "sum")
    for some in (60, 100):
        kill_once_it_has(zpipe, zpipe.start(*job), len(zpipe.noted()) + some)
    zpipe.run(*job)
    assert complex((zpipe.folder / "sum").read_text()) == 400 * 399 // 2 + 400j


def test_killed_between_the_last_commit_and_the_end(zpipe: Zpipe) -> None:
    """All is done but the file's move into place, or but to say so: the next start does that and runs nothing."""
    zpipe.run(*JOB, "--output", "out", "--ordered")
    whole = (zpipe.folder / "out").read_text()
    for stage in ("open", "closing"):
        (zpipe.folder / "edit.py").write_text(
            "import contextlib, msgspec, sys; from zpipe.output.journal import Journal\n"
            "journal = Journal('j')\n"
            f"journal.enter(msgspec.structs.replace(journal.state, stage={stage!r}))\n"
            "journal.close()\n"
        )
        for moved in (False, True):
            if stage == "open" and moved:
                continue
            zpipe.python("edit.py").ended(0)
            if not moved:
                (zpipe.folder / "out").rename(zpipe.folder / "out.partial")
            (zpipe.folder / "noted").unlink(missing_ok=True)
            zpipe.run(*JOB, "--output", "out", "--ordered")
            assert (zpipe.folder / "out").read_text() == whole
            assert zpipe.noted() == []
            assert not (zpipe.folder / "out.partial").exists()


def test_another_job_is_refused(zpipe: Zpipe) -> None:
    """What would show in the output must be as it was; the message names what is not. Workers and sizes may differ."""
    base = ("run", "jobs:same", "--range", "50")
    job = (*base, "--journal", "j", "--quiet")
    zpipe.run(*job, "--output", "out", "--workers", "1")
    for other, said in (
        (("run", "jobs:double", "--range", "50", "--output", "out"), "task: jobs:same there, jobs:double here"),
        (("run", "jobs:same", "--range", "51", "--output", "out"), "items: --range 50 there"),
        ((*base, "--output", "other"), "--output: "),
        ((*base, "--output", "out", "--raw"), "--format: json there, raw here"),
        ((*base, "--output", "out", "--ordered"), "--ordered: not given there"),
        (
            ("run", "jobs:same", "--range", "50", "--output", "out", "--reduce", "operator:add"),
            "--reduce: not given there",
        ),
    ):
        node = zpipe.run(*other, "--journal", "j", "--workers", "1", status=2)
        assert said in node.err
        assert "zpipe resume j" in node.err
    zpipe.run(*job, "--output", "out", "--workers", "2", "--chunk", "7", "--retries", "3")
    (zpipe.folder / "out").write_text("somebody else's")
    assert "is not what it wrote" in zpipe.run(*job, "--output", "out", status=2).err
    assert (zpipe.folder / "out").read_text() == "somebody else's"


def test_a_source_that_is_not_the_same(zpipe: Zpipe) -> None:
    """One that has fewer items than are done ends the job, and leaves it open; one with more is read to its end."""
    with (zpipe.folder / "edit.py").open("w") as edit:
        edit.write(
            "import msgspec; from zpipe.output.journal import Journal\njournal = Journal('j')\n"
            "journal.enter(msgspec.structs.replace(journal.state, stage='open', total=None))\njournal.close()\n"
        )
    zpipe.run(*PIPED, text="1\n2\n3\n4\n5\n")
    zpipe.python("edit.py").ended(0)
    (zpipe.folder / "out").rename(zpipe.folder / "out.partial")
    for few in ("", "1\n2\n"):
        assert "it is not the one the job began with" in zpipe.run(*PIPED, text=few, status=2).err
        assert not (zpipe.folder / "out").exists()
        assert "go on with" in zpipe.run("journal", "show", "j").out
    zpipe.run(*PIPED, text="".join(f"{n}\n" for n in range(1, 10)))
    assert (zpipe.folder / "out").read_text() == "".join(f"{n}\n" for n in range(1, 10))


@pytest.mark.parametrize("more", [("--first",), ("--until", "jobs:same", "--reduce", "operator:add")], ids=["1", "2"])
def test_what_a_search_has_found_is_kept(zpipe: Zpipe, more: tuple[str, ...]) -> None:
    """It is in the journal before the job is over: the same command gives it once more, on standard output too."""
    job = ("run", "jobs:same", "--range", "1:90", "--workers", "1", "--journal", "j", "--raw", *more)
    assert [zpipe.run(*job).out, zpipe.run(*job).out, zpipe.run("journal", "export", "j").out] == ["1\n"] * 3


def test_wrong_files_are_told_of(zpipe: Zpipe) -> None:
    """What is no journal, in use, or gone together with its output: a clear word, nothing touched, no traceback."""
    (zpipe.folder / "notes").write_text("not a journal\n")
    for command in (("run", "jobs:same", "--range", "5", "--journal"), ("resume",), ("journal", "show")):
        assert "notes is no journal of zpipe" in zpipe.run(*command, "notes", status=2).err
    assert (zpipe.folder / "notes").read_text() == "not a journal\n"
    assert "there is no journal" in zpipe.run("resume", "none", status=2).err
    assert (
        "where results go" in zpipe.run("run", "jobs:same", "--range", "5", "--journal", "a", "-o", "a", status=2).err
    )
    first = zpipe.piped(*PIPED)
    first.write("1\n2\n3\n")
    wait_until(lambda: committed(zpipe) == 3, "the first items")
    assert "in use by another process" in zpipe.run(*PIPED, text="", status=2).err
    first.kill()
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    (zpipe.folder / "out.partial").rename(zpipe.folder / "elsewhere")
    assert "out.partial is not what the journal says" in zpipe.run(*PIPED, text="", status=2).err
    (zpipe.folder / "elsewhere").rename(zpipe.folder / "out.partial")
    zpipe.run(*PIPED, text="1\n2\n3\n4\n")
    assert (zpipe.folder / "out").read_text() == "1\n2\n3\n4\n"


def test_a_failed_job_and_its_dead_letters(zpipe: Zpipe) -> None:
    """The status of a finished job is what it was; its dead letters are in the journal, ready to be run again."""
    job = (
        "run",
        "jobs:fail_on_seven",
        "--range",
        "10",
        "--journal",
        "j",
        "--output",
        "out",
        "--ordered",
        "--workers",
        "1",
        "--dead-letters",
        "/dev/stdout",
    )
    for _ in range(2):
        node = zpipe.run(*job, status=1)
        assert "1 failed" in node.err
        assert [record["item"] for record in records(node.out)] == [7]
    assert [r["index"] for r in records((zpipe.folder / "out").read_text())] == list(range(10))
    shown = zpipe.run("journal", "show", "j").out
    assert "10 items, 1 failed; finished" in shown
    letters = zpipe.run("journal", "export", "--failed", "j").out
    assert json.loads(letters)["item"] == 7
    (zpipe.folder / "letters").write_text(letters)
    assert "--resubmit failed.jsonl" in zpipe.run("resume", "--failed", "j", status=2).err
    assert zpipe.run("run", "jobs:same", "--resubmit", "letters", "--raw").out == "7\n"


@pytest.mark.parametrize("how", ["json", "stdout", "raw", "fold"])
def test_only_what_failed_is_run_again(zpipe: Zpipe, how: str) -> None:
    """`zpipe resume --failed` runs the dead letters alone, and puts what becomes of them in the place of the errors."""
    more = {
        "json": ("--output", "out", "--dead-letters", "dead"),
        "stdout": (),
        "raw": ("--raw",),
        "fold": ("--output", "out", "--reduce", "operator:add"),
    }[how]
    job = ("run", "jobs:fail_unless_mended", "--range", "40", "--journal", "j", "--workers", "2", "--quiet", *more)

    def found(out: str) -> list[int]:
        text = (zpipe.folder / "out").read_text() if "out" in more else out
        if "--raw" in more:
            return sorted(map(int, text.split()))
        if how == "fold":
            return [int(text)]
        return [record["value"] for record in records(text) if "value" in record]

    good = [n for n in range(40) if n % 5]
    assert found(zpipe.run(*job, status=1).out) == ([sum(good)] if how == "fold" else good)
    (zpipe.folder / "noted").unlink()
    assert found(zpipe.run("resume", "--failed", "j", status=1).out) == ([sum(good)] if how == "fold" else good)
    assert sorted(zpipe.noted()) == [n for n in range(40) if not n % 5]
    (zpipe.folder / "noted").unlink()
    (zpipe.folder / "mended").touch()
    out = zpipe.run("resume", "--failed", "j").out
    assert found(out) == ([sum(range(40))] if how == "fold" else list(range(40)))
    if how == "json":
        assert len((zpipe.folder / "out").read_text().splitlines()) == 40
        assert (zpipe.folder / "dead").read_text() == ""
    assert sorted(zpipe.noted()) == [n for n in range(40) if not n % 5]
    assert "nothing to run again" in zpipe.run("resume", "--failed", "j", status=2).err


def test_interrupted_and_gone_on_with(zpipe: Zpipe) -> None:
    """Ctrl-C keeps what is done, says how to go on, and that does."""
    node = zpipe.piped(*PIPED)
    node.write("".join(f"{n}\n" for n in range(50)))
    wait_until(lambda: len(zpipe.noted()) == 50, "some items")
    node.signal(signal.SIGINT)
    node.ended(130)
    assert "to go on: zpipe resume j" in node.err
    assert "50 of them before" in zpipe.run("resume", "j", text="".join(f"{n}\n" for n in range(90))).err
    assert (zpipe.folder / "out").read_text().split() == [str(n) for n in range(90)]
    assert sorted(zpipe.noted()) == list(range(90))


LIMITED = """
import resource
from zpipe.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
main()
"""


def test_a_full_disk_at_the_output(zpipe: Zpipe) -> None:
    """An output that can't grow ends the job with a clear error; with room again it goes on."""
    (zpipe.folder / "items").write_text("".join(f"{n:020000}\n" for n in range(200)))
    job = ("run", "jobs:same", "--input", "items", "--journal", "j", "--workers", "2", "--quiet", "--raw", "-o", "out")
    (zpipe.folder / "limited.py").write_text(LIMITED.replace("LIMIT,", "2_000_000,").replace("LIMIT)", "2_000_000)"))
    node = zpipe.python("limited.py", *job).ended(1)
    assert "can't write out: File too large; raise the limit" in node.err
    assert "zpipe resume j" in node.err
    assert "Traceback" not in node.err
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    assert committed(zpipe) < 200
    zpipe.run(*job)
    assert sorted((zpipe.folder / "out").read_text().split()) == (zpipe.folder / "items").read_text().split()


def test_a_full_disk_at_the_journal(zpipe: Zpipe) -> None:
    """A journal that can't grow ends the job likewise."""
    job = ("run", "jobs:noted", "--range", "20000", "--ordered", "--journal", "j", "--workers", "2", "--quiet")
    (zpipe.folder / "limited.py").write_text(LIMITED.replace("LIMIT,", "400_000,").replace("LIMIT)", "400_000)"))
    node = zpipe.python("limited.py", *job).ended(1)
    assert "can't write the journal j: " in node.err
    assert "free some space there, then give the same command again" in node.err
    assert "Traceback" not in node.err
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    kept = committed(zpipe)
    (zpipe.folder / "noted").unlink()
    assert [json.loads(line)["value"] for line in zpipe.run(*job).out.splitlines()] == list(range(20_000))
    assert len(zpipe.noted()) == 20_000 - kept


def test_a_sink_of_its_own_is_killed(zpipe: Zpipe) -> None:
    """The sink is killed under a ventilator and workers that live: with its journal it comes back."""
    url = f"{LOCAL}:{free_port()}"
    ventilator = zpipe.start("ventilator", "jobs:noted_nap", "--range", "400", "--bind", url)
    ventilator.said("listening")
    sink = ("sink", url, "--bind", f"{LOCAL}:{free_port()}", "-o", "out", "--raw", "--ordered", "--journal", "j")
    first = zpipe.start(*sink)
    zpipe.start("worker", url, "--slots", "2")
    for some in (60, 180):
        zpipe.allow(some + 60)  # what was handed back may be behind all that wait
        wait_until(lambda some=some: len(zpipe.noted()) >= some, "some items")
        first.kill()
        first = zpipe.start(*sink)
    zpipe.allow(400)
    first.ended(0)
    ventilator.ended(0)
    assert (zpipe.folder / "out").read_text().split() == [str(n) for n in range(400)]


def test_the_machine_dies(zpipe: Zpipe) -> None:
    """Ventilator, workers and sink are killed at once, and all started anew: the journal knows where they were."""
    url = f"{LOCAL}:{free_port()}"
    sink = ("sink", url, "--bind", f"{LOCAL}:{free_port()}", "--output", "out", "--journal", "j")
    for last in (False, True):
        nodes = [
            zpipe.start("ventilator", "jobs:noted_nap", "--range", "400", "--bind", url),
            zpipe.start(*sink),
            zpipe.start("worker", url, "--slots", "2"),
        ]
        zpipe.allow(400 if last else 220)
        if not last:
            wait_until(lambda: len(zpipe.noted()) > 150, "some items")
            for node in nodes:
                node.kill()
            wait_until(lambda: not zpipe.left(), "the end of the workers")
            kept = committed(zpipe)
            (zpipe.folder / "noted").unlink()
    for node in nodes:
        node.ended(0)
    assert sorted((zpipe.folder / "out").read_text().splitlines(), key=LINES.index) == LINES
    assert len(zpipe.noted()) == 400 - kept
