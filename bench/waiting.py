"""What do coroutine functions cost on the way through a pipeline, and a job without workers beside a plain loop?

Calls that wait for 10 ms and do nothing else, 100 at a time: by one worker of zpipe's, by zpipe in this process, by a
plain asyncio.gather with a semaphore, and by 100 threads of a pool. And calls that do nothing, in this process, beside
a plain for loop. Results are checked; starting and ending a pipeline is not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import harness
from harness import Checked, Tally
from tasks import noop

import zpipe

WAIT, AT_ONCE = 0.01, 100


async def nap(item: int) -> int:
    """Wait."""
    await asyncio.sleep(WAIT)
    return item


def sleep(item: int) -> int:
    """Wait, in a thread."""
    time.sleep(WAIT)
    return item


def checked(items: int, results: Iterable[int], began: float) -> Checked:
    """Return the items a second. Raises SystemExit unless the results are the items."""
    made = Tally(items)
    made.add(list(results))
    return made.check(time.monotonic() - began)


def piped(task: Callable[[int], Any], items: int, **how: Any) -> Checked:
    """Map by a pipeline that is warm."""
    with zpipe.Pipeline(concurrency=AT_ONCE, **how) as pipe:
        list(pipe.map(task, range(2 * AT_ONCE)))
        began = time.monotonic()
        return checked(items, pipe.map(task, range(items)), began)


def gathered(items: int) -> Checked:
    """By asyncio alone."""

    async def main() -> list[int]:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(item: int) -> int:
            async with room:
                return await nap(item)

        return await asyncio.gather(*map(one, range(items)))

    began = time.monotonic()
    return checked(items, asyncio.run(main()), began)


def threaded(items: int) -> Checked:
    """By threads."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.monotonic()
        return checked(items, pool.map(sleep, range(items)), began)


def looped(items: int) -> Checked:
    """By a for loop."""
    began = time.monotonic()
    return checked(items, [noop(item) for item in range(items)], began)


def main() -> None:
    """Run, compare, print."""
    options = harness.arguments(__doc__ or "", items=5_000, loop=1_000_000)
    where = harness.environment()
    systems = {
        "zpipe, one worker": partial(piped, nap, options.items, workers=1),
        "zpipe inline": partial(piped, nap, options.items, inline=True),
        "asyncio.gather": partial(gathered, options.items),
        "100 threads": partial(threaded, options.items),
        "zpipe inline, nothing to do": partial(piped, noop, options.loop, inline=True),
        "a for loop, nothing to do": partial(looped, options.loop),
    }
    rounds = harness.interleave(systems, options)
    rates = {name: harness.spread(run.rate for run in runs) for name, runs in rounds.results.items()}
    rows = [[name, *(f"{rate[key]:,.0f}" for key in ("median", "min", "max"))] for name, rate in rates.items()]
    text = harness.table([["", "items/s (median)", "least", "greatest"], *rows])
    harness.report(options, where, {"rates": rates, "noise": rounds.noise()}, f"{text}\n\n{rounds.noise()}")


if __name__ == "__main__":
    main()
