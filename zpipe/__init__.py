"""zpipe fans a batch job out over many cores and hosts and gives one exact answer back, with no broker.

Names are loaded on first use (PEP 562), so that a worker's start does not pay for the whole package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zpipe.api.async_pipeline import AsyncPipeline
    from zpipe.api.oneliners import first, imap_unordered, reduce, starmap
    from zpipe.api.oneliners import map as map  # noqa: A004 - zpipe.map stands in for the built-in, by its full name
    from zpipe.api.pipeline import Pipeline
    from zpipe.broken import BrokenPipeline, WorkerLost
    from zpipe.context import Context, current
    from zpipe.errors import Reject, RemoteTraceback, Retry, ZpipeError

# Not "map": `from zpipe import *` must not put it in the place of the built-in.
__all__ = [
    "AsyncPipeline",
    "BrokenPipeline",
    "Context",
    "Pipeline",
    "Reject",
    "RemoteTraceback",
    "Retry",
    "WorkerLost",
    "ZpipeError",
    "__version__",
    "current",
    "first",
    "imap_unordered",
    "reduce",
    "starmap",
]

__version__ = "0.1.0"

_HOMES = {
    "AsyncPipeline": "zpipe.api.async_pipeline",
    "BrokenPipeline": "zpipe.broken",
    "Context": "zpipe.context",
    "Pipeline": "zpipe.api.pipeline",
    "Reject": "zpipe.errors",
    "RemoteTraceback": "zpipe.errors",
    "Retry": "zpipe.errors",
    "WorkerLost": "zpipe.broken",
    "ZpipeError": "zpipe.errors",
    "current": "zpipe.context",
    "first": "zpipe.api.oneliners",
    "imap_unordered": "zpipe.api.oneliners",
    "map": "zpipe.api.oneliners",
    "reduce": "zpipe.api.oneliners",
    "starmap": "zpipe.api.oneliners",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
