"""What a script's function is known by: all that makes it do what it does, as far as that is the script's own.

A function is known by its bytecode, constants, defaults, closure and attributes, by what is bound to it, and by all of
its own module that it refers to: functions and classes by the same, whatever else it finds there by its content. Own
is also what a function is bound to or closes over, wherever it is from, but for Python's library and installed
packages. Everything else is known by its name, and what can't be pickled by its type.

The rule: two that differ may have one identity only in what they import. One may have two, and is then run once more.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import msgspec

from zpipe import data, serialize

__all__ = ["content", "hashed", "of_function"]

_SKIPPED = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"}
    | {"__slotnames__", "__annotations_cache__", "_abc_impl"}
)
"""What a class has that is the same for all, tells nothing of what it does, or is made while a program runs."""

_SIMPLE = frozenset({int, float, bool, bytes, type(None), tuple, list, dict})

_sorted = msgspec.msgpack.Encoder(order="deterministic")


def hashed(parts: Iterable[bytes]) -> bytes:
    """Return a hash of parts, each of which counts, and where it ends."""
    made = hashlib.blake2b(digest_size=32)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


def of_function(function: Callable[..., Any], call: str) -> bytes:
    """Return the identity of a function that a script calls in this way. Raises what looking at it raises."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return hashed([call.encode(), version.encode(), *_Look().bound(function)])


def content(item: Any) -> bytes:
    """Return what an item is known by that is more than plain data. Raises what pickling it raises."""
    return serialize.dump_compared(item, _stand_in_of_item, lambda _: NotImplemented)


def _stand_in_of_item(thing: Any) -> Any:
    if isinstance(thing, type):
        found = _classes.get(thing)
        if found is None:
            found = _classes[thing] = _Look(serialize.MAIN).stand_in(thing)
        return found
    return _Look(serialize.MAIN).stand_in(thing)


_classes: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()
"""What items' classes are known by."""


def _is_library(module: str | None) -> bool:
    """Tell whether a module is Python's, or was installed."""
    name = module or "builtins"
    if name.partition(".")[0] in sys.stdlib_module_names:  # `__main__` is none
        return True
    path = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" in path or "dist-packages" in path


def _is_named(thing: FunctionType | type) -> bool:
    """Tell whether something is what its module has under its name."""
    found: Any = sys.modules.get(thing.__module__ or "")
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing


class _Look:
    """One look at a function. `own` are the modules whose functions and classes are known by more than their names."""

    def __init__(self, own: Iterable[str] = ()) -> None:
        self._own = set(own)
        self._seen: dict[int, tuple[Any, int]] = {}
        self._bound = False
        """Whether what is looked at now is bound, so that all that is no library is its own."""

    def bound(self, thing: Any) -> Iterator[bytes]:
        """Yield what tells something that a function holds, or the function itself, from others."""
        if isinstance(thing, partial) and type(thing) is partial:
            yield b"partial"
            yield from self.bound(thing.func)
            yield from self._all(thing.args)
            yield from self._all(sorted(thing.keywords.items()))
        elif isinstance(thing, MethodType):
            yield b"method"
            yield from self.bound(thing.__func__)
            yield from self.bound(thing.__self__)
        elif type(thing) in (tuple, list):
            yield type(thing).__name__.encode()
            yield from self._all(thing)
        elif isinstance(thing, FunctionType | type):
            yield from self._known(thing, own=True)
        else:
            yield self._value(thing, bound=True)

    def _all(self, things: Iterable[Any]) -> Iterator[bytes]:
        things = list(things)
        yield b"%d" % len(things)
        for thing in things:
            yield from self.bound(thing)

    def _value(self, value: Any, *, bound: bool) -> bytes:
        """Return what tells a value from others."""
        if data.is_plain(value, "msgpack"):
            try:
                return b"m" + _sorted.encode(value)
            except (OverflowError, UnicodeEncodeError, TypeError):
                pass
        before, self._bound = self._bound, bound
        try:
            return b"p" + serialize.dump_compared(value, self.stand_in, _reduced)
        finally:
            self._bound = before

    def stand_in(self, thing: Any) -> Any:
        """Return what stands for a part of a value where that is compared; None: it is pickled."""
        kind = type(thing)
        if kind is str:  # two that are equal would be told from one that is there twice
            return b"s" + thing.encode("utf-8", "surrogatepass")
        if kind in _SIMPLE:
            return None
        if kind is set or kind is frozenset:
            parts = [serialize.dump_compared(part, self.stand_in, _reduced) for part in thing]
            return hashed([kind.__name__.encode(), *sorted(parts)])
        if isinstance(thing, FunctionType | type):
            return hashed(self._known(thing, own=self._bound))
        if kind is ModuleType:
            return hashed([b"module", thing.__name__.encode()])
        return None

    def _known(self, thing: FunctionType | type, *, own: bool) -> Iterator[bytes]:
        """Yield what a function or a class is known by: its name, and if it is its `own`, or the module's, all else."""
        module = thing.__module__
        yield f"{module}.{thing.__qualname__}".encode()
        library = _is_library(module)
        if _is_named(thing) if library or not (own or module in self._own) else thing is _opaque:
            return
        if id(thing) in self._seen:
            yield b"again %d" % self._seen[id(thing)][1]
            return
        self._seen[id(thing)] = thing, len(self._seen)
        if not library:
            self._own.add(module)
        if isinstance(thing, type):
            yield from self._class(thing)
        else:
            yield from self._function(thing, library=library)

    def _function(self, function: FunctionType, *, library: bool) -> Iterator[bytes]:
        yield from _code(function.__code__)
        yield from self._all(function.__defaults__ or ())
        yield from self._all(sorted((function.__kwdefaults__ or {}).items()))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            yield from self.bound(value)
        for name, value in sorted(function.__dict__.items()):
            yield name.encode()
            yield from self.bound(value)
        for name in () if library else sorted(set(_names(function.__code__))):
            if name in function.__globals__:
                yield name.encode()
                yield from self._global(function.__globals__[name])

    def _global(self, value: Any) -> Iterator[bytes]:
        """Yield what tells what a name stands for from others."""
        if isinstance(value, FunctionType | type):
            yield from self._known(value, own=False)
        else:
            try:
                yield self._value(value, bound=False)
            except Exception:  # noqa: BLE001 - it runs the value's own code
                yield type(value).__qualname__.encode()

    def _class(self, kind: type) -> Iterator[bytes]:
        for base in (type(kind), *kind.__bases__):
            yield from self._known(base, own=False)
        for name, part in sorted(vars(kind).items()):
            if name not in _SKIPPED:
                yield name.encode()
                yield from self._global(part)


def _opaque(*parts: Any) -> None:
    """Stand where something is compared that has no pickle."""


def _reduced(thing: Any) -> Any:
    """Return how something that is no plain data is taken apart, to be compared."""
    kind = type(thing)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is property:
        return _opaque, (name, thing.fget, thing.fset, thing.fdel)
    if kind in (staticmethod, classmethod):
        return _opaque, (name, thing.__func__)
    if kind is MappingProxyType:
        return _opaque, (name, dict(thing))
    reduce = copyreg.dispatch_table.get(kind)
    try:
        made = reduce(thing) if reduce is not None else thing.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - it runs the thing's own code: a lock, say, or a file
        return _opaque, (name,)
    if isinstance(made, str):  # by a name, under which what it wraps may have changed
        return _opaque, (name, made, getattr(thing, "__module__", None), getattr(thing, "__dict__", None))
    return made


def _code(code: CodeType) -> Iterator[bytes]:
    """Yield what a function does, without where its lines are."""
    yield code.co_code
    yield getattr(code, "co_exceptiontable", b"")  # since Python 3.11: what a `try` is around
    yield " ".join([*code.co_names, *code.co_varnames, *code.co_freevars]).encode()
    yield b"%d %d %d" % (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _constant(constant)


def _constant(constant: Any) -> bytes:
    if isinstance(constant, frozenset):
        return b"frozenset " + b" ".join(sorted(map(_constant, constant)))
    return f"{type(constant).__name__} {constant!r}".encode("utf-8", "surrogatepass")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
