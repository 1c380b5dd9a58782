"""Jobs in stages, as users run them: exact output over failing items, killed workers, killed runs and slow stages."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from process import steps
from process.tools import LOCAL, Zpipe, wait_until

COUNT = 400
STAGES = ("steps.py:parse", "--then", "steps.py:enrich", "--then", "steps.py:store")


@pytest.fixture(autouse=True)
def folder(zpipe: Zpipe) -> Path:
    """The folder of the test, with the stages' file and 400 lines."""
    shutil.copy(Path(__file__).with_name("steps.py"), zpipe.folder)
    (zpipe.folder / "lines.txt").write_text("".join(f"{n}\n" for n in range(COUNT)))
    return zpipe.folder


def test_three_stages(zpipe: Zpipe, folder: Path) -> None:
    """In order and not: what plain Python makes of it. Failed items are told of by stage, and run again by stage."""
    wanted = steps.twin(COUNT)
    how = ("--input", "lines.txt", "--raw", "--dead-letters", "failed", "--json", "-o", "out")
    node = zpipe.run("run", *STAGES, *how, "--ordered", "--joblog", "log", status=1)
    assert (folder / "out").read_text().split() == wanted
    summary = json.loads(node.out)
    assert (summary["done"], summary["total"]) == (COUNT, COUNT)
    assert [(stage["name"], stage["failed"]) for stage in summary["stages"]][2] == ("stage 3 (store)", 0)
    letters = [json.loads(line) for line in (folder / "failed").read_text().splitlines()]
    bad = [n for n in range(COUNT) if n % 50 == 0]
    worse = [n * 10 + k for n in range(COUNT) for k in range(n % 4) if n % 50 and (n * 10 + k) % 13 == 0]
    assert sorted(letter["item"] for letter in letters if letter["stage"] == 1) == [
        str(n) for n in sorted(map(str, bad))
    ]
    assert sorted(letter["item"] for letter in letters if letter["stage"] == 2) == worse
    assert summary["failed"] == len(letters) == len(bad) + len(worse)
    assert f"of stage 1 (parse) failed: ValueError: no {bad[0]}" in node.err
    ran = sum(stage["done"] for stage in summary["stages"])
    assert len((folder / "log").read_text().splitlines()) == 1 + ran

    text = (folder / "steps.py").read_text()
    (folder / "steps.py").write_text(text.replace("% 50 == 0", "< 0").replace("% 13 == 0", "< 0"))
    zpipe.run("run", *STAGES, "--resubmit", "failed", "--raw", "-o", "more")
    more = [steps.store({"number": n, "rest": n % 7}) for n in worse]
    more += [steps.store({"number": n * 10 + k, "rest": (n * 10 + k) % 7}) for n in bad for k in range(n % 4)]
    assert sorted((folder / "more").read_text().split()) == sorted(more)

    zpipe.run("run", "steps:parse", "--then", "steps:where,chunk=3,workers=1", "--input", "lines.txt", "-o", "out")
    records = [json.loads(line) for line in (folder / "out").read_text().splitlines()]
    assert sorted(record["index"] for record in records) == list(range(len(records)))
    assert all(record["value"] == [record["index"], record["item"]] for record in records)


def test_killed_workers_of_each_stage(zpipe: Zpipe, folder: Path) -> None:
    """What they had is run elsewhere; nothing is lost, nothing comes twice."""
    tasks = ("steps.py:deadly_parse", "--then", "steps.py:deadly_enrich", "--then", "steps.py:deadly_store")
    node = zpipe.run("run", *tasks, "--input", "lines.txt", "--raw", "--ordered", "-o", "out", "-w", 3, status=1)
    assert (folder / "out").read_text().split() == steps.twin(COUNT)
    assert len(list(folder.glob("died-*"))) == 3
    assert "3 workers lost" in node.err


def test_what_failed_in_each_stage_is_run_again(zpipe: Zpipe, folder: Path) -> None:
    """From there on, with the very items; what had come of others stays as it is."""
    (folder / "t.py").write_text(
        "import pathlib\n"
        "def check(stage, wrong):\n"
        "    with open(stage, 'a') as file: file.write('x')\n"
        "    if wrong and not pathlib.Path('mended').exists(): raise ValueError(stage)\n"
        "def one(line):\n"
        "    number = int(line)\n"
        "    check('one', number % 10 == 3)\n"
        "    yield from ((number, n) for n in range(2))\n"
        "def two(pair):\n"
        "    check('two', pair[0] % 10 == 5)\n"
        "    return pair, type(pair).__name__\n"
        "def three(found):\n"
        "    check('three', found[0] == (7, 1))\n"
        "    return found\n"
    )
    tasks = ("t.py:one", "--then", "t.py:two,chunk=3", "--then", "t.py:three")
    how = ("-o", "out", "--journal", "j", "-w", 2, "--heartbeat", 60)
    zpipe.run("run", *tasks, "--input", "lines.txt", *how, status=1)
    found = [json.loads(line) for line in (folder / "out").read_text().splitlines()]
    assert [record["error"]["message"] for record in found if "error" in record] == ["three"]
    zpipe.run("resume", "--failed", "j", status=1)
    (folder / "mended").touch()
    for stage in ("one", "two", "three"):
        (folder / stage).unlink()
    zpipe.run("resume", "--failed", "j")
    found = [json.loads(line)["value"] for line in (folder / "out").read_text().splitlines()]
    assert sorted(found) == [[[n, k], "tuple"] for n in range(COUNT) for k in range(2)]
    tenth = COUNT // 10
    assert [(folder / stage).stat().st_size for stage in ("one", "two", "three")] == [tenth, 4 * tenth, 4 * tenth + 1]
    assert "nothing to run again" in zpipe.run("resume", "--failed", "j", status=2).err


@pytest.mark.parametrize("ordered", [True, False])
def test_a_killed_run_is_gone_on_with(zpipe: Zpipe, folder: Path, ordered: bool) -> None:
    """From the journal of all stages, to the same output, and what was done is not done again."""
    tasks = ("steps.py:parse", "--then", "steps.py:enrich,chunk=7", "--then", "steps.py:noted,chunk=5")
    how = ("--input", "lines.txt", "--raw", "-o", "out", "--journal", "j", *(["--ordered"] * ordered))
    stored = folder / "stored"
    stored.touch()
    (folder / "most").write_text("700")
    first = zpipe.start("run", *tasks, *how)
    wait_until(lambda: stored.stat().st_size >= 700, lambda: f"results of {first.err}")
    wait_until(lambda: "stage 1" in zpipe.run("journal", "show", "j").out, "a commit")
    first.kill()
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    assert not (folder / "out").exists()
    (folder / "most").write_text("1800")
    second = zpipe.start("resume", "j")
    wait_until(lambda: stored.stat().st_size >= 1800, lambda: f"results of {second.err}")
    second.signal(signal.SIGINT)
    second.said("interrupted: finishing")
    (folder / "most").write_text("99999")
    second.ended(130)
    last = zpipe.run("run", *tasks, *how, status=1)
    assert "of them before" in last.err
    found, wanted = (folder / "out").read_text().split(), steps.twin(COUNT)
    assert found == wanted if ordered else sorted(found) == sorted(wanted)
    again = len((folder / "stored").read_text().split()) - len(wanted)
    assert 0 <= again < 200, "what was done was done again"
    zpipe.run("run", *tasks, *how, status=1)
    other = zpipe.run("run", *tasks[:-1], "steps.py:store", *how, status=2)
    assert "the journal j is of another job: stage 3: " in other.err
    if ordered:
        assert "its results are in order" in zpipe.run("resume", "--failed", "j", status=2).err


def test_a_slow_stage_holds_back_the_others(zpipe: Zpipe, folder: Path) -> None:
    """Of an endless source no more is asked for than there is use for; an interrupt ends it as any job."""
    tasks = ("steps.py:slow", "--then", "steps.py:slow,workers=1")
    quick = ("builtins:abs", "--then", "builtins:abs", "--then", "steps.py:slow,workers=1")
    for stages in (quick, tasks, (*quick, "--priority", "1")):
        node = zpipe.start("run", *stages, "--source", "steps.py:endless", "--raw", "-w", 2)
        node.printed("\n5\n" if stages is tasks else "\n50\n")
        assert int((folder / "asked").read_text()) < 200_000
        node.signal(signal.SIGINT)
        node.ended(130)


def test_workers_elsewhere_serve_all_stages(zpipe: Zpipe, folder: Path) -> None:
    """They need the one address, and with a codec the names of all tasks."""
    tasks = ("steps:parse", "--then", "steps:enrich", "--then", "steps:store")
    node = zpipe.start(
        "run", *tasks, "-i", "lines.txt", "--raw", "-o", "out", "-w", 0, "--bind", f"{LOCAL}:0", "--codec", "json"
    )
    line = node.said("start workers with: zpipe worker ").partition("zpipe worker ")[2].splitlines()[0].split()
    assert line[1:] == ["--allow", "steps:parse", "--allow", "steps:enrich", "--allow", "steps:store"]
    worker = zpipe.start("worker", *line)
    node.ended(1)
    worker.ended(0)
    assert sorted((folder / "out").read_text().split()) == sorted(steps.twin(COUNT))


def test_groups_at_the_end(zpipe: Zpipe) -> None:
    """Values by key, as lists or folded; with a journal the same, over a run that was interrupted."""
    numbers = [int(text.partition(":")[2]) for text in steps.twin(COUNT)]
    sums = {key: sum(n for n in numbers if n % 7 == key) for key in range(7)}
    how = ("--input", "lines.txt", "--group-by", "rest", "--reduce", "steps.py:add", "--initial", "0", "--journal", "j")
    tasks = ("steps.py:parse", "--then", "steps.py:enrich")
    node = zpipe.start("run", *tasks, "--then", "steps.py:slow,chunk=1", *how)
    node.said("stage 1 (parse)")
    node.signal(signal.SIGINT)
    node.end()
    records = [json.loads(line) for line in zpipe.run("resume", "j", status=1).out.splitlines()]
    assert {record["key"]: record["value"] for record in records} == sums
    node = zpipe.run("run", *tasks, *how[:2], "--group-by", "steps.py:rest", "--ordered", "--codec", "pickle", status=1)
    records = [json.loads(line) for line in node.out.splitlines()]
    listed = {key: [{"number": n, "rest": key} for n in numbers if n % 7 == key] for key in range(7)}
    assert {record["key"]: record["values"] for record in records} == listed


def test_time_limits_of_one_stage(zpipe: Zpipe, folder: Path) -> None:
    """The one item that runs too long is given up, under its number in its stage; the others count."""
    tasks = (
        "builtins:abs",
        "--then",
        "steps.py:stuck,timeout=0.5,retries=3,retry-delay=0,chunk=4",
        "--then",
        "builtins:abs",
    )
    node = zpipe.run("run", *tasks, "--range", "3:20", "--raw", "-o", "out", "--dead-letters", "failed", status=1)
    (letter,) = [json.loads(line) for line in (folder / "failed").read_text().splitlines()]
    assert (letter["item"], letter["stage"], letter["error"]["type"]) == (5, 2, "ItemTimeout")
    assert sorted(map(int, (folder / "out").read_text().split())) == [n for n in range(3, 20) if n != 5]
    assert "of stage 2 (stuck) failed: ItemTimeout" in node.err


def test_tries_of_one_stage(zpipe: Zpipe, folder: Path) -> None:
    """A stage's settings are its own."""
    tasks = ("steps.py:fails_once,retries=1,retry-delay=0", "--then", "builtins:int", "--then", "steps.py:fails_once")
    node = zpipe.run("run", *tasks, "--range", "5", "--json", "-o", "out", status=1)
    summary = json.loads(node.out)
    assert [(stage["done"], stage["failed"]) for stage in summary["stages"]] == [(5, 0), (5, 0), (5, 5)]
    assert summary["retried"] == 5
    node = zpipe.run("run", *tasks[2:], "--range", "50", "--halt", "now,fail=3", status=1)
    assert "failed: " in node.err


def test_a_later_stage_that_workers_can_not_load(zpipe: Zpipe) -> None:
    """It ends the job with status 2 and the reason, as the first one does, though there are workers for that one."""
    node = zpipe.run("run", "builtins:abs", "--then", "nowhere:found", "--range", "5", "-w", "2", status=2)
    assert "no module 'nowhere' on this host" in node.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["steps.py:parse", "--then", "steps.py:parse,job=2"], "'job=2' is no setting of a stage"),
        (["steps.py:parse", "--then", "steps.py:pasre"], "has no 'pasre'"),
        (["steps.py:parse,chunk=0", "--then", "steps.py:enrich"], "chunk=0 is out of range"),
        (["steps.py:parse", "--then", "steps.py:enrich", "--first"], "--first and --then"),
        (["steps.py:parse", "--then", "steps.py:enrich,max-in-flight=0"], "max-in-flight=0 is out of range"),
        (["--then", "steps.py:enrich"], "nothing to run"),
    ],
)
def test_stages_that_can_not_be(zpipe: Zpipe, args: list[str], said: str) -> None:
    """Are refused at once, with what is wrong."""
    assert said in zpipe.run("run", *args, "--range", "3", status=2).err
