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
from zpipe.core.chunking import Chunker
from zpipe.core.wire import Call, TaskSpec

__all__ = ["Function", "Functions"]

KEPT = 256
"""Functions that are remembered, by workers too, while nothing of theirs is to be run."""

QUICK = 0.001
"""Seconds that chunks of single submitted items aim at: their outcomes come together."""

_Bindings = list[tuple[dict[str, Any], str, int]]


class Function:
    """What is sent of a function. `uses` items of it have no outcome yet.

    `chunker` sizes the chunks of many items, `quick` of those whose outcomes are wanted one by one.
    """

    __slots__ = ("chunker", "number", "quick", "spec", "uses")

    def __init__(self, number: int, spec: TaskSpec, chunk: int | None = None) -> None:
        self.number = number
        self.spec = spec
        self.uses = 0
        self.chunker = Chunker(chunk)
        self.quick = Chunker(chunk, target=QUICK, floor=QUICK)


class _Known:
    """A function object that is still alive and unchanged since it was pickled."""

    __slots__ = ("bindings", "function", "made")

    def __init__(self, made: Any, function: Function, bindings: _Bindings) -> None:
        self.made = weakref.ref(made)
        self.function = function
        self.bindings = bindings

    def stands_for(self, made: Any) -> bool:
        return self.made() is made and all(id(names.get(name)) == value for names, name, value in self.bindings)


class Functions:
    """The functions of one pipeline, whose chunks have `chunk` items, if given. Whoever shares it holds a lock."""

    def __init__(self, chunk: int | None = None) -> None:
        self._chunk = chunk
        self._by_identity: dict[tuple[int, Call], _Known] = {}
        self._by_content: OrderedDict[tuple[bytes, Call], Function] = OrderedDict()
        self._last = 0

    def find(self, made: Callable[..., Any], call: Call) -> Function:
        """Return what is sent of a function that is called in this way. Raises what pickling it raises."""
        known = self._by_identity.get((id(made), call))
        if known is not None and known.stands_for(made):
            return known.function
        data = serialize.dump_function(made)
        function = self._by_content.get((data, call))
        if function is None:
            self._last += 1
            name = getattr(made, "__qualname__", None) or type(made).__qualname__
            function = Function(self._last, TaskSpec("pickle", name, data, call=call), self._chunk)
            self._by_content[data, call] = function
        else:
            self._by_content.move_to_end((data, call))
        bindings = _bindings(made)
        if bindings is not None:
            self._by_identity[id(made), call] = _Known(made, function, bindings)
        return function

    @property
    def crowded(self) -> bool:
        """Whether it is time to weed."""
        return len(self._by_content) > KEPT

    def weed(self) -> list[Function]:
        """Forget those that have long been of no use, and return them."""
        idle = [key for key, function in self._by_content.items() if not function.uses][: KEPT // 4]
        gone = [self._by_content.pop(key) for key in idle]
        kept = set(map(id, self._by_content.values()))
        self._by_identity = {
            key: entry
            for key, entry in self._by_identity.items()
            if entry.made() is not None and id(entry.function) in kept
        }
        return gone


def _bindings(made: Any) -> _Bindings | None:
    """Return the names in the script that a function's pickle depends on, None if it can't be known by its identity."""
    if not isinstance(made, FunctionType | BuiltinFunctionType | type):
        return None
    module, name = getattr(made, "__module__", None), getattr(made, "__qualname__", "")
    if module != "__main__":
        found: Any = sys.modules.get(module or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        return (
            [] if found is made and getattr(made, "__self__", None) in (None, found, sys.modules["builtins"]) else None
        )
    return _names(made) if isinstance(made, FunctionType) else None


def _names(made: FunctionType) -> _Bindings | None:
    """Return the globals that a plain function and those it calls refer to; None if one has a closure."""
    bindings: _Bindings = []
    waiting, seen = [made], {id(made)}
    while waiting:
        function = waiting.pop()
        if function.__closure__ or function.__kwdefaults__ or function.__dict__:
            return None
        for name in _referred(function.__code__):
            value = function.__globals__.get(name)
            bindings.append((function.__globals__, name, id(value)))
            if isinstance(value, FunctionType) and value.__module__ == "__main__" and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return bindings


def _referred(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _referred(constant)
