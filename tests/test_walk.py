"""Files by pattern, in one order: the same as `glob` finds, each once."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from zpipe.input.walk import matches

PATTERNS = [
    "*", "**", "*.txt", "**/*.txt", "sub/*", "sub/**", "sub/**/*.txt", "*/*/*", ".*", ".git/*", "**/.*", "[ab].*",
    "su?/c.txt", "sub", "sub/", "sub/../a.txt", "./*.txt", "nothing*", "nothing/*", "a.txt/*", "sub/deep/**/d.txt",
    "lnk/*", "**/deep/*", "a**",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files, folders, hidden ones, a link to a folder, a dead link, and a link in a circle."""
    for name in ("a.txt", "b.csv", "sub/c.txt", "sub/deep/d.txt", "sub/deep/x/e.txt", ".hidden.txt", ".git/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "dead.txt").symlink_to("nowhere")
    (tmp_path / "lnk").symlink_to("sub/deep")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


def files(tree: Path, paths: list[str]) -> list[str]:
    """Those that are files."""
    return [path for path in paths if (tree / path).is_file()]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_finds_what_glob_finds(tree: Path, pattern: str) -> None:
    """The same files, relative to a root and absolute."""
    found = files(tree, list(matches(pattern, str(tree))))
    assert sorted(found) == sorted(files(tree, glob.glob(pattern, root_dir=tree, recursive=True)))
    whole = [os.path.join(tree, path) for path in found]
    assert files(tree, list(matches(f"{tree}/{pattern}"))) == whole


def test_names_come_sorted_folder_by_folder(tree: Path) -> None:
    """The order is not the file system's: the job that is gone on with must find the same items."""
    for n in (30, 7, 100, 21):
        (tree / f"n{n}").write_text("x")
    assert list(matches("n*", str(tree))) == ["n100", "n21", "n30", "n7"]
    assert files(tree, list(matches("**/*.txt", str(tree)))) == [
        "a.txt", "lnk/d.txt", "lnk/x/e.txt", "sub/c.txt", "sub/deep/d.txt", "sub/deep/x/e.txt",
    ]  # fmt: skip


def test_stars_in_a_row_find_nothing_twice(tree: Path) -> None:
    """`**/**` is any depth, too."""
    assert list(matches("**/**/c.txt", str(tree))) == ["sub/c.txt"]


def test_what_is_no_pattern_finds_nothing(tree: Path) -> None:
    """Neither the root of the file system nor what can't be read."""
    assert list(matches("/")) == []
    (tree / "sub").chmod(0)
    try:
        assert os.getuid() == 0 or list(matches("sub/*", str(tree))) == []
    finally:
        (tree / "sub").chmod(0o755)
