"""Settings of all tests: no time limit on a single example, since the machine may be busy with others."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("zpipe", deadline=None, print_blob=True)
settings.load_profile("zpipe")
