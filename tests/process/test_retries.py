"""Items that fail and are tried again, those that are given up, and jobs that end over them."""

from __future__ import annotations

import json

import pytest
from process.tools import LOCAL, Zpipe, records

RETRIES = ("--retries", "3", "--retry-delay", "0.05")


def test_only_failing_items_are_tried_again(zpipe: Zpipe) -> None:
    """They come good, or are dead letters after the last try; the result tells the attempt, the summary the tries."""
    job = ("run", "jobs:flaky", "--range", "100:120", "--chunk", "20", "--workers", "2", "--ordered")
    node = zpipe.run(*job, *RETRIES, "--output", "out", "--dead-letters", "dead", "--json", status=1)
    found = records((zpipe.folder / "out").read_text())
    assert [record["index"] for record in found] == list(range(20))
    assert {record["index"]: record["attempts"] for record in found if "attempts" in record} == {
        3: 3,
        7: 4,
        9: 2,
        13: 3,
    }
    assert [record["index"] for record in found if "error" in record] == [7, 8]
    told = json.loads(node.out)
    assert (told["done"], told["failed"], told["retried"]) == (20, 2, 8)


def test_dead_letters_can_be_run_again(zpipe: Zpipe) -> None:
    """A dead letter has the item, its error, its attempts and its worker; another run takes the items from there."""
    zpipe.run("run", "jobs:flaky", *RETRIES, "--output", "out", "--dead-letters", "dead", text="7\n" * 9, status=1)
    letters = [json.loads(line) for line in (zpipe.folder / "dead").read_text().splitlines()]
    by_index = {letter["index"]: letter for letter in letters}
    assert sorted(by_index) == [7, 8]
    assert (by_index[7]["item"], by_index[7]["attempts"], by_index[7]["error"]["type"]) == ("7", 4, "KeyError")
    assert "slot" in by_index[7]["worker"]
    assert "raise KeyError" in by_index[7]["error"]["traceback"]
    assert (by_index[8]["attempts"], by_index[8]["error"]["message"]) == (1, "not this one")
    node = zpipe.run("run", "builtins:int", "--resubmit", "dead", "--raw")
    assert node.out == "7\n7\n"


LETTERS = '{"item": 1}\n[2]\n{"item": null}\n{"item": 4, "stage": 2}\n'


def test_what_is_no_dead_letter_fails_alone(zpipe: Zpipe) -> None:
    """A line of another kind in a file of dead letters is told, and the others are run."""
    node = zpipe.run("run", "jobs:same", "--resubmit", "-", text=LETTERS, status=1)
    found = records(node.out)
    assert [record.get("value", "none") for record in found] == [1, "none", None, "none"]
    assert "line 2 is no dead letter" in found[1]["error"]["message"]
    assert "line 4 is of stage 2: give the stages" in found[3]["error"]["message"]


def test_three_processes_retry_and_keep_dead_letters(zpipe: Zpipe) -> None:
    """The ventilator's retries and the sink's dead letters reach workers elsewhere."""
    ventilator = zpipe.start("ventilator", "jobs:flaky", "--range", "0:20", *RETRIES, "--bind", f"{LOCAL}:0")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--output", "out", "--dead-letters", "dead")
    worker = zpipe.start("worker", url, "--slots", "2")
    for node, status in ((ventilator, 1), (sink, 1), (worker, 0)):
        node.ended(status)
    assert [record["index"] for record in records((zpipe.folder / "out").read_text())] == list(range(20))
    assert len((zpipe.folder / "dead").read_text().splitlines()) == 2


def test_retries_for_some_exceptions_only(zpipe: Zpipe) -> None:
    """With --retry-on others are not tried again."""
    job = ("run", "jobs:flaky", "--range", "0:20", *RETRIES, "--retry-on", "LookupError")
    found = records(zpipe.run(*job, status=1).out)
    assert [record["index"] for record in found if "error" in record] == [3, 7, 8, 13]
    assert {record["index"]: record["attempts"] for record in found if "attempts" in record} == {7: 4, 9: 2}


def test_a_job_is_halted_by_failures(zpipe: Zpipe) -> None:
    """It ends long before its endless source does, and says why."""
    for when, status in (("now,fail=2", 1), ("soon,fail=20%", 1)):
        node = zpipe.run("run", "jobs:fail", "--range", "0:1000000000", "--halt", when, status=status)
        assert "halted: " in node.err
        assert "items have failed" in node.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--halt", "later"), "--halt 'later' can't be read; write never, soon,fail=3"),
        (("--halt", "now,fail=0"), "can't be read"),
        (("--resubmit", "none"), "none"),
        (("--resubmit", "a", "--range", "3"), "both sources"),
        (("--dead-letters", "/no/folder/x"), "/no/folder/x"),
        (("--output", "x", "--dead-letters", "x"), "is where the results go"),
    ],
)
def test_bad_options_are_told(zpipe: Zpipe, args: tuple[str, ...], said: str) -> None:
    """What can't be is refused with status 2 before anything is run."""
    source = () if "--resubmit" in args else ("--range", "3")
    assert said in zpipe.run("run", "jobs:same", *source, *args, status=2).err
