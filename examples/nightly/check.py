"""Runs the feed five times a second in place of once a night, drops files meanwhile, and looks where they end up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

FILES = 30
FEED = ["--every", "200ms", "--max-in-flight", "1", "--ttl", "1h", "--workers", "2", "--output"]


def archived(folder: Path) -> list[str]:
    """Return the names of all files in a folder's archives."""
    names = []
    for path in folder.glob("*.tar.gz"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    return names


def main() -> None:
    """Feed, drop files, end the job, compare."""
    task = f"{Path(__file__).with_name('nightly.py')}:archive"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inbox, archives, output = (folder / part for part in ("inbox", "archives", "output.jsonl"))
        inbox.mkdir()
        archives.mkdir()
        env = {**os.environ, "INBOX": str(inbox), "ARCHIVES": str(archives)}
        job = subprocess.Popen([sys.executable, "-m", "zpipe", "run", task, *FEED, str(output), "-q"], env=env)
        for number in range(FILES):
            unfinished = inbox / f"{number:03}.new"
            unfinished.write_text(f"order {number}\n")
            unfinished.rename(unfinished.with_suffix(".txt"))
            time.sleep(0.03)
        until = time.monotonic() + 60
        while any(inbox.iterdir()) and job.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        if job.wait(60) != 130:
            sys.exit(f"wrong: the job ended with status {job.returncode}")
        records = [json.loads(line) for line in Path(f"{output}.partial").read_text().splitlines()]
        told = Counter(file for record in records for file in record["value"])
        found = Counter(archived(archives))
    wanted = Counter(f"{number:03}.txt" for number in range(FILES))
    if found != wanted or told != wanted:
        sys.exit(f"wrong: in archives {found - wanted}, not in any {wanted - found}; told of {told}")
    print(f"{FILES} files, each in one archive")


if __name__ == "__main__":
    main()
