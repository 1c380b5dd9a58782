"""`zpipe run` from one end to the other: every kind of source, and what a job tells about itself."""

from __future__ import annotations

import json
import subprocess
import sys

from process.tools import Zpipe, records, values

import zpipe as package

FAST = ("--workers", "2", "--quiet")


def test_lines_of_a_file_and_of_stdin(zpipe: Zpipe) -> None:
    """Each line is an item, whether it ends in \\n or \\r\\n or not at all, and the order of indices is the file's."""
    (zpipe.folder / "names.txt").write_bytes("ada\r\n\nGrün\n x y \nlast".encode())
    names = ["ada", "", "Grün", " x y ", "last"]
    node = zpipe.run("run", "jobs:double", "--input", "names.txt", *FAST)
    assert [record["item"] for record in records(node.out)] == names
    assert values(node.out) == [name * 2 for name in names]
    assert node.err == ""
    node = zpipe.run("run", "jobs.py:double", *FAST, text="ada\nbob\n")
    assert values(node.out) == ["adaada", "bobbob"]
    node = zpipe.run("run", "jobs:double", "--input", "-", *FAST, text="")
    assert node.out == ""


def test_json_lines(zpipe: Zpipe) -> None:
    """Each line is a JSON value, whatever its type; blank lines are none."""
    text = '{"a": [1, 2.5, null]}\n\n"text"\n17\n true \n[]\n'
    node = zpipe.run("run", "jobs:same", "--jsonl", *FAST, text=text)
    assert values(node.out) == [{"a": [1, 2.5, None]}, "text", 17, True, []]


def test_items_that_end_in_nul_and_in_another_encoding(zpipe: Zpipe) -> None:
    """`--null` takes items with newlines in them; `--encoding` reads other text than UTF-8."""
    node = zpipe.run("run", "jobs:same", "--null", *FAST, text=b"one\nname\0two\0")
    assert values(node.out) == ["one\nname", "two"]
    node = zpipe.run("run", "jobs:same", "--encoding", "latin-1", *FAST, text=b"caf\xe9\n")
    assert values(node.out) == ["café"]


def test_ranges(zpipe: Zpipe) -> None:
    """`--range` counts by steps, down too, leaves STOP out, and may be empty."""
    for text, expected in (("5:0:-2", [5, 3, 1]), ("4:4", [])):
        node = zpipe.run("run", "jobs:same", "--range", text, *FAST)
        assert values(node.out) == expected, text


def test_a_glob(zpipe: Zpipe) -> None:
    """`--glob` gives the files of all folders below `**`, and no folder."""
    for name in ("data/a.txt", "data/deep/er/b.txt", "data/c.csv"):
        path = zpipe.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    node = zpipe.run("run", "jobs:size", "--glob", "data/**/*.txt", *FAST)
    assert {r["item"]: r["value"] for r in records(node.out)} == {"data/a.txt": 10, "data/deep/er/b.txt": 18}


def test_sources_in_python(zpipe: Zpipe) -> None:
    """`--source` takes a generator function of a module or of a file, or something iterable."""
    for source in ("jobs.py:three_words", "jobs:WORDS"):
        node = zpipe.run("run", "jobs:double", "--source", source, *FAST)
        assert values(node.out) == ["oneone", "twotwo", "threethree"], source


def test_a_stream_without_an_end(zpipe: Zpipe) -> None:
    """A line that arrives on stdin has its result on stdout before the next one arrives."""
    node = zpipe.piped("run", "jobs:double", "--raw", "--workers", "1")
    for word in ("first", "second", "third"):
        node.write(f"{word}\n")
        node.printed(f"{word * 2}\n")
    assert node.process.poll() is None
    node.eof().ended(0)
    assert node.out == "firstfirst\nsecondsecond\nthirdthird\n"


def test_an_endless_source_is_read_lazily(zpipe: Zpipe) -> None:
    """Of an endless source only what is about to be worked on is read."""
    node = zpipe.start("run", "jobs:slow", "--source", "jobs:noted_count", "--raw", "--workers", "1", "--chunk", "1")
    node.printed("5\n")
    node.kill()
    # 10,000 items wait between the source's thread and the ventilator, at most, and a few more in between.
    assert len(zpipe.noted()) < 10_100


def test_exactly_one_line_an_item_when_chunks_are_many(zpipe: Zpipe) -> None:
    """A job of many chunks gives each item's outcome once, and --ordered gives them in order."""
    node = zpipe.run("run", "jobs:same", "--range", "0:30000", "--ordered", "--workers", "3", "--quiet")
    lines = node.out.splitlines()
    assert [json.loads(line)["value"] for line in lines] == list(range(30_000))


def test_what_a_task_prints_does_not_mix_with_results(zpipe: Zpipe) -> None:
    """Whatever a task prints goes to stderr; its stdin is empty."""
    node = zpipe.run("run", "jobs:chatty", "--range", "0:2", *FAST)
    assert values(node.out) == ["", ""]
    assert "printed by a task" in node.err


def test_a_task_knows_its_item(zpipe: Zpipe) -> None:
    """`zpipe.current()` tells a task its item's index and attempt, and the worker's name."""
    node = zpipe.run("run", "jobs:context", "--range", "10:14", *FAST)
    found = values(node.out)
    assert [index for index, _, _ in found] == [0, 1, 2, 3]
    assert all(attempt == 1 and " slot " in worker for _, attempt, worker in found)


def test_the_summary(zpipe: Zpipe) -> None:
    """The last line on stderr tells items, time, and rate; `--json` tells a program, and `--quiet` nobody."""
    node = zpipe.run("run", "jobs:same", "--range", "0:5", "--workers", "1")
    assert node.err.splitlines()[-1].startswith("zpipe: 5 items done in ")
    assert "items/s" in node.err
    node = zpipe.run("run", "jobs:fail_on_seven", "--range", "0:10", "--output", "out", "--json", *FAST, status=1)
    told = json.loads(node.out)
    assert told["done"] == told["total"] == 10
    assert (told["failed"], told["exit_status"], told["error"]) == (1, 1, "")
    assert told["workers"] >= 1
    node = zpipe.run("run", "jobs:same", "--range", "0:5", "--json", *FAST)
    assert values(node.out) == [0, 1, 2, 3, 4]
    assert json.loads(node.err)["done"] == 5


def test_the_console_script_is_the_same_command(zpipe: Zpipe) -> None:
    """`zpipe`, as it is installed, and `python -m zpipe` are one and the same."""
    node = zpipe.run("--version")
    script = [sys.executable, "-c", "from zpipe.cli import main; main()", "--version"]
    found = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert node.out == found.stdout == f"zpipe {package.__version__}\n"
