"""Items that need not be run: duplicates of one job, and what a cache has from another."""

from __future__ import annotations

import json

from process.tools import LOCAL, Zpipe, free_port, records

TASK = """
import os

def run(item):
    with open("ran", "a") as file:
        file.write(item + "\\n")
    if item == "bad":
        raise ValueError("a bad one")
    return item.upper()

def first(item):
    return item[0]
"""

ITEMS = "a\nb\na\nbad\na\nbad\nc\n"


def ran(zpipe: Zpipe) -> list[str]:
    """Return what was run since this was last asked."""
    path = zpipe.folder / "ran"
    found = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_equal_items_are_run_once(zpipe: Zpipe) -> None:
    """Later ones get the first one's outcome, be it a value or an error, under their own index."""
    (zpipe.folder / "t.py").write_text(TASK)
    node = zpipe.run("run", "t.py:run", "--unique", "--ordered", "-w", "2", "--dead-letters", "d", text=ITEMS, status=1)
    found = records(node.out)
    assert [record["index"] for record in found] == list(range(7))
    assert [record.get("value") for record in found] == ["A", "B", "A", None, "A", None, "C"]
    assert [json.loads(line)["index"] for line in (zpipe.folder / "d").read_text().splitlines()] == [3, 5]
    assert ran(zpipe) == ["a", "b", "bad", "c"]
    assert "3 like another" in node.err
    node = zpipe.run(
        "run", "t.py:run", "--unique-by", "t.py:first", "--raw", "--ordered", "-w", "1", text="ax\nb\nay\n"
    )
    assert node.out == "AX\nB\nAX\n"
    assert ran(zpipe) == ["ax", "b"]


def test_a_cache_answers_what_was_run_before(zpipe: Zpipe) -> None:
    """Failed items are run again, a changed task has no past, and nothing is run where all is known."""
    zpipe.anew = True  # as users start it
    (zpipe.folder / "t.py").write_text(TASK)
    job = ("run", "t.py:run", "--ordered", "--raw", "-w", "2", "--cache", "c", "--cache-ttl", "1h")
    before = zpipe.run(*job, text=ITEMS, status=1)
    assert ran(zpipe) == ["a", "b", "bad", "c"]
    after = zpipe.run(*job, text=ITEMS, status=1)
    assert after.out == before.out == "A\nB\nA\nA\nC\n"
    assert ran(zpipe) == ["bad"]
    whole = zpipe.run(*job, "--json", text="c\na\n" * 500)
    assert whole.out == "C\nA\n" * 500
    assert json.loads(whole.err.splitlines()[-1])["cached"] == 1000
    told = json.loads(zpipe.run("cache", "show", "c", "--json").out)
    assert (told["entries"], [task["name"].endswith("/t.py:run") for task in told["tasks"]]) == (3, [True])
    assert told["hits"] >= 1000
    assert ran(zpipe) == []
    (zpipe.folder / "t.py").write_text(TASK.replace("upper", "title"))
    zpipe.run(*job, text="a\n")
    assert ran(zpipe) == ["a"]
    assert "removed 4 of 4 results" in zpipe.run("cache", "clear", "c", "--task", "t.py:run").err
    assert "give --task alone" in zpipe.run("cache", "clear", "c", "--task", "x", "--expired", status=2).err
    zpipe.run(*job, text="a\n")
    assert ran(zpipe) == ["a"]


def test_a_sink_elsewhere_gets_what_nobody_ran_for(zpipe: Zpipe) -> None:
    """As if from a worker: the second time there is none."""
    (zpipe.folder / "t.py").write_text(TASK)
    (zpipe.folder / "items").write_text(ITEMS.replace("bad", "d"))
    for turn in range(2):
        url = f"{LOCAL}:{free_port()}"
        job = ("ventilator", "t.py:run", "--bind", url, "--insecure", "--input", "items", "--cache", "c", "--unique")
        ventilator = zpipe.start(*job)
        sink = zpipe.start("sink", url, "--insecure", "--ordered", "--raw", "--bind", f"{LOCAL}:{free_port()}")
        worker = zpipe.start("worker", url, "--insecure", "--slots", "1") if not turn else None
        for node in (ventilator, sink, worker):
            if node is not None:
                node.ended(0)
        assert sink.out == "A\nB\nA\nD\nA\nD\nC\n"
        assert ran(zpipe) == ([] if turn else ["a", "b", "c", "d"])


def test_a_journal_goes_on_without_running_duplicates(zpipe: Zpipe) -> None:
    """What became of the first ones is kept beside it until the job is done."""
    (zpipe.folder / "t.py").write_text(TASK)
    job = ("run", "t.py:run", "--unique", "--raw", "--ordered", "-w", "1", "--output", "out", "--journal", "j")
    zpipe.run(*job, "--halt", "now,fail=1", text=ITEMS, status=1)
    assert (zpipe.folder / "j.unique").exists()
    zpipe.run(*job, text=ITEMS, status=1)
    assert (zpipe.folder / "out").read_text() == "A\nB\nA\nA\nC\n"
    assert len(ran(zpipe)) <= 6
    assert not (zpipe.folder / "j.unique").exists()


def test_what_can_not_be_is_refused(zpipe: Zpipe) -> None:
    """Before anything is run, with the reason and the mend."""
    (zpipe.folder / "t.py").write_text(TASK)
    (zpipe.folder / "c").write_text("no cache")
    (zpipe.folder / "c").chmod(0o666)
    for given, said in (
        (("--cache", "c"), "chmod 600 c"),
        (("--cache", ""), "--cache is empty"),
        (("--cache-ttl", "1m"), "goes with --cache"),
        (("--cache", "d", "--cache-ttl", "soon"), "is no time"),
        (("--unique", "--unique-by", "x"), "give one"),
        (("--unique-by", "t.py:nothing"), "--unique-by t.py:nothing"),
    ):
        assert said in zpipe.run("run", "t.py:run", *given, text="a\n", status=2).err
    for given in (("--unique",), ("--cache", "d"), ("--shell", "--cache", "d")):
        assert "a command with {#}" in zpipe.run("run", "--command", "echo {#}", *given, text="a\n", status=2).err
