"""Frames and text for workers that differ: those that need a GPU go to the worker that has one. `python3 fleet.py`.

The script has plain workers of its own, and starts two more as they would be started on other hosts: one with a label,
and one with two. Each result tells what its worker had, and that is held against what its item required.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import zpipe

ITEMS = [(number, ("", "gpu", "gpu=a100", "big")[number % 4]) for number in range(80)]
"""Each with what it requires, if anything."""

ELSEWHERE = {"gpu=t4": ["--label", "gpu=t4"], "gpu=a100 big": ["--label", "gpu=a100", "--label", "big"]}


def render(number: int, _: str) -> tuple[int, str]:
    """Return the frame, and what this worker has."""
    return number * number, os.environ.get("HAS", "")


def needs(_: int, required: str) -> str | None:
    """Return what an item requires."""
    return required or None


def main() -> None:
    """Have all items run where they can be; print where they were."""
    with zpipe.Pipeline(1, bind="tcp://127.0.0.1:0") as pipe:
        results = pipe.options(requires=needs).starmap(render, ITEMS)
        zpipe_worker = [sys.executable, "-m", "zpipe", "worker", str(pipe.url), "--slots", "1", "--quiet"]
        workers = [
            subprocess.Popen([*zpipe_worker, *labels], env={**os.environ, "HAS": has})
            for has, labels in ELSEWHERE.items()
        ]
        found = list(results)
    for worker in workers:
        worker.terminate()  # one that came too late would wait for the next job
        worker.wait()
    if [frame for frame, _ in found] != [number * number for number, _ in ITEMS]:
        sys.exit("wrong: the frames are not those of the items")
    for (number, required), (_, has) in zip(ITEMS, found, strict=True):
        if required not in {"", *has.split(), *(label.partition("=")[0] for label in has.split())}:
            sys.exit(f"wrong: item {number} required {required}, and ran on a worker with {has or 'nothing'}")
    required_by = Counter(required or "anything" for _, required in ITEMS)
    print(f"{len(found)} items: {dict(required_by)}, each where it can run")


if __name__ == "__main__":
    main()
