"""Jobs whose disk is full, a real one: an error that names the file, nothing torn, and the job goes on with room."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from process.tools import LOCAL, Zpipe, free_port, wait_until

ITEMS = 6000
ALL = [f"{n:0400}" for n in range(ITEMS)]
"""2.4 MB of results."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system to be had here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def grow(disk: Path) -> None:
    """Make room."""
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def items_of(zpipe: Zpipe) -> str:
    (zpipe.folder / "items").write_text("".join(f"{line}\n" for line in ALL))
    return "items"


@pytest.mark.parametrize("on_it", ["journal", "output", "both"])
def test_a_run(zpipe: Zpipe, disk: Path, on_it: str) -> None:
    """Whether the journal is on it, with all results in it, or the output, or both: the same command finishes it."""
    job = ["run", "jobs:same", "--input", items_of(zpipe), "--workers", "2", "--quiet", "--raw"]
    job += ["--journal", "j" if on_it == "output" else f"{disk}/j"]
    if on_it != "journal":
        job += ["-o", f"{disk}/out"]
    node = zpipe.start(*job).ended(1)
    assert "Traceback" not in node.err
    named = {"journal": "the journal ", "output": "", "both": "(the journal )?"}[on_it]  # whichever is full first
    assert re.search(f"can't write {named}{disk}", node.err)
    assert "free some space there" in node.err
    assert "zpipe resume" in node.err
    wait_until(lambda: not zpipe.left(), "the end of its workers")
    journal = job[job.index("--journal") + 1]
    if on_it == "output":  # else there is no room to look
        assert json.loads(zpipe.run("journal", "show", "--json", journal).out)["done"] < ITEMS
    assert not (disk / "out").exists()
    again = zpipe.start(*job).ended(1)
    assert "Traceback" not in again.err, "still full"
    grow(disk)
    node = zpipe.run(*job)
    found = node.out if on_it == "journal" else (disk / "out").read_text()
    assert sorted(found.split()) == ALL


def test_a_sink_of_its_own(zpipe: Zpipe, disk: Path) -> None:
    """The sink says what is wrong, and so does the ventilator; all go home, and come back to finish it."""
    url = f"{LOCAL}:{free_port()}"
    items_of(zpipe)
    for status in (1, 0):
        ventilator = zpipe.start("ventilator", "jobs:same", "--input", "items", "--bind", url)
        ventilator.said("listening")
        at = ("--bind", f"{LOCAL}:0")
        sink = zpipe.start("sink", url, *at, "--journal", disk / "j", "--raw", "-o", disk / "out")
        worker = zpipe.start("worker", url, "--slots", "2")
        sink.ended(status)
        ventilator.ended(status)
        worker.end()
        if status:
            for node in (sink, ventilator):
                assert re.search(f"can't write (the journal )?{disk}/", node.err)
            grow(disk)
    assert sorted((disk / "out").read_text().split()) == ALL
