"""Ways to load what zpipe needs in less time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["load", "quiet"]


def load() -> None:
    """Load msgspec, which all of zpipe needs, and leave typing_extensions for who asks for it. Only for one thread.

    msgspec takes from that, if it is installed, what it finds in Python's own typing as well since 3.11; it and
    inspect, which it loads, are a tenth of a worker's start.
    """
    if sys.version_info >= (3, 11) and not {"msgspec", "typing_extensions"} & {*sys.modules}:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Collect no garbage while modules load: they stay, and to look them through again and again is a tenth of it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
