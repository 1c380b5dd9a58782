"""Many threads that use one pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable

from process.tools import PATIENCE


def in_threads(use: Callable[[int], None]) -> None:
    """Call `use` in eight threads at once, each with a number of its own, thousands apart. Raises what one raised."""
    wrong: list[BaseException] = []

    def run(seed: int) -> None:
        try:
            use(seed)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number * 1000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if wrong:
        raise wrong[0]
