"""Measure it all, and make the tables and the plot: `python bench`, or in under twelve minutes `python bench --quick`.

Each question's file is run in turn, and what it says goes to `results.json`, as soon as it is known; so a run that is
ended half-way keeps what it has, beside what was there before. `--only NAME,NAME` asks just these. Then `report.py`
makes the tables and the plot.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from typing import Any

import harness
import report
from harness import HERE

QUESTIONS: dict[str, tuple[list[str], list[str]]] = {
    "beside": (["--rounds", "5", "--seconds", "1"], ["--rounds", "2", "--seconds", "0.3"]),
    "commands": (["--rounds", "5"], ["--rounds", "2"]),
    "workers": (["--rounds", "5"], ["--rounds", "2", "--chunks", "10000"]),
    "unequal": (["--rounds", "3"], ["--rounds", "1", "--each", "50"]),
    "items": (["--rounds", "3"], ["--rounds", "1"]),
    "journal": (["--rounds", "5"], ["--rounds", "2", "--items", "1000000"]),
    "curve": (["--rounds", "5"], ["--rounds", "2", "--share", "0.15"]),
    "kills": (["--rounds", "3"], ["--rounds", "1", "--items", "40000"]),
    "startup": (["--rounds", "10"], ["--rounds", "3"]),
}
"""The files, and how each is run: at leisure, quickly."""

NEVER_TOO_NOISY = ["--calm", "99"]
"""Quickly, no round is thrown away: how noisy they were is told."""


def ask(name: str, quick: bool) -> dict[str, Any]:
    """Have a question answered. Raises CalledProcessError if it can't be."""
    how = QUESTIONS[name][quick] + (NEVER_TOO_NOISY if quick else [])
    done = subprocess.run([sys.executable, HERE / f"{name}.py", "--json", *how], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def noisiest(found: dict[str, Any]) -> float:
    """Return how many cores others used in the noisiest round that counts."""
    told = re.findall(r"round by round: \[([^]]*)\]", json.dumps(found))
    return max((float(one) for text in told for one in text.split(", ") if one), default=0.0)


def main() -> None:
    """Ask, keep, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", default=",".join(QUESTIONS), help="names of questions (%(default)s)")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in QUESTIONS]:
        parser.error(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    results = json.loads(report.RESULTS.read_text()) if report.RESULTS.exists() else {"others": {}}
    results["environment"] = harness.environment()
    failed = []
    for name in names:
        began = time.monotonic()
        try:
            found = ask(name, options.quick)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name}: status {error.returncode}")
            continue
        results[name], results["others"][name] = found, noisiest(found)
        report.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(
            f"{name}: {time.monotonic() - began:.0f} s, others used {results['others'][name]} cores at most", flush=True
        )
    report.write(results)
    if failed:
        sys.exit(f"not measured: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
