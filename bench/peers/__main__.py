"""One peer in a process of its own: `python -m peers NAME WORKERS SECONDS WORKLOAD...` prints a line of JSON for each.

With the workload `cold` it prints the first result of a hundred as soon as it comes: the clock is its caller's. A
workload that fails says so, and the next has its turn.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from typing import Any

from peers import named


def main(name: str, workers: int, seconds: float, wanted: list[str]) -> None:
    """Be a peer."""
    peer = named(name)
    short = "sleeps" not in wanted
    with ExitStack() as stack:
        if hasattr(peer, "service"):
            stack.enter_context(peer.service())
        if wanted == ["cold"]:
            _cold(peer, workers)
            return
        crew = stack.enter_context(peer.opened(workers, short))
        from workloads import WORKLOADS

        for workload in wanted:
            _tell(workload, lambda: WORKLOADS[workload](crew, seconds))  # noqa: B023 (called at once)


def _cold(peer: Any, workers: int) -> None:
    from tasks import noop

    with peer.opened(workers, False) as crew:
        results = iter(crew.run(noop, range(100), 1))
        print(next(results), flush=True)
        sum(1 for _ in results)


def _tell(workload: str, measure: Any) -> None:
    try:
        found = measure()
    except Exception as error:  # noqa: BLE001 (whatever a peer raises is what the table has to say)
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({"workload": workload, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    # Whatever threads and helpers a system keeps, what was asked is answered.
    sys.stdout.flush()
    os._exit(0)
