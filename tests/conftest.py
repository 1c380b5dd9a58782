"""Settings of all tests: no time limit on an example, as the machine may be busy, and no key of whoever runs them."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("zpipe", deadline=None, print_blob=True)
settings.load_profile("zpipe")

# Of all processes that tests start, too: a key in the default place would be used by every one that binds to TCP.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), "zpipe-tests-have-no-key")
os.environ.pop("ZPIPE_KEY_FILE", None)

# Else each of a thousand processes would compile zpipe anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


HERE = Path(__file__).parent

LONG = ("test_examples.py", "test_chaos.py", "test_readme.py")
"""Files of tests that take long, each: they are begun first, or the run would wait for one of them at its end."""


def pytest_configure(config: pytest.Config) -> None:
    """Have each process of pytest-xdist begin to load all tests at another place.

    In a fresh checkout whatever is loaded has to be compiled first, which takes the most time of it. So each compiles a
    part of it, and finds done what others have done, where all would compile the same at the same time.
    """
    given = getattr(config, "workerinput", None)
    if given is None or [Path(arg).absolute() for arg in config.args] != [HERE]:
        return
    files = sorted(map(str, HERE.rglob("test_*.py")))
    first = len(files) * int(given["workerid"].removeprefix("gw")) // int(given["workercount"])
    config.args = files[first:] + files[:first]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files, so that all processes have the same order; within a file it stays."""
    items.sort(key=lambda item: (item.path.name not in LONG, item.path))


def pytest_collection_finish() -> None:
    """What has been loaded by now stays: in thousands of tests it is not looked through for garbage time and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
