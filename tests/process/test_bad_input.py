"""Wrong usage and bad input: each gets one clear message and the right exit status, and nothing of zpipe's own insides.

Status 2: nothing was run. Status 1: an item failed, or the job did; what was done is kept.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from process.tools import LOCAL, Zpipe, free_port, records, values

FAST = ("--workers", "2", "--quiet")

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

USAGE = [
    # task
    ((), "nothing to run: give TASK or --command"),
    (("jobs:same", "--command", "echo {}"), "TASK and --command are both given; give one"),
    (("jobs:same", "--shell"), "--shell goes with --command"),
    (("jobs:same,workers=1", "--range", "3"), "settings stand behind a task only where there are further ones"),
    (("jobs",), "names no function: write module:function or path/file.py:function"),
    (("missing.py:task",), "missing.py"),
    (("job.py:same",), "did you mean 'jobs.py'?"),
    (("jobs.py:sane",), "did you mean 'same'?"),
    (("broken.py:task",), "broken.py isn't valid Python: "),
    (("--command", "echo 'unclosed"), "can't be split into arguments"),
    (("--command", "if {}", "--shell"), "the shell can't read the command"),
    (("--command", ""), "is no command"),
    (("--command", "echo \udcff"), "has bytes that are no UTF-8, and can't be sent to workers"),
    (("jobs:same", "--range", "0:3", "--journal", "-"), "is where results go"),
    (("jobs:same", "--range", "0:3", "--journal", "o.partial", "--output", "o"), "is where results go"),
    (("jobs:same", "--range", "0:3", "--journal", "/dev/null"), "/dev/null is no regular file"),
    (("jobs:same", "--range", "0:3", "--journal", "j\udcff"), "can't hold the name 'j\\udcff'"),
    # source
    (("jobs:same", "--input", "nowhere.txt"), "can't read items from nowhere.txt: No such file or directory"),
    (("jobs:same", "--input", "."), "Is a directory: name a file of lines"),
    (("jobs:same", "--input", "jobs.py", "--range", "0:3"), "--input and --range are both sources of items"),
    (("jobs:same", "--range", "0:3", "--jsonl"), "they don't go with --range"),
    (("jobs:same", "--range", "1:2:0"), "is not START:STOP[:STEP]"),
    (("jobs:same", "--range", "a:b"), "is not START:STOP[:STEP]"),
    (("jobs:same", "--source", "nowhere:items"), "can't read items from nowhere:items: no module 'nowhere'"),
    (("jobs:same", "--source", "jobs:sane"), "did you mean 'same'?"),
    (("jobs:same", "--source", "jobs:same"), "it is called without arguments"),
    (("jobs:same", "--range", "0:3", "--encoding", "utf-88"), "--encoding 'utf-88' is not known"),
    # output
    (("jobs:same", "--range", "0:3", "--output", "no/such/out"), "can't write no/such/out: No such file or directory"),
    (("jobs:same", "--range", "0:3", "--output", "folder"), "can't write folder"),
    (("jobs:same", "--range", "0:3", "--raw", "--format", "pickle"), "--raw and --format pickle are both given"),
    (("jobs:same", "--range", "0:3", "--reduce", "operator:ad"), "did you mean 'add'"),
    (("jobs:same", "--range", "0:3", "--reduce", "nowhere:add"), "no module 'nowhere'"),
    (("jobs:same", "--range", "0:3", "--reduce", "jobs:WORDS"), "jobs:WORDS is no function"),
    (("jobs:same", "--range", "0:3", "--initial", "1"), "--initial goes with --reduce"),
    (("jobs:same", "--range", "0:3", "--reduce", "operator:add", "--initial", "{"), "--initial '{' is not JSON"),
    (("jobs:same", "--range", "0:3", "--output", "out", "--dead-letters", "no/such"), "can't write no/such"),
    (("jobs:same", "--range", "0:3", "--output", "out", "--joblog", "out"), "is where results go"),
    (("jobs:same", "--range", "0:3", "--output", "out", "--cache", "no/such"), "there is no folder no"),
    # addresses and sizes
    (("jobs:same", "--range", "0:3", "--bind", "tcp://0.0.0.0:0"), "or add --insecure"),
    (("jobs:same", "--range", "0:3", "--bind", "tcp://*:0"), "or add --insecure"),
    (("jobs:same", "--range", "0:3", "--bind", "udp://127.0.0.1:1"), "the scheme 'udp' is not known"),
    (("jobs:same", "--range", "0:3", "--bind", "tcp://127.0.0.1:99999"), "the port must be a number"),
    (("jobs:same", "--range", "0:3", "--bind", "tcp://192.0.2.1:5557", "--insecure"), "is no address of this host"),
    (("jobs:same", "--range", "0:3", "--bind", "ipc://no/such/folder/x"), "there is no folder"),
    (("jobs:same", "--range", "0:3", "--workers", "0", "--max-memory", "1G"), "--max-memory and --workers 0"),
    (("jobs:same", "--range", "0:3", "--workers", "-1"), "-1"),
    (("jobs:same", "--range", "0:3", "--max-result", "lots"), "'lots' is no size"),
    (("jobs:same", "--range", "0:3", "--lane-ports", "9-1"), "'9-1' is no range of ports"),
    (("jobs:same", "--range", "0:3", "--chunk", "0"), "0"),
]


def test_wrong_usage(zpipe: Zpipe) -> None:
    """What can't be is refused before anything is run, with status 2 and one message that names it."""
    (zpipe.folder / "folder").mkdir()
    (zpipe.folder / "broken.py").write_text("def task(item:\n    return item\n")
    _refused(zpipe, [(("run", *args), said) for args, said in USAGE])
    assert not list(zpipe.folder.rglob("out*"))


def _refused(zpipe: Zpipe, cases: list[tuple[tuple[str, ...], str]]) -> None:
    """Assert that each of these commands says this, and little else, and that it runs nothing."""
    for (args, said), (status, out, err) in zip(cases, zpipe.forked(*(args for args, _ in cases)), strict=True):
        assert status == 2, (args, err)
        assert said in err, args
        assert "Traceback" not in err, args
        assert len(err.splitlines()) <= 4, args
        assert out == "", args


@pytest.mark.skipif(ROOT, reason="root may write and read everything")
def test_what_may_not_be_read_or_written(zpipe: Zpipe) -> None:
    """A file without permission is named, with status 2."""
    (zpipe.folder / "secret").touch(0)
    (zpipe.folder / "locked").mkdir(0o500)
    node = zpipe.run("run", "jobs:same", "--input", "secret", *FAST, status=2)
    assert "can't read items from secret: Permission denied" in node.err
    node = zpipe.run("run", "jobs:same", "--range", "0:3", "--output", "locked/out", *FAST, status=2)
    assert "can't write locked/out: Permission denied" in node.err


def test_a_task_that_workers_cannot_load(zpipe: Zpipe) -> None:
    """A module that is missing, raises at import or lacks the name ends the job with status 2 and the reason."""
    (zpipe.folder / "raises.py").write_text("raise RuntimeError('at import')\n")
    for task, said in (
        ("nowhere_to_be:found", "no module 'nowhere_to_be' on this host"),
        ("jobs:sane", "jobs has no 'sane'; did you mean 'same'?"),
        ("raises:task", "raises can't be imported: RuntimeError: at import, at "),
    ):
        node = zpipe.run("run", task, "--range", "0:5", "--workers", "2", status=2)
        assert said in node.err, task
        assert node.err.count(said) <= 2, task
        assert "Traceback" not in node.err
        assert node.out == ""
    node = zpipe.run("run", "--command", "no-such-program {}", "--range", "0:5", "--workers", "2", status=2)
    assert "no program 'no-such-program' on this worker's PATH" in node.err


def test_addresses_in_use(zpipe: Zpipe) -> None:
    """An address that another process has is named by all that bind; one that a dead process left behind is free."""
    left_behind = "ipc://control"
    first = zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", left_behind)
    first.said("listening")
    nowhere = f"{LOCAL}:{free_port()}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases: list[tuple[tuple[str, ...], str]] = []
        for url in (f"{LOCAL}:{taken.getsockname()[1]}", left_behind):
            job = ("jobs:same", "--range", "0:3", "--bind", url)
            said = f"{url} is in use by another process"
            cases += [(("ventilator", *job), said), (("run", *job), said), (("sink", nowhere, "--bind", url), said)]
        _refused(zpipe, cases)
    assert first.process.poll() is None
    first.kill()
    zpipe.start("ventilator", "jobs:same", "--range", "0:3", "--bind", left_behind).said("listening")


def test_only_loopback_without_keys(zpipe: Zpipe) -> None:
    """Ventilator, run and sink refuse to bind what others can reach unless --insecure is given by name."""
    said = "would let anybody on the network send this job pickles"
    job = ("jobs:same", "--range", "0:3", "--bind", "tcp://0.0.0.0:0")
    sink = ("sink", f"{LOCAL}:{free_port()}", "--bind", "tcp://0.0.0.0:0")
    _refused(zpipe, [(("ventilator", *job), said), (("run", *job), said), (sink, said), (sink, "add --insecure")])
    node = zpipe.start("ventilator", *job, "--insecure")
    node.said("listening; start a sink with: zpipe sink tcp://")


def test_addresses_that_are_none(zpipe: Zpipe) -> None:
    """Worker and sink say what is wrong with an address, or with one that is missing."""
    cases: list[tuple[tuple[str, ...], str]] = []
    for command in ("worker", "sink"):
        cases += [
            ((command,), "Missing argument 'URL'"),
            ((command, "http://x:1"), "the scheme 'http' is not known"),
            ((command, "tcp://:5"), "is no address"),
            ((command, "ipc://"), "has no path"),
        ]
    _refused(zpipe, cases)


def test_a_host_that_does_not_exist(zpipe: Zpipe) -> None:
    """A name that can't be resolved is not worth a traceback; the node gives up when it is told to."""
    for command, more in (("worker", ("--slots", "1")), ("sink", ("--bind", f"{LOCAL}:0"))):
        node = zpipe.run(command, "tcp://no-such-host.invalid:5557", "--connect-timeout", "0.5", *more, status=1)
        assert "no ventilator answered at tcp://no-such-host.invalid:5557" in node.err
        assert "Traceback" not in node.err


def test_results_that_cannot_be_written(zpipe: Zpipe) -> None:
    """A value that JSON can't hold, or that can't be pickled, fails its item alone, and the message says what to do."""
    node = zpipe.run("run", "jobs:object_at_2", "--range", "0:5", "--chunk", "5", "--workers", "1", status=1)
    found = records(node.out)
    assert [record.get("value") for record in found] == [0, 1, None, 3, 4]
    assert "can't be written as JSON" in found[2]["error"]["message"]
    assert "--format pickle" in node.err
    job = ("run", "jobs:lock_at_2", "--range", "0:5", "--reduce", "operator:add", "--chunk", "5")
    node = zpipe.run(*job, "--workers", "1", status=1)
    assert node.out == "8\n"
    assert "item 2 failed" in node.err
    assert "can't be pickled" in node.err


def test_a_result_that_is_too_large(zpipe: Zpipe) -> None:
    """A result over `--max-result` fails its item alone, and the message has both sizes."""
    for more in ((), ("--reduce", "jobs:longer_text")):
        job = ("run", "jobs:large_at_2", "--range", "0:4", "--max-result", "1k", "--chunk", "4", "--output", "out")
        node = zpipe.run(*job, *more, "--workers", "1", "--json", status=1)
        told = json.loads(node.out)
        assert (told["done"], told["failed"]) == (4, 1), more
        assert "the result of item 2 is 4.9 KB, over the limit of 1.0 KB" in node.err, more
        assert "raise --max-result" in node.err
        assert (zpipe.folder / "out").stat().st_size < 2000


def test_lines_that_are_not_what_they_should_be(zpipe: Zpipe) -> None:
    """A line that isn't UTF-8, or isn't JSON, fails alone and is named by its number."""
    node = zpipe.run("run", "jobs:same", "--chunk", "3", "--workers", "1", text=b"one\ncaf\xe9\nthree\n", status=1)
    found = records(node.out)
    assert [record.get("value") for record in found] == ["one", None, "three"]
    assert "isn't utf-8: byte 0xe9 at position 3; give the file's encoding" in found[1]["error"]["message"]
    assert "item 1 failed" in node.err
    node = zpipe.run("run", "jobs:same", "--jsonl", "--workers", "1", text='{"a": 1}\n{"a": \n[2]\n', status=1)
    found = records(node.out)
    assert [record.get("value") for record in found] == [{"a": 1}, None, [2]]
    assert "item 1 isn't JSON" in found[1]["error"]["message"]


def test_a_reducer_that_raises(zpipe: Zpipe) -> None:
    """It ends the job with status 1, its name, and where in the user's code it was; there is no output."""
    job = ("run", "jobs:same", "--range", "0:100000000", "--reduce", "jobs:bad_reducer", "--output", "out")
    node = zpipe.run(*job, "--workers", "2", status=1)
    assert "the reducer bad_reducer raised ValueError: no more" in node.err
    assert "jobs.py" in node.err
    assert "zpipe/output/outputs.py" not in node.err
    assert not list(zpipe.folder.glob("out*"))
    node = zpipe.run("run", "jobs:same", "--range", "0:0", "--reduce", "operator:add", *FAST, status=1)
    assert "nothing to fold: no item gave a value; give an initial value (--initial)" in node.err


def test_a_source_that_fails_part_way(zpipe: Zpipe) -> None:
    """What came before is done and kept; the error names the source, its item and the line, with status 1."""
    node = zpipe.run(
        "run", "jobs:same", "--source", "jobs:broken_source", "--output", "out", "--workers", "2", status=1
    )
    assert "jobs:broken_source failed at item 3: OSError: the source broke" in node.err
    assert "jobs.py" in node.err
    assert "zpipe/input/feeder.py" not in node.err
    assert values((zpipe.folder / "out.partial").read_text()) == [0, 1, 2]
    assert not (zpipe.folder / "out").exists()
    node = zpipe.run("run", "jobs:same", "--source", "jobs:odd_source", *FAST, status=1)
    assert values(node.out) == [0, 1]
    assert "jobs:odd_source: item 2, of type generator, can't be sent to a worker" in node.err


def test_a_source_that_is_no_source(zpipe: Zpipe) -> None:
    """A function that raises at once or returns nothing to iterate is told, with status 1."""
    for source, said in (
        ("jobs:raising_source", "jobs:raising_source failed at item 0: RuntimeError: no items today"),
        ("jobs:number_source", "it returned int, which is not iterable; return or yield the items"),
    ):
        node = zpipe.run("run", "jobs:same", "--source", source, "--workers", "1", status=1)
        assert said in node.err
        assert node.out == ""


def test_a_terminal_is_no_source(zpipe: Zpipe) -> None:
    """Nobody has to guess that items are to be typed: without a source and without a pipe the status is 2."""
    ours, theirs = os.openpty()
    try:
        node = zpipe.start("run", "jobs:same", popen={"stdin": theirs}).ended(2)
        assert (
            "no items: give --input FILE, --range, --glob, --source or --resubmit, or pipe lines into stdin" in node.err
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_output_that_fills_up(zpipe: Zpipe) -> None:
    """A device that is full ends the job with status 1 and is named."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    node = zpipe.run("run", "jobs:same", "--range", "0:100000000", "--output", "/dev/full", "--workers", "2", status=1)
    assert "can't write /dev/full: No space left on device" in node.err
    assert "Traceback" not in node.err
