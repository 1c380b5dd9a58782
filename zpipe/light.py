"""Loads msgspec, which all of zpipe needs, in less time.

It takes from typing_extensions, if that is installed, what it finds in Python's own typing as well since 3.11; that and
inspect, which it loads, are a tenth of a worker's start.
"""

from __future__ import annotations

import sys

__all__ = ["load"]


def load() -> None:
    """Load msgspec, and leave typing_extensions for who asks for it."""
    if sys.version_info >= (3, 11) and not {"msgspec", "typing_extensions"} & {*sys.modules}:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]
