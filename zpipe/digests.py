"""What items and functions are known by: equal ones have equal digests, on any host and on any day.

The rule: a digest may differ where it need not, and then something is run once more; it must not agree where a
function could tell the difference. So 1, 1.0, True and "1" are four items, (1, 2) and [1, 2] two.

An item that is text, a number, bytes, None or a list or dict of such is known by its content, dicts without regard to
their order; a tuple by that of its parts; anything else by its pickle.

A function that is named on the command line is known by its name and the text of the file that has it: a change of
anything in that file makes it another one, a change of what it imports does not. A function of a script is known by its
bytecode, constants, defaults, closure and bound arguments, and so are the functions and classes of the same module that
it refers to, and what plain data it finds there; of what comes from other modules by the name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import msgspec

from zpipe import data, serialize
from zpipe.core.spec import TaskSpec

__all__ = ["SIZE", "content", "digest", "of_function", "of_task"]

SIZE = 16
"""Bytes of a digest."""

_sorted = msgspec.msgpack.Encoder(order="deterministic")


def digest(identity: bytes, item: Any) -> bytes | None:
    """Return an item's digest for a task of that identity; None if it has none: it is like no other."""
    try:
        return hashlib.blake2b(identity + content(item), digest_size=SIZE).digest()
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
    return b"p" + serialize.dump_whole(item)


def _hash(parts: Iterable[bytes]) -> bytes:
    made = hashlib.blake2b(digest_size=32)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


def of_task(spec: TaskSpec) -> bytes:
    """Return the identity of a task that was named on the command line."""
    if spec.kind == "import":
        return _hash([b"import", spec.name.encode(), _text_of(spec.name.rpartition(":")[0])])
    name = spec.name.rpartition(":")[2] if spec.kind == "file" else spec.name
    return _hash([spec.kind.encode(), name.encode(), spec.data, b"%d" % spec.shell])


def _text_of(module: str) -> bytes:
    """Return the text of a module's file, without running it; nothing where there is none here."""
    from importlib.machinery import PathFinder

    path: Any = ["", *sys.path]
    found = None
    for part in module.split("."):
        found = PathFinder.find_spec(part, path)
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


def of_function(function: Callable[..., Any], call: str) -> bytes:
    """Return the identity of a function that a script calls in this way. Raises what pickling bound arguments does."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return _hash([call.encode(), version.encode(), *_parts(function, set())])


def _parts(thing: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield what tells a callable from others."""
    if id(thing) in seen:
        yield b"again"
        return
    seen.add(id(thing))
    if isinstance(thing, partial):
        yield b"partial"
        yield from _parts(thing.func, seen)
        yield from _bound(thing.args, seen)
        yield from _bound(sorted(thing.keywords.items()), seen)
    elif isinstance(thing, MethodType):
        yield b"method"
        yield from _parts(thing.__func__, seen)
        yield from _bound([thing.__self__], seen)
    elif isinstance(thing, FunctionType):
        yield from _function(thing, seen)
    elif isinstance(thing, type):
        yield from _class(thing, seen)
    elif isinstance(thing, BuiltinFunctionType):
        yield f"{thing.__module__}.{thing.__qualname__}".encode()
        if not isinstance(thing.__self__, ModuleType | None):
            yield from _bound([thing.__self__], seen)
    else:
        yield from _class(type(thing), seen)
        state = getattr(thing, "__dict__", None)
        plain = all(getattr(type(thing), name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))
        yield from _bound(sorted(state.items()) if state and plain else [thing], seen)


def _bound(values: Iterable[Any], seen: set[int]) -> Iterator[bytes]:
    """Yield what arguments, or what a closure holds, are known by."""
    for value in values:
        if callable(value) and isinstance(value, FunctionType | partial | MethodType | type | BuiltinFunctionType):
            yield from _parts(value, seen)
        elif isinstance(value, tuple | list):
            yield b"%b %d" % (type(value).__name__.encode(), len(value))
            yield from _bound(value, seen)
        else:
            yield content(value)


def _function(function: FunctionType, seen: set[int]) -> Iterator[bytes]:
    yield f"{function.__module__}.{function.__qualname__}".encode()
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield from _parts(wrapped, seen)
    yield from _code(function.__code__)
    yield from _bound(function.__defaults__ or (), seen)
    yield from _bound(sorted((function.__kwdefaults__ or {}).items()), seen)
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        yield from _bound([value], seen)
    for name in sorted(set(_names(function.__code__))):
        if name in function.__globals__:
            yield name.encode()
            yield from _global(function.__globals__[name], function.__module__, seen)


def _global(value: Any, module: str, seen: set[int]) -> Iterator[bytes]:
    """Yield what a name of a function's module stands for, if that is of the module itself."""
    if isinstance(value, FunctionType | type):
        if value.__module__ == module:
            yield from _parts(value, seen)
        else:
            yield f"{value.__module__}.{value.__qualname__}".encode()
    elif data.is_plain(value, "msgpack") or type(value) is tuple:
        try:
            yield content(value)
        except Exception:  # noqa: BLE001 - a tuple of what can't be pickled
            yield type(value).__name__.encode()
    else:
        yield (value.__name__ if isinstance(value, ModuleType) else type(value).__qualname__).encode()


def _class(kind: type, seen: set[int]) -> Iterator[bytes]:
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if kind.__module__ == "builtins":
        return
    for base in kind.__bases__:
        if base.__module__ == kind.__module__:
            yield from _parts(base, seen)
    for name, part in sorted(vars(kind).items()):
        found = getattr(part, "__func__", getattr(part, "fget", part))
        if isinstance(found, FunctionType) and found.__module__ == kind.__module__:
            yield name.encode()
            yield from _parts(found, seen)


def _code(code: CodeType) -> Iterator[bytes]:
    """Yield what a function does, without where its lines are."""
    yield code.co_code
    yield " ".join([*code.co_names, *code.co_varnames, *code.co_freevars]).encode()
    yield b"%d %d %d" % (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        elif isinstance(constant, frozenset):
            yield b"".join(sorted(map(content, constant)))
        else:
            yield f"{type(constant).__name__} {constant!r}".encode("utf-8", "surrogatepass")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
