"""`zpipe` as a node of another version would be: `other_version.py FIELD VALUE ARGS...`."""

from __future__ import annotations

import sys

import msgspec

from zpipe import cli
from zpipe.net import versions

field, value, *args = sys.argv[1:]
true = versions.our_versions()


def other() -> object:
    """Versions of which one is another."""
    return msgspec.structs.replace(true, **{field: int(value) if field == "protocol" else value})


versions.our_versions = other
sys.argv = ["zpipe", *args]
cli.main()
