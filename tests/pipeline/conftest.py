"""A pipeline that the tests of a file share, and the check that no test leaves a process behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process import supervisors
from process.tools import MARK, PATIENCE, Node, Zpipe, marked, wait_until

import zpipe


@pytest.fixture(scope="module", autouse=True)
def mark() -> Iterator[str]:
    """Marks all processes that the file's tests start; none of them may outlive it."""
    text = uuid.uuid4().hex
    os.environ[MARK] = text
    with supervisors.forked():
        yield text
    del os.environ[MARK]
    wait_until(lambda: not marked(text), lambda: f"the end of processes {marked(text)}", PATIENCE)


@pytest.fixture(scope="module")
def pipe(mark: str) -> Iterator[zpipe.Pipeline]:
    """Two local workers, for every test that does not change them."""
    with zpipe.Pipeline(workers=2) as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """A file that `chores.held` waits for. It is there once the test is over, whatever became of it."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Zpipe]:
    """Starts other processes in a folder of the test's own."""
    made = Zpipe(tmp_path)
    try:
        yield made
        wait_until(lambda: not made.left(), lambda: f"the end of processes {made.left()}", PATIENCE)
    finally:
        made.close()


@pytest.fixture
def script(nodes: Zpipe) -> Callable[[str], Node]:
    """Starts a script, as a user would, from its text."""

    def start(text: str) -> Node:
        path = nodes.folder / f"script{len(nodes.nodes)}.py"
        path.write_text(text)
        return nodes.python(path.name)

    return start
