"""Which functions a script calls, and what its workers are told of them: each is sent once, under a number.

The rule: a function counts as the same only if workers could not tell the difference. One that workers import by name
is known by its identity. Of any other a fresh pickle is made for each call, and equal pickles are the same function;
for a plain function of the script's own this is spared while nothing it names has been bound anew. This file holds no
function strongly, and does not know what it is called with.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from zpipe import serialize
from zpipe.core.chunking import Chunker, Heft
from zpipe.core.spec import Call, TaskSpec

__all__ = ["QUICK", "Function", "Functions", "check_callable"]

KEPT = 256
"""Functions that are remembered, by workers too, while nothing of theirs is to be run."""

QUICK = 0.001
"""Seconds that chunks of single submitted items aim at: their outcomes come together."""

KEPT_BYTES = 64 << 20
"""Bytes of their pickles from which they are remembered no longer than that."""


class Function:
    """What is sent of a function. It is in use unless `held` and `uses` add up to nothing.

    `held` counts up what was handed over, by whoever has the lock; `uses` is the pipeline's thread's: what it has
    taken from maps, less all that has its outcome. `chunker` sizes the chunks of many items, `quick` of those whose
    outcomes are wanted one by one; what these weigh is known by `heft`, unless their number is fixed.
    """

    __slots__ = ("chunker", "heft", "held", "identity", "number", "quick", "spec", "uses")

    def __init__(self, number: int, spec: TaskSpec, chunk: int | None = None, most: int | None = None) -> None:
        self.identity = b""
        """What it is known by beyond this process, if anybody asks."""
        self.number = number
        self.spec = spec
        self.held = self.uses = 0
        self.chunker = Chunker(chunk, most=most)
        self.quick = Chunker(chunk, target=QUICK, floor=QUICK, most=most)
        self.heft = Heft() if chunk is None else None


class _Bindings:
    """What names in the script stood for when a function that refers to them was pickled.

    A value that can be referred to weakly is not kept alive; any other is, lest a new one be taken for it by its id.
    """

    __slots__ = ("strong", "weak")

    def __init__(self) -> None:
        self.strong: list[tuple[dict[str, Any], str, Any]] = []
        self.weak: list[tuple[dict[str, Any], str, weakref.ref[Any]]] = []

    def add(self, names: dict[str, Any], name: str, value: Any) -> None:
        try:
            self.weak.append((names, name, weakref.ref(value)))
        except TypeError:
            self.strong.append((names, name, value))

    def hold(self) -> bool:
        """Tell whether the names still stand for the same."""
        for names, name, value in self.strong:
            if names.get(name) is not value:
                return False
        for names, name, ref in self.weak:
            value = ref()
            if value is None or names.get(name) is not value:
                return False
        return True


class _Known:
    """A function object that is still alive and unchanged since it was pickled."""

    __slots__ = ("bindings", "function", "made", "unbound")

    def __init__(
        self, made: Any, function: Function, bindings: _Bindings, gone: Callable[[weakref.ref[Any]], object]
    ) -> None:
        self.made = weakref.ref(made, gone)
        self.function = function
        self.bindings = bindings
        self.unbound = not (bindings.strong or bindings.weak)

    def stands_for(self, made: Any) -> bool:
        return self.made() is made and (self.unbound or self.bindings.hold())


class Functions:
    """The functions of one pipeline, whose chunks have `chunk` items, if given, or `most` at most.

    `identify` says what one that is called in this way is known by elsewhere. Whoever shares it holds a lock.
    """

    def __init__(
        self,
        chunk: int | None = None,
        most: int | None = None,
        identify: Callable[[Callable[..., Any], Call], bytes] | None = None,
    ) -> None:
        self._chunk, self._most, self._identify = chunk, most, identify
        self._by_identity: dict[tuple[int, Call], _Known] = {}
        self._by_content: OrderedDict[tuple[bytes, Call], Function] = OrderedDict()
        self._last = 0
        self._bytes = 0

    def find(self, made: Callable[..., Any], call: Call) -> Function:
        """Return what is sent of a function that is called in this way.

        Raises TypeError for what can't be called, and what pickling it raises.
        """
        key = id(made), call
        known = self._by_identity.get(key)
        if known is not None and known.stands_for(made):
            return known.function
        check_callable(made)
        data = serialize.dump_function(made)
        function = self._by_content.get((data, call))
        if function is None:
            self._last += 1
            name = getattr(made, "__qualname__", None) or type(made).__qualname__
            function = Function(self._last, TaskSpec("pickle", name, data, call=call), self._chunk, self._most)
            if self._identify is not None:
                function.identity = self._identify(made, call)
            self._by_content[data, call] = function
            self._bytes += len(data)
        else:
            self._by_content.move_to_end((data, call))
        bindings = _bindings(made)
        if bindings is not None:
            entries = self._by_identity
            # At its end, which may come at any time, another may have its id already: that one is pickled once more.
            entries[key] = _Known(made, function, bindings, lambda _: entries.pop(key, None))
        return function

    @property
    def crowded(self) -> bool:
        """Whether it is time to weed."""
        return len(self._by_content) > KEPT or self._bytes > KEPT_BYTES

    def weed(self) -> list[Function]:
        """Forget those that have long been of no use, and return them."""
        gone: list[Function] = []
        for key, function in list(self._by_content.items()):
            if len(self._by_content) <= KEPT * 3 // 4 and self._bytes <= KEPT_BYTES * 3 // 4:
                break
            if function.held + function.uses == 0:
                del self._by_content[key]
                self._bytes -= len(key[0])
                gone.append(function)
        numbers = {function.number for function in gone}
        for identity, entry in list(self._by_identity.items()):
            if entry.function.number in numbers:
                self._by_identity.pop(identity, None)
        return gone


def check_callable(made: object) -> None:
    """Raise TypeError, in Python's words, unless this can be called."""
    if not callable(made):
        raise TypeError(f"{type(made).__name__!r} object is not callable")


def _bindings(made: Any) -> _Bindings | None:
    """Return the names in the script that a function's pickle depends on, None if it can't be known by its identity."""
    if not isinstance(made, FunctionType | BuiltinFunctionType | type):
        return None
    module, name = getattr(made, "__module__", None), getattr(made, "__qualname__", "")
    if module in serialize.MAIN:
        return _names(made) if isinstance(made, FunctionType) else None
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not made or getattr(made, "__self__", None) not in (None, found, sys.modules["builtins"]):
        return None
    return _Bindings()


def _names(made: FunctionType) -> _Bindings | None:
    """Return the globals that a function and the script's own that it uses refer to; None if one has a closure."""
    bindings = _Bindings()
    waiting, seen = [made], {id(made)}
    while waiting:
        function = waiting.pop()
        if function.__closure__ or function.__kwdefaults__ or function.__dict__:
            return None
        for name in _referred(function.__code__):
            value = function.__globals__.get(name)
            bindings.add(function.__globals__, name, value)
            for other in _own_functions(value):
                if id(other) not in seen:
                    seen.add(id(other))
                    waiting.append(other)
    return bindings


def _own_functions(value: Any) -> Iterator[FunctionType]:
    """Yield the functions of the script's own that come along with a value: it is one, or its class has some."""
    if isinstance(value, FunctionType):
        if value.__module__ in serialize.MAIN:
            yield value
        return
    for kind in (value if isinstance(value, type) else type(value)).__mro__:
        if kind.__module__ in serialize.MAIN:
            for part in vars(kind).values():
                found = getattr(part, "__func__", getattr(part, "fget", part))
                if isinstance(found, FunctionType):
                    yield found


def _referred(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _referred(constant)
