"""`python -m tests.chaos --minutes N`, from the checkout: storm after storm, for a minute or for hours."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.hosts import Cables, Host, why_not
from chaos.storm import Storm


def storm(
    seed: int, folder: Path, *, items: int, workers: int, wired: bool, say: Callable[[str], None], verbose: bool
) -> None:
    """Run one job, over cables if `wired`."""
    where = "in network namespaces" if wired else "on this host"
    say(f"seed {seed}: {items:,} items, {workers} workers {where}")
    cables = Cables(workers, delay=0.005 * (seed % 4), loss=0.01 * (seed % 3)) if wired else None
    try:
        if cables is not None and cables.unfit:
            say(f"  cables without delay and loss: {cables.unfit}")
        hosts = [cables.head, *cables.hosts] if cables is not None else [Host()] * (workers + 1)
        nothing: Callable[[str], None] = lambda text: None  # noqa: E731
        say(f"  {Storm(seed, folder, items=items, hosts=hosts, say=say if verbose else nothing).run()}")
    finally:
        if cables is not None:
            cables.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run storms as the command line says; return the exit status, 1 if one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--minutes", type=float, default=1.0, help="begin no further job after these (default: 1)")
    parser.add_argument("--items", type=int, default=3000, help="of each job (default: 3000)")
    parser.add_argument("--workers", type=int, default=3, help="with two slots each (default: 3)")
    parser.add_argument("--storms", type=int, help="how many jobs at most")
    parser.add_argument("--verbose", action="store_true", help="tell every mishap")
    given = parser.parse_args(argv)
    began, failed, done = time.monotonic(), 0, 0
    unwired = why_not()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if unwired:
        say(f"no cables to be pulled: {unwired}")
    while time.monotonic() < began + 60 * given.minutes and (given.storms is None or done < given.storms):
        seed = given.seed + done
        wired = not unwired and seed % 2 == 0
        with tempfile.TemporaryDirectory(prefix="zpipe-chaos-") as folder:
            try:
                storm(
                    seed,
                    Path(folder),
                    items=given.items,
                    workers=given.workers,
                    wired=wired,
                    say=say,
                    verbose=given.verbose,
                )
            except AssertionError as error:
                failed += 1
                say(f"seed {seed} FAILED: {error}")
                say(f"again: python -m tests.chaos --seed {seed} --storms 1 --items {given.items} --verbose")
        done += 1
    say(f"{done} storms in {time.monotonic() - began:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
