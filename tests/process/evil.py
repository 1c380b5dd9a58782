"""A node that has the key and means harm: `evil.py ARGS` is `zpipe ARGS` with a bomb in place of each payload.

`worker`: it sends the bomb as its values. `ventilator`: as its items, which it says are pickled.
"""

from __future__ import annotations

import sys
from typing import Any

BOMB = b"cos\nsystem\n(S'touch owned'\ntR."


def bomb(*_: Any) -> bytes:
    """Stand in for what would give bytes."""
    return BOMB


def bombs(items: Any, *_: Any) -> Any:
    """Stand in for what packs a batch of items."""
    return sources.Batch(len(items), "pickle", [BOMB]), ""


if __name__ == "__main__":
    from zpipe import cli, data
    from zpipe.input import sources

    if sys.argv[1] == "worker":
        data.dump = bomb  # type: ignore[assignment]
    else:
        sources.pack = bombs
    cli.main()
