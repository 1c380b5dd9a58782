"""Archives what lies in a folder, whenever it is told the time: a task for `zpipe run --cron` or `--every`."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


def archive(when: str) -> list[str]:
    """Move the files of $INBOX into an archive of this time in $ARCHIVES; return their names.

    If it ends midway and is run again, no file is lost: each is in the archive before it goes.
    """
    inbox, archives = Path(os.environ["INBOX"]), Path(os.environ["ARCHIVES"])
    files = sorted(path for path in inbox.iterdir() if path.suffix == ".txt")
    if files:
        made = archives / f"{when.replace(':', '-')}.tar.gz"
        unfinished = made.with_suffix(".partial")
        with tarfile.open(unfinished, "w:gz") as tar:
            for path in files:
                tar.add(path, path.name)
        unfinished.rename(made)
        for path in files:
            path.unlink()
    return [path.name for path in files]
