"""What a job may run: a function of a module or of a file, or a command; and what becomes of an item that fails."""

from __future__ import annotations

import json
from pathlib import Path

from process.tools import LOCAL, Zpipe, free_port, records, values

FAST = ("--workers", "2", "--quiet")


def _commands(zpipe: Zpipe, template: str, *args: str, text: str) -> list[str]:
    """Run a command on the lines of `text`; return what it printed, in the items' order."""
    node = zpipe.run("run", "--command", template, *args, *FAST, text=text)
    return [value["stdout"].rstrip("\n") for value in values(node.out)]


def test_a_file_travels_to_workers_that_lack_it(zpipe: Zpipe, tmp_path: Path) -> None:
    """The text of `path/file.py:function` goes to a worker in another folder; a module must be there itself."""
    (tmp_path / "away").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.py").write_text("FACTOR = 3\ndef thrice(item):\n    return FACTOR * item\n")
    url = f"{LOCAL}:{free_port()}"
    job = ("--range", "0:4", "--bind", url, "--workers", "0")
    for task, status in (("mine.py:thrice", 0), ("mine:thrice", 2)):
        worker = zpipe.start("worker", url, "--slots", "1", folder=tmp_path / "away")
        node = zpipe.start("run", task, *job, folder=home).ended(status)
        if status:
            assert "no module 'mine'" in node.err
            assert str(tmp_path / "away") in node.err
            worker.ended(1)
        else:
            assert values(node.out) == [0, 3, 6, 9]
            worker.ended(0)


def test_a_file_that_imports_its_sibling(zpipe: Zpipe, tmp_path: Path) -> None:
    """A file's siblings do not travel: with them it works where they are, without them the error says so."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "main.py").write_text("import sibling_of_main\ndef task(item):\n    return sibling_of_main.add(item)\n")
    (home / "sibling_of_main.py").write_text("def add(item):\n    return item + 1\n")
    node = zpipe.run("run", "home/main.py:task", "--range", "0:3", *FAST)
    assert values(node.out) == [1, 2, 3]
    (home / "sibling_of_main.py").unlink()
    node = zpipe.run("run", "home/main.py:task", "--range", "0:3", *FAST, status=2)
    assert "main.py imports 'sibling_of_main'" in node.err
    assert node.out == ""


def test_every_placeholder_of_a_command(zpipe: Zpipe) -> None:
    """`{}` `{.}` `{/}` `{//}` `{/.}` `{#}` stand for the item and its parts; without one the item comes last."""
    template = "printf %s|%s|%s|%s|%s|%s {} {.} {/} {//} {/.} {#}"
    found = _commands(zpipe, template, text="a/b.c/d.txt\nplain\n")
    assert found == ["a/b.c/d.txt|a/b.c/d|d.txt|a/b.c|d|1", "plain|plain|plain|.|plain|2"]
    assert _commands(zpipe, "echo at end:", text="x\n") == ["at end: x"]


def test_items_are_never_code(zpipe: Zpipe) -> None:
    """With and without `--shell` an item reaches the command as it is, whatever a shell would make of it."""
    nasty = ["two  words", "$(touch hacked)", "`touch hacked`", "; touch hacked", "'\"\\", "*", "-n", ""]
    text = "".join(f"{item}\n" for item in nasty)
    assert _commands(zpipe, "printf %s|cat {}", text=text) == [f"{item}|cat" for item in nasty]
    template = "printf %s {} \"{}\" '{}' | cat; echo $((1 + 1))"
    assert _commands(zpipe, template, "--shell", text=text) == [f"{item * 3}2" for item in nasty]
    assert not (zpipe.folder / "hacked").exists()


def test_a_command_that_fails(zpipe: Zpipe) -> None:
    """Exit status, stdout and stderr are the result; any but 0 fails its item alone and the job goes on."""
    template = "echo out {}; echo err {} >&2; exit {}"
    node = zpipe.run("run", "--command", template, "--shell", *FAST, text="0\n3\n0\n", status=1)
    good, bad, last = records(node.out)
    assert good["value"] == {"stdout": "out 0\n", "stderr": "err 0\n", "exit": 0}
    assert last["value"]["exit"] == 0
    assert (bad["error"]["exit"], bad["error"]["stdout"], bad["error"]["stderr"]) == (3, "out 3\n", "err 3\n")
    assert "item 1 failed" in node.err
    assert "exit status 3" in node.err
    node = zpipe.run("run", "--command", "kill -9 $$ # {}", "--shell", *FAST, text="0\n", status=1)
    assert "killed by SIGKILL" in records(node.out)[0]["error"]["message"]


def test_an_item_that_raises_fails_alone(zpipe: Zpipe) -> None:
    """Its record has the traceback of the user's code, the others their values; the summary and the status say so."""
    node = zpipe.run("run", "jobs:fail_on_seven", "--range", "0:20", "--chunk", "10", "--workers", "2", status=1)
    found = records(node.out)
    assert [record["index"] for record in found] == list(range(20))
    assert [record["value"] for record in found if "value" in record] == [n for n in range(20) if n != 7]
    error = found[7]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "seven is not wanted")
    assert "jobs.py" in error["traceback"]
    assert "raise ValueError" in error["traceback"]
    assert "zpipe/" not in error["traceback"]
    assert "item 7 failed: ValueError: seven is not wanted" in node.err
    assert node.err.splitlines()[-1].endswith("1 failed")


def test_an_error_is_told_once(zpipe: Zpipe) -> None:
    """Where results are plain text the traceback is on standard error, if there is one: not for a task in C."""
    for task, lines in (("builtins:int", 1), ("jobs:fail_on_seven", 5)):
        node = zpipe.run("run", task, "--jsonl", "--raw", *FAST, text='"7"\n"x"\n' if lines == 1 else "7\n", status=1)
        assert len(node.err.splitlines()) == lines, node.err
        assert " failed: ValueError: " in node.err.splitlines()[0]


def test_whatever_a_task_raises_fails_its_item_alone(zpipe: Zpipe) -> None:
    """SystemExit, recursion without an end, running out of memory, StopIteration: each fails one item."""
    node = zpipe.run("run", "jobs:raise_something", "--range", "0:6", "--chunk", "6", *FAST, status=1)
    types = [record.get("error", {}).get("type") for record in records(node.out)]
    assert types == [None, "SystemExit", "RecursionError", "MemoryError", "StopIteration", None]


def test_many_failures_are_counted_and_not_all_shown(zpipe: Zpipe) -> None:
    """A person is shown the first few failures; all are in the output and in the count."""
    node = zpipe.run("run", "jobs:fail", "--range", "0:40", "--json", *FAST, status=1)
    assert all("error" in record for record in records(node.out))
    assert node.err.count(" failed: ") == 5
    assert json.loads(node.err.splitlines()[-1])["failed"] == 40
