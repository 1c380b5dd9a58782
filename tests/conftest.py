"""Settings of all tests: no time limit on an example, as the machine may be busy, and no key of whoever runs them."""

from __future__ import annotations

import gc
import os
import tempfile

from hypothesis import settings

settings.register_profile("zpipe", deadline=None, print_blob=True)
settings.load_profile("zpipe")

# Of all processes that tests start, too: a key in the default place would be used by every one that binds to TCP.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), "zpipe-tests-have-no-key")
os.environ.pop("ZPIPE_KEY_FILE", None)

# Else each of a thousand processes would compile zpipe anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """What has been loaded by now stays: in thousands of tests it is not looked through for garbage time and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
