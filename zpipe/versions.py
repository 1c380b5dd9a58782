"""What this node is, as it tells others: versions that must agree, and its host's name."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version

import zpipe
from zpipe.core.wire import PROTOCOL, Versions

__all__ = ["host_name", "our_versions"]


def our_versions() -> Versions:
    """Return this process's versions: those of pickles by major.minor, zpipe's in full."""
    python = "{}.{}".format(*sys.version_info[:2])
    cloudpickle = ".".join(version("cloudpickle").split(".")[:2])
    return Versions(PROTOCOL, zpipe.__version__, python, cloudpickle)


def host_name() -> str:
    """Return this host's name."""
    return platform.node() or "localhost"
