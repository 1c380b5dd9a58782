"""Equal items and tasks have equal digests; where a function could tell the difference they have others."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from zpipe.caching.digests import content, digest, of_task
from zpipe.core.spec import TaskSpec

ODD = [1, 1.0, True, "1", b"1", None, (1, 2), [1, 2], (1, (2,)), ((1,), 2), {"a": 1}, {"a": "1"}, {1, 2}, 2**70, -1, ""]


def test_different_items_have_different_content() -> None:
    """As far as a function could tell."""
    assert len({content(item) for item in ODD}) == len(ODD)


def test_equal_items_have_equal_content() -> None:
    """Whatever order a dict's keys are in, and in another process too."""
    assert content({"a": 1, "b": [2.5]}) == content({"b": [2.5], "a": 1})
    script = "from zpipe.caching.digests import digest; print(digest(b'x', ({'b': 1, 'a': None}, 'ü')).hex())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    made = digest(b"x", ({"a": None, "b": 1}, "ü"))
    assert made is not None
    assert told.strip() == made.hex()


def test_what_can_not_be_pickled_is_like_no_other() -> None:
    """It is run."""
    assert digest(b"x", (item for item in ())) is None


def test_a_task_is_known_by_its_files_text() -> None:
    """Wherever the file is; a command by its template."""
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) == of_task(TaskSpec("file", "/b/t.py:f", b"text"))
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) != of_task(TaskSpec("file", "/a/t.py:f", b"texts"))
    assert of_task(TaskSpec("file", "/a/t.py:f", b"text")) != of_task(TaskSpec("file", "/a/t.py:g", b"text"))
    assert of_task(TaskSpec("command", "a {}")) != of_task(TaskSpec("command", "a {}", shell=True))
    assert of_task(TaskSpec("import", "json:loads")) != of_task(TaskSpec("import", "json:dumps"))


def test_a_module_that_only_a_finder_knows_has_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a package that was installed to be edited: it is another task once that has changed."""
    (tmp_path / "zt_edited").mkdir()
    (tmp_path / "zt_edited" / "__init__.py").touch()

    class Finder:
        """Knows where one package is."""

        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> ModuleSpec | None:
            where = tmp_path / "zt_edited" / "__init__.py"
            return spec_from_file_location(name, where) if name == "zt_edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    seen = set()
    for text in ("one", "two"):
        (tmp_path / "zt_edited" / "tasks.py").write_text(text)
        seen.add(of_task(TaskSpec("import", "zt_edited.tasks:f")))
    assert len(seen) == 2
