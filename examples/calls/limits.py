"""Calls a web service no faster than it allows, not too late, and not twice: `python3 limits.py`.

The service is that of calls.py. It counts, and what it has counted is held against what was promised.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from calls import Service, ask

import zpipe
from zpipe.errors import Expired

RATE, BURST = 40, 5
"""Calls a second that the service allows, and so many at once after a rest."""

PATIENCE = 0.25
"""Seconds after which an answer is of no use any more."""


def at_a_rate(service: Service) -> None:
    """Ask for 30 things; none of the calls may come before the rate allows as many."""
    began = time.monotonic()
    with zpipe.Pipeline(inline=True, rate=RATE, burst=BURST) as pipe:
        answers = list(pipe.map(partial(ask, service.port), [f"/rate/{number}/" for number in range(30)]))
    for number, when in enumerate(service.times):
        if when < began + (number + 1 - BURST) / RATE - 0.005:
            sys.exit(f"wrong: call {number + 1} came after {when - began:.3f} s already")
    print(f"{len(answers)} answers at {RATE} a second")


def in_time(service: Service) -> None:
    """Ask for 60 things that are only wanted soon: the rate lets some begin in time, the others are not asked."""
    before = service.calls.total()
    with zpipe.Pipeline(inline=True, rate=RATE, burst=BURST) as pipe:
        paths = [f"/soon/{number}/" for number in range(60)]
        found = list(pipe.options(ttl=PATIENCE).map(partial(ask, service.port), paths, on_error="collect"))
    expired = sum(isinstance(outcome, Expired) for outcome in found)
    if not expired or service.calls.total() - before != 60 - expired:
        sys.exit(f"wrong: {expired} of 60 expired, and {service.calls.total() - before} calls were made")
    print("60 calls, each made in time or not at all")


def only_once(service: Service, cache: Path) -> None:
    """Ask for 20 things, again and again: a fresh answer is in the cache, an old one is not taken."""
    paths = [f"/once/{number}/" for number in range(20)]
    for fresh, calls in ((600, 20), (600, 20), (0.000001, 40)):
        with zpipe.Pipeline(inline=True, cache=cache, cache_ttl=fresh) as pipe:
            answers = list(pipe.map(partial(ask, service.port), paths))
        made = sum(service.calls[path] for path in paths)
        if [answer["path"] for answer in answers] != paths or made != calls:
            sys.exit(f"wrong: {made} calls were made, not {calls}")
    print("60 answers, 40 calls, 20 from the cache")


def main() -> None:
    """Have each of the three shown."""
    service = Service()
    with service.serving(), tempfile.TemporaryDirectory() as folder:
        at_a_rate(service)
        in_time(service)
        only_once(service, Path(folder) / "answers.cache")


if __name__ == "__main__":
    main()
