"""What items and tasks are known by: equal ones have equal digests, on any host and on any day.

The rule: a digest may differ where it need not, and then something is run once more; it must not agree where a
function could tell the difference. So 1, 1.0, True and "1" are four items, (1, 2) and [1, 2] two.

An item that is text, a number, bytes, None or a list or dict of such is known by its content, dicts without regard to
their order; a tuple by that of its parts; anything else by its pickle, where a set's order does not count.

A function that is named on the command line is known by its name and the text of the file that has it: a change of
anything in that file makes it another one, a change of what it imports does not.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import msgspec

from zpipe import data
from zpipe.caching import identity
from zpipe.caching.cache import MARK
from zpipe.core.spec import TaskSpec

__all__ = ["SIZE", "content", "digest", "of_task"]

SIZE = 16
"""Bytes of a digest behind those that tell its task."""

_sorted = msgspec.msgpack.Encoder(order="deterministic")


def digest(task: bytes, item: Any) -> bytes | None:
    """Return an item's digest for a task of the identity `task`; None if it has none: it is like no other."""
    try:
        return task[:MARK] + hashlib.blake2b(task + content(item), digest_size=SIZE).digest()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - pickling runs the item's own code
        return None


def content(item: Any) -> bytes:
    """Return what an item is known by. Raises what pickling it raises."""
    kind = type(item)
    if kind is str:
        return b"s" + item.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
    if kind is int:
        return b"i%x" % item if item >= 0 else b"i-%x" % -item
    if kind is bytes:
        return b"b" + item  # type: ignore[no-any-return]
    if kind is tuple:
        return b"t" + b"".join([b"%x:%b" % (len(part), part) for part in map(content, item)])
    if data.is_plain(item, "msgpack"):
        try:
            return b"m" + _sorted.encode(item)
        except (OverflowError, UnicodeEncodeError, TypeError):
            pass
    return b"p" + identity.content(item)


def of_task(spec: TaskSpec) -> bytes:
    """Return the identity of a task that was named on the command line."""
    if spec.kind == "import":
        return identity.hashed([b"import", spec.name.encode(), _text_of(spec.name.rpartition(":")[0])])
    name = spec.name.rpartition(":")[2] if spec.kind == "file" else spec.name
    return identity.hashed([spec.kind.encode(), name.encode(), spec.data, b"%d" % spec.shell])


def _text_of(module: str) -> bytes:
    """Return the text of a module's file, without running it; nothing where there is none here."""
    from importlib.machinery import PathFinder

    path: Any = ["", *sys.path]
    found, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        finders = (PathFinder, *sys.meta_path)  # a checkout that is installed to be edited may have one of its own
        specs = (finder.find_spec(name, path) for finder in finders if hasattr(finder, "find_spec"))
        found = next((spec for spec in specs if spec is not None), None)
        if found is None:
            return b""
        path = found.submodule_search_locations or []
    if found is None or not found.origin:
        return b""
    try:
        with open(found.origin, "rb") as file:
            return file.read()
    except OSError:
        return b""
