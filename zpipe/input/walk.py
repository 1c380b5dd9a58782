"""Files that match a pattern, in an order that is the same each time: a job that is gone on with counts on it.

The patterns are those of `glob`, with `**` for any number of folders. Folders are read one at a time, as they are
needed, and their names sorted.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator

__all__ = ["matches"]

_MAGIC = re.compile(r"[*?[]")


def matches(pattern: str, root: str = "") -> Iterator[str]:
    """Yield what matches `pattern`, relative to the folder `root` if the pattern is; what begins with a dot is left
    out unless the pattern has the dot. Folders that can't be read count as empty.
    """
    parts = pattern.split("/")
    start = ""
    while parts and not parts[0]:
        start, parts = start + "/", parts[1:]
    if not parts:
        return
    kept = [part for n, part in enumerate(parts) if part != "**" or parts[n - 1 : n] != ["**"]]
    yield from _below(root, start, kept)


def _below(root: str, prefix: str, parts: list[str]) -> Iterator[str]:
    """Yield what matches `parts` below `prefix`, which is empty or ends with a slash."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _any_depth(root, prefix, parts)
    elif not _MAGIC.search(part):
        path = prefix + part
        if rest:
            yield from _below(root, f"{path}/", rest)
        elif os.path.lexists(os.path.join(root, path)):  # noqa: PTH118 - a Path per file costs more
            yield path
    else:
        wanted = re.compile(fnmatch.translate(part)).match
        for name, is_folder in _names(root, prefix, hidden=part.startswith(".")):
            if wanted(name):
                if not rest:
                    yield prefix + name
                elif is_folder:
                    yield from _below(root, f"{prefix}{name}/", rest)


def _any_depth(root: str, prefix: str, parts: list[str]) -> Iterator[str]:
    rest = parts[1:]
    if rest:
        yield from _below(root, prefix, rest)
    for name, is_folder in _names(root, prefix, hidden=False):
        if not rest:
            yield prefix + name
        if is_folder:
            yield from _any_depth(root, f"{prefix}{name}/", parts)


def _names(root: str, prefix: str, *, hidden: bool) -> list[tuple[str, bool]]:
    """Return the names in a folder, sorted, and whether each is itself a folder, or a link to one."""
    try:
        with os.scandir(os.path.join(root, prefix) or ".") as entries:  # noqa: PTH118
            found = [(entry.name, _is_folder(entry)) for entry in entries if hidden or not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False
