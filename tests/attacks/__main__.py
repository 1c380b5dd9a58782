"""`python -m tests.attacks --messages N`, from the checkout: all ports of a job, with a key and without, attacked."""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from attacks.siege import ATTACKS, Siege
from process.tools import Zpipe


def siege(seed: int, messages: int, chosen: Sequence[str], *, key: bool) -> None:
    """Attack one job."""
    with tempfile.TemporaryDirectory(prefix="zpipe-attacks-") as folder:
        shutil.copy(Path(__file__).parent.parent / "process" / "jobs.py", folder)
        zpipe = Zpipe(Path(folder))
        try:
            made = Siege(zpipe, seed, key=key)
            for name in chosen:
                began = time.monotonic()
                ATTACKS[name](made, messages)
                made.until_done()
                say(f"  {name}: {time.monotonic() - began:.1f} s")
            say(f"  {made.end()}")
            say("  " + ", ".join(f"{count:,} {what}" for what, count in sorted(made.sent.items())))
        finally:
            zpipe.close()


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Attack as the command line says; return the exit status, 1 if a defence did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--messages", type=int, default=200_000, help="in all, of garbage (default: 200000)")
    parser.add_argument("--only", choices=list(ATTACKS), help="this attack and no other")
    given = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    failed = 0
    for key in (True, False):
        say(f"seed {given.seed}: {given.messages // 2:,} messages to a job {'with' if key else 'without'} a key")
        try:
            siege(given.seed, given.messages // 2, [given.only] if given.only else list(ATTACKS), key=key)
        except AssertionError as error:
            failed += 1
            say(f"FAILED: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
