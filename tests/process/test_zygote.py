"""What is forked off for a test is like what it starts anew, as far as a test can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from process.tools import LINUX, Zpipe
from process.zygote import Offspring

TASK = """
import os
import sys

def where(item):
    return os.getcwd(), os.environ["ZPIPE_TEST_WORD"], sys.path[0], sys.modules["__main__"].__spec__.name, item
"""


def test_it_is_as_if_started(zpipe: Zpipe) -> None:
    """Its folder, environment, module path, main module and files are its own, and so is its exit status."""
    (zpipe.folder / "t.py").write_text(TASK)
    found = []
    for anew in (False, True):
        zpipe.anew = anew
        node = zpipe.run("run", "t.py:where", "-w", "0", text="a\n", ZPIPE_TEST_WORD=f"{anew}")
        assert isinstance(node.process, Offspring) == (LINUX and not anew)
        found.append(json.loads(node.out.replace(f"{anew}", "word"))["value"])
        assert zpipe.run("run", "t.py:nothing", "-w", "0", status=2, text="a\n", ZPIPE_TEST_WORD="").out == ""
    here = os.path.realpath(zpipe.folder)
    assert found[0] == found[1] == [here, "word", here, "zpipe.__main__", "a"]


def test_it_is_seen_and_its_end_too(zpipe: Zpipe) -> None:
    """It is found by its test's mark with all that it forks itself, may be waited for, and a signal is told as such."""
    node = zpipe.piped("run", "jobs:pid", "--workers", "1")
    node.write("one\n")
    node.printed("\n")
    if LINUX:
        assert len(zpipe.left()) >= 3
    with pytest.raises(subprocess.TimeoutExpired):
        node.process.wait(0.01)
    node.kill()
    assert node.process.poll() == node.process.returncode == -signal.SIGKILL
    node.process.send_signal(signal.SIGTERM)
