"""`--first` and `--until`: a job that ends as soon as a result satisfies it."""

from __future__ import annotations

import json

from process.tools import LOCAL, Zpipe, records, wait_until

FAST = ("--workers", "2", "--quiet")
SEARCH = ("run", "jobs:square_if_found", "--range", "0:1000000000")


def test_first_writes_the_one_result_and_stops(zpipe: Zpipe) -> None:
    """Of a search that would take for ever the first hit is the output, and the only one; the status is 0."""
    for more in ((), ("--ordered",)):
        node = zpipe.run(*SEARCH, "--first", *more, *FAST)
        assert [json.loads(line) for line in node.out.splitlines()] == [
            {"index": 20_000, "item": 20_000, "value": 400_000_000}
        ], more


def test_until_writes_what_came_before_too(zpipe: Zpipe) -> None:
    """`--until` ends the job at the first result it is true of; in order, all before that one are in the output."""
    job = ("run", "jobs:same", "--range", "0:1000000000", "--until", "jobs:is_5000", *FAST)
    found = [record["value"] for record in records(zpipe.run(*job).out)]
    assert 5000 in found
    assert len(found) == len(set(found))
    node = zpipe.run(*job, "--ordered")
    assert [json.loads(line)["value"] for line in node.out.splitlines()] == list(range(5001))


def test_first_with_until(zpipe: Zpipe) -> None:
    """Together they write the one result that the predicate is true of, and `--reduce` folds that one."""
    job = ("run", "jobs:same", "--range", "0:1000000000", "--first", "--until", "jobs.py:is_5000", *FAST)
    assert zpipe.run(*job, "--raw").out == "5000\n"
    assert zpipe.run(*job, "--reduce", "operator:add", "--initial", "1").out == "5001\n"


def test_in_order_the_first_is_the_first_of_the_input(zpipe: Zpipe) -> None:
    """With `--ordered` a hit that is done earlier does not beat one that stands earlier in the input."""
    job = ("run", "jobs:late_hit", "--range", "0:6", "--first", "--chunk", "1", "--raw", *FAST)
    node = zpipe.start(*job, "--ordered")
    wait_until(lambda: 3 in zpipe.noted(), "the other hit")
    (zpipe.folder / "go").touch()
    assert node.ended(0).out == "hit 0\n"
    (zpipe.folder / "go").unlink()
    node = zpipe.start(*job)
    node.printed("hit 3\n")
    (zpipe.folder / "go").touch()
    assert node.ended(0).out == "hit 3\n"


def test_a_hit_just_before_the_end_of_the_source(zpipe: Zpipe) -> None:
    """A hit ends the job in order while the last chunk of the source is about to go out."""
    job = ("run", "jobs:same", "--first", "--chunk", "1", "--workers", "1", "--raw")
    for items in ("1:3", "0:3"):
        node = zpipe.run(*job, "--range", items)
        assert node.out == "1\n", items


def test_over_three_processes(zpipe: Zpipe) -> None:
    """The sink writes the hit, tells the ventilator, and all of them end well."""
    ventilator = zpipe.start("ventilator", *SEARCH[1:], "--first", "--bind", f"{LOCAL}:0", "--json")
    url = ventilator.url()
    sink = zpipe.start("sink", url, "--bind", f"{LOCAL}:0", "--raw")
    worker = zpipe.start("worker", url, "--slots", "2")
    for node in (ventilator, sink, worker):
        node.ended(0)
    assert sink.out == "400000000\n"
    assert json.loads(ventilator.out)["hit"] == 20_000


def test_what_is_queued_is_dropped(zpipe: Zpipe) -> None:
    """Once there is a hit no further chunk is begun, and the summary says which item ended the job."""
    job = ("run", "jobs:noted_slow", "--range", "0:400", "--until", "jobs:is_1", "--chunk", "1", "--workers", "2")
    node = zpipe.run(*job, "--ordered", "--json")
    assert json.loads(node.err.splitlines()[-1])["hit"] == 1
    assert len(zpipe.noted()) < 300


def test_a_search_that_finds_nothing(zpipe: Zpipe) -> None:
    """Without a hit the job runs to its end and writes nothing, and that is no failure."""
    node = zpipe.run("run", "jobs:square_if_found", "--range", "0:5000", "--first", "--workers", "2")
    assert node.out == ""
    assert node.err.splitlines()[-1].startswith("zpipe: 5,000 items done")


def test_failures_before_the_hit(zpipe: Zpipe) -> None:
    """Items that fail do not stop the search; they are counted, and the status is 1."""
    job = ("run", "jobs:fail_on_seven", "--range", "0:1000000000", "--first", "--until", "jobs:is_5000", "--ordered")
    node = zpipe.run(*job, "--raw", "--workers", "2", status=1)
    assert node.out == "5000\n"
    assert "item 7 failed" in node.err


def test_until_that_raises(zpipe: Zpipe) -> None:
    """A predicate that raises fails its item alone."""
    node = zpipe.run("run", "jobs:same", "--range", "0:3", "--until", "jobs:no_predicate", *FAST, status=1)
    assert {record["error"]["message"] for record in records(node.out)} == {"a predicate that raises"}
