"""Values by key in one output: a reducer that has a value for each key, and the records that are written of it.

A key is what a function returns for a value, or a field of it. Keys come in the order in which they were first seen.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from zpipe.core.spec import Encoding

__all__ = ["Grouping", "field"]


def field(path: str) -> Callable[[Any], Any]:
    """Return what takes this field of a value: `name`, `.name`, or `.outer.inner`.

    It raises LookupError where there is none, and TypeError for what has no fields.
    """
    names = path[1:].split(".") if path.startswith(".") else [path]

    def take(value: Any) -> Any:
        for name in names:
            value = _take(value, name)
        return value

    take.__qualname__ = f"the field {path!r}"
    return take


def _take(value: Any, name: str) -> Any:
    try:
        return value[name]
    except KeyError:
        raise LookupError(f"there is no field {name!r}") from None
    except (TypeError, IndexError):
        mend = ": lines of JSON, say, with --jsonl" if isinstance(value, str) else ""
        raise TypeError(f"what is of type {type(value).__name__} has no field {name!r}{mend}") from None


class Grouping:
    """Folds values by `key` into a dict: with `op` each key's, from `initial` on if that is given, else into lists."""

    def __init__(
        self,
        key: Callable[[Any], Any],
        op: Callable[[Any, Any], Any] | None = None,
        has_initial: bool = False,
        initial: Any = None,
    ) -> None:
        self._key, self._op, self._has_initial, self._initial = key, op, has_initial, initial
        names = [getattr(each, "__qualname__", repr(each)) for each in (key, op) if each is not None]
        self.__qualname__ = f"{names[0]} (the key{''.join(f' of {name}' for name in names[1:])})"

    def __call__(self, groups: dict[Any, Any], value: Any) -> dict[Any, Any]:
        """Take a value; return the groups."""
        key = self._key(value)
        if self._op is None:
            groups.setdefault(key, []).append(value)
        elif key in groups:
            groups[key] = self._op(groups[key], value)
        else:
            groups[key] = self._op(deepcopy(self._initial), value) if self._has_initial else value
        return groups

    def records(self, groups: dict[Any, Any], encoding: Encoding) -> list[Any]:
        """Return what is written, a record for each key."""
        name = "values" if self._op is None else "value"
        if encoding == "raw":
            return [f"{key}\t{value}" for key, value in groups.items()]
        return [{"key": key, name: value} for key, value in groups.items()]
