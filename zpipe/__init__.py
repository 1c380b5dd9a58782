"""zpipe fans a batch job out over many cores and hosts and gives one exact answer back, with no broker.

Names are loaded on first use (PEP 562), so that a worker's start does not pay for the whole package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zpipe.broken import BrokenPipeline, WorkerLost
    from zpipe.context import Context, current
    from zpipe.errors import RemoteError, RemoteTraceback, ZpipeError
    from zpipe.pipeline import Pipeline
    from zpipe.results import Results

__all__ = [
    "BrokenPipeline",
    "Context",
    "Pipeline",
    "RemoteError",
    "RemoteTraceback",
    "Results",
    "WorkerLost",
    "ZpipeError",
    "__version__",
    "current",
]

__version__ = "0.1.0"

_HOMES = {
    "BrokenPipeline": "zpipe.broken",
    "Context": "zpipe.context",
    "Pipeline": "zpipe.pipeline",
    "RemoteError": "zpipe.errors",
    "RemoteTraceback": "zpipe.errors",
    "Results": "zpipe.results",
    "WorkerLost": "zpipe.broken",
    "ZpipeError": "zpipe.errors",
    "current": "zpipe.context",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
