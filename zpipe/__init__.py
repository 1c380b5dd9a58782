"""zpipe fans a batch job out over many cores and hosts and gives one exact answer back, with no broker.

Names are loaded on first use (PEP 562), so that a worker's start does not pay for the whole package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zpipe.context import Context, current
    from zpipe.errors import ZpipeError

__all__ = ["Context", "ZpipeError", "__version__", "current"]

__version__ = "0.1.0"

_HOMES = {"Context": "zpipe.context", "ZpipeError": "zpipe.errors", "current": "zpipe.context"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
