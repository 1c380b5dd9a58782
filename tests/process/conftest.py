"""Every test of real processes gets a folder with the tasks of `jobs.py`, and must leave no process behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from process.tools import Zpipe, wait_until


@pytest.fixture
def zpipe(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Zpipe]:
    """Starts `zpipe` in a folder that has `jobs.py`, as its current one; nothing it started may outlive the test."""
    for name in ("jobs.py", "other_version.py", "forked.py", "evil.py", "impostor.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path / name)
    made = Zpipe(tmp_path)
    try:
        yield made
        for node in made.nodes:
            if node.process.poll() is None:
                node.kill()
        wait_until(lambda: not made.left(), lambda: f"the end of processes {made.left()}", 20.0)
    finally:
        made.close()
