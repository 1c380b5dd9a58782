"""As `sitecustomize`: whoever unpickles anything in this process, by whatever way, leaves word of it and gets an error.

Every pickle names something but one of bare data alone, so that the audit hook sees even what is not called by its
name; that one the replaced functions see.
"""

from __future__ import annotations

import _pickle
import os
import pickle
import sys
import traceback
from typing import Any, NoReturn

FOLDER = os.environ.get("TRAPS", "")


def sprung(*_: Any, **__: Any) -> NoReturn:
    """Leave word of who unpickles, and refuse."""
    with open(os.path.join(FOLDER, "unpickled"), "a") as file:
        file.write(f"{os.getpid()} {sys.argv}\n{''.join(traceback.format_stack())}\n")
    raise RuntimeError("unpickled")


def audit(event: str, _: Any) -> None:
    """Be told of each name that an unpickler looks up."""
    if event == "pickle.find_class":
        sprung()


class Sprung:
    """Stands for an unpickler."""

    __init__ = sprung


if FOLDER:
    for module in (pickle, _pickle):
        for name in ("load", "loads", "_load", "_loads"):
            if hasattr(module, name):
                setattr(module, name, sprung)
        for name in ("Unpickler", "_Unpickler"):
            if hasattr(module, name):
                setattr(module, name, Sprung)
    sys.addaudithook(audit)
    with open(os.path.join(FOLDER, "trapped"), "a") as set_up:
        set_up.write(f"{os.getpid()}\n")
