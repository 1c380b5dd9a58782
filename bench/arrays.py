"""How many MiB a second of numpy arrays go there and back, when the task returns what it was given?

Arrays of 1 MiB and of 64 KiB, one at a time, through `imap_unordered` and `map` with automatic chunks; beside a
bare pyzmq chain that sends pickle 5's out-of-band buffers with copy=False, both ways, over ipc as zpipe does and over
tcp; and beside ProcessPoolExecutor and multiprocessing.Pool. Each size is counted once, not once for each way.

The arrays are a few dozen different ones, made before; each must come back as often as it was sent, and unchanged.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import cycle, islice
from typing import Any

import harness
import numpy as np
import pools
import zmq
from harness import Checked
from tasks import noop

MIB = 1 << 20
DIFFERENT = 32
"""Arrays there are of each size."""

AHEAD = 32
"""Arrays the chain has on the way, at most; more make it no faster."""

OF_CHAIN = 0.8
"""What 1 MiB arrays must reach of the chain over ipc."""

SIZES = {"1 MiB": MIB, "64 KiB": MIB // 16}

Array = Any


class Arrays:
    """Arrays of a size in bytes, each filled with its own number, and a check of what comes back."""

    def __init__(self, size: int, items: int) -> None:
        self._made = [np.full(size // 8, number, dtype=np.int64) for number in range(DIFFERENT)]
        self._size, self._items = size, items

    def __iter__(self) -> Iterator[Array]:
        """Yield them, over and over, until there were `items`."""
        return islice(cycle(self._made), self._items)

    def time(self, results: Iterable[Array], began: float) -> Checked:
        """Take all results; return the run, in MiB. Raises SystemExit unless each array came back, as it was."""
        seen = Counter[int]()
        last: dict[int, Array] = {}
        for array in results:
            number = int(array[0])
            seen[number] += int(array[-1]) == number
            last[number] = array
        seconds = time.monotonic() - began
        same = all(np.array_equal(array, self._made[number]) for number, array in last.items())
        if not same or seen != Counter(int(array[0]) for array in self):
            raise SystemExit(f"wrong result: {seen.total()} arrays of {self._items} came back as they were")
        return Checked(self._items, seconds, {"MiB/s": self._items * self._size / MIB / seconds})


def work(down: str, across: str) -> None:
    """Be a worker of the chain: until killed."""
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    push.connect(across)
    pull.connect(down)
    push.send(pools.HELLO)
    while True:
        _send(push, noop(_take(pull)))


def _send(push: Any, array: Array) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    push.send_multipart([head, *buffers], copy=False)


def _take(pull: Any) -> Array:
    head, *buffers = pull.recv_multipart(copy=False)
    return pickle.loads(head.buffer, buffers=[frame.buffer for frame in buffers])


def chain(arrays: Arrays, transport: str) -> Checked:
    """Send them through a bare chain, some ahead of those that come back."""
    with pools.bare(lambda *ends: [sys.executable, __file__, *ends], transport) as (push, pull):

        def results() -> Iterator[Array]:
            out = 0
            for array in arrays:
                if out == AHEAD:
                    yield _take(pull)
                    out -= 1
                _send(push, array)
                out += 1
            for _ in range(out):
                yield _take(pull)

        return arrays.time(results(), time.monotonic())


def mapped(arrays: Arrays, opened: Callable[[], AbstractContextManager[Any]], method: str) -> Checked:
    """Send them through a pool's or a Pipeline's method, with the chunk size it has by itself."""
    with opened() as workers:
        return arrays.time(getattr(workers, method)(noop, iter(arrays)), time.monotonic())


def systems(arrays: Arrays) -> dict[str, Callable[[], Checked]]:
    """Return what is run, by name."""
    return {
        "chain ipc": partial(chain, arrays, "ipc"),
        "chain tcp": partial(chain, arrays, "tcp"),
        "zpipe imap_unordered": partial(mapped, arrays, pools.pipeline, "imap_unordered"),
        "zpipe map": partial(mapped, arrays, pools.pipeline, "map"),
        "ProcessPoolExecutor map": partial(mapped, arrays, pools.executor, "map"),
        "Pool imap_unordered": partial(mapped, arrays, pools.pool, "imap_unordered"),
    }


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", mib=1024)
    where = harness.environment()
    rows, figures, ratios, noise = [["", "MiB/s (median)", "least", "greatest"]], {}, [], []
    for title, size in SIZES.items():
        rounds = harness.interleave(systems(Arrays(size, options.mib * MIB // size)), options)
        noise.append(rounds.noise())
        for name, runs in rounds.results.items():
            speed = figures[f"{title} {name}"] = harness.spread(run.more["MiB/s"] for run in runs)
            rows.append([f"{title}: {name}", *(f"{speed[key]:,.0f}" for key in ("median", "min", "max"))])
        for name in ("zpipe imap_unordered", "zpipe map"):
            for stick in ("chain ipc", "chain tcp"):
                ratio = harness.spread(harness.per_round(rounds.results[name], rounds.results[stick]))
                ratios.append((f"{title}: {name}", stick, ratio, "least", OF_CHAIN))
    text = "\n\n".join([harness.table(rows), harness.table(pools.targets(ratios)), "\n".join(noise)])
    compared = {f"{above} / {below}": ratio for above, below, ratio, *_ in ratios}
    harness.report(options, where, {"MiB/s": figures, "ratios": compared, "noise": noise}, text)


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        work(sys.argv[1], sys.argv[2])
    else:
        main()
