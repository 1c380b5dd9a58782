"""Where the results of `zpipe run` go: JSON lines, text, pickles, one folded value; whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
from process.tools import LINUX, Zpipe, records, values, wait_until

FAST = ("--workers", "2", "--quiet")


def test_json_and_its_limits(zpipe: Zpipe) -> None:
    """A record has index, item and value on one line; what JSON has no word for is written the nearest way."""
    node = zpipe.run("run", "jobs:odd_value", "--range", "0:4", "--ordered", *FAST)
    assert node.out.splitlines() == [
        '{"index":0,"item":0,"value":{"nan":null,"bytes":"AP8="}}',
        '{"index":1,"item":1,"value":"line\\none"}',
        '{"index":2,"item":2,"value":["2024-01-31",[1,2]]}',
        '{"index":3,"item":3,"value":null}',
    ]


def test_raw_text(zpipe: Zpipe) -> None:
    """`--raw` writes values as they are, a line each; None and failed items write nothing."""
    for more in (("--raw",), ("--format", "raw")):
        node = zpipe.run("run", "jobs:text_of", "--range", "0:5", "--ordered", *more, "--workers", "2", status=1)
        assert node.raw == b"zero\n1.5\ntwo\n\xff\xfe\n"
        assert "item 4 failed: ValueError: four" in node.err


def test_pickles(zpipe: Zpipe) -> None:
    """`--format pickle` carries any value that can be pickled, one pickle an item, failed ones among them."""
    node = zpipe.run("run", "jobs:pickled_value", "--range", "0:4", "--format", "pickle", *FAST, status=1)
    found: list[dict[str, Any]] = []
    file = io.BytesIO(node.raw)
    while file.tell() < len(node.raw):
        found.append(pickle.load(file))
    found.sort(key=lambda record: record["index"])
    assert [record.get("value") for record in found] == [{1, 2}, 1 + 2j, b"\0" * 300_000, None]
    assert found[3]["error"]["type"] == "TypeError"


def test_in_order_or_as_they_come(zpipe: Zpipe) -> None:
    """Results come as they are done; with `--ordered` in the items' order, however long one takes."""
    job = ("run", "jobs:first_is_slow", "--range", "0:6", "--raw", "--chunk", "1", *FAST)
    node = zpipe.start(*job)
    wait_until(lambda: len(node.out.splitlines()) == 5, "the others")
    (zpipe.folder / "go").touch()
    assert node.ended(0).out.split()[-1] == "0"
    assert zpipe.run(*job, "--ordered").out.split() == ["0", "1", "2", "3", "4", "5"]


def test_reduce(zpipe: Zpipe) -> None:
    """`--reduce` folds all values into the one that is written, beginning with `--initial` if that is given."""
    for more, expected in (
        (("--reduce", "operator:add"), 499_500),
        (("--reduce", "jobs.py:gather", "--initial", "[-1]", "--ordered"), [-1, *range(1000)]),
    ):
        node = zpipe.run("run", "jobs:same", *more, "--range", "0:1000", *FAST)
        assert json.loads(node.out) == expected, more
        assert node.out.count("\n") == 1
        assert node.err == ""
    node = zpipe.run("run", "jobs:same", "--reduce", "operator:add", "--initial", '"nothing"', "--raw", text="")
    assert node.out == "nothing\n"


def test_reduce_leaves_failed_items_out(zpipe: Zpipe) -> None:
    """A failed item is missing from the fold, said on stderr and told by the exit status."""
    job = ("run", "jobs:fail_on_seven", "--reduce", "operator:add", "--range", "0:10", "--output", "sum")
    node = zpipe.run(*job, "--workers", "2", status=1)
    assert (zpipe.folder / "sum").read_text() == "38\n"
    assert "item 7 failed: ValueError: seven is not wanted" in node.err
    assert "jobs.py" in node.err


def test_reduce_to_a_pickle(zpipe: Zpipe) -> None:
    """A folded value that JSON can't carry is written when it is asked for by name."""
    job = ("run", "jobs:same", "--reduce", "jobs:complex_sum", "--range", "0:9", "--output", "sum")
    zpipe.run(*job, "--format", "pickle", *FAST)
    assert pickle.loads((zpipe.folder / "sum").read_bytes()) == 36 + 8j
    (zpipe.folder / "sum").unlink()
    node = zpipe.run(*job, *FAST, status=1)
    assert "can't be written as json" in node.err
    assert "--format pickle" in node.err
    assert not (zpipe.folder / "sum").exists()


def test_a_file_appears_whole(zpipe: Zpipe) -> None:
    """Until the job is done its results stand in a .partial file; then they are there at once, and it is gone."""
    final, partial = zpipe.folder / "results", zpipe.folder / "results.partial"
    final.write_text("of an earlier run\n")
    node = zpipe.piped("run", "jobs:double", "--output", "results", "--workers", "1")
    node.write("one\n")
    wait_until(lambda: partial.exists() and "oneone" in partial.read_text(), "the first result")
    assert final.read_text() == "of an earlier run\n"
    node.write("two\n")
    node.eof().ended(0)
    assert values(final.read_text()) == ["oneone", "twotwo"]
    assert not partial.exists()
    assert node.out == ""


def test_a_run_that_is_killed_leaves_no_final_file(zpipe: Zpipe) -> None:
    """After SIGKILL what was done is in the .partial file, and no process is left; the next run begins anew."""
    final, partial = zpipe.folder / "results", zpipe.folder / "results.partial"
    job = ("run", "jobs:nap", "--output", "results", "--workers", "2", "--chunk", "1")
    node = zpipe.start(*job, "--range", "0:1000000")
    wait_until(lambda: partial.exists() and len(partial.read_text().splitlines()) > 5, "the first results")
    node.kill()
    if LINUX:
        wait_until(lambda: not zpipe.left(), "the end of all that the run had started")
    assert not final.exists()
    assert partial.stat().st_size > 0
    zpipe.run(*job, "--range", "0:4", "--quiet")
    assert values(final.read_text()) == [0, 1, 2, 3]
    assert not partial.exists()


def test_two_runs_with_one_output(zpipe: Zpipe) -> None:
    """The second one is refused while the first is at it."""
    node = zpipe.piped("run", "jobs:double", "--output", "results", "--workers", "1")
    wait_until((zpipe.folder / "results.partial").exists, "the partial file")
    other = zpipe.run("run", "jobs:same", "--range", "0:3", "--output", "results", *FAST, status=2)
    assert "another run is writing it" in other.err
    node.write("one\n")
    node.eof().ended(0)
    assert values((zpipe.folder / "results").read_text()) == ["oneone"]


def test_a_reader_that_goes_away(zpipe: Zpipe) -> None:
    """`zpipe run ... | head -1`: the job ends quietly when nobody reads on."""
    reading, writing = os.pipe()
    with open(reading, "rb") as head:
        try:
            node = zpipe.start("run", "jobs:nap", "--range", "0:1000000", "--workers", "2", popen={"stdout": writing})
        finally:
            os.close(writing)
        assert json.loads(head.readline())["index"] >= 0
    assert node.end() == 1
    assert "Traceback" not in node.err
    assert "Broken" not in node.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_an_answer_that_there_is_no_room_for(zpipe: Zpipe) -> None:
    """Whatever tells something on stdout says so in one line; the job's results are there."""
    job = ("run", "builtins:abs", "--range", "3", "--output", "results", "--raw", "--journal", "done")
    for command in ((*job, "--json", "--quiet"), ("journal", "show", "done")):
        with open("/dev/full", "w") as full:
            node = zpipe.start(*command, popen={"stdout": full}).ended(1)
        assert node.err.startswith("zpipe: can't write standard output: No space left on device; free "), node.err
        assert node.err.count("\n") == 1, node.err
    assert sorted((zpipe.folder / "results").read_text().split()) == ["0", "1", "2"]


def test_results_of_a_run_that_was_stopped_are_kept(zpipe: Zpipe) -> None:
    """An interrupted run names the .partial file on stderr, and it holds whole records only."""
    job = ("run", "jobs:nap", "--output", "results", "--workers", "2", "--range", "0:1000000")
    node = zpipe.start(*job)
    partial = zpipe.folder / "results.partial"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 1000, "the first results")
    node.signal(signal.SIGINT)
    node.ended(130)
    assert f"the results so far are in {partial.name}" in node.err
    assert all(record["item"] == record["value"] for record in records(partial.read_text()))
    assert not (zpipe.folder / "results").exists()
