"""Rows: chunks of one size, each small and quick, that travel as one. Must not know of lanes, sockets or tasks.

Each grain of a row is a chunk as the user knows it: it is pickled, run, lost, charged and told of by itself. Only what
has to be known of many alike is known of all of them at once: where they are, and since when.
"""

from __future__ import annotations

from collections.abc import Sequence

from zpipe.core.chunking import Chunker
from zpipe.core.wire import Buffer, Chunk, Result

__all__ = ["ROW", "ROW_BYTES", "ROW_SECONDS", "Grains", "grains_of", "quick", "results_of"]

ROW, ROW_BYTES = 64, 32_768
"""Grains of a row at most, and bytes of them."""

ROW_ITEMS = 512
"""Items of them at most: beside more of them what a chunk costs is nothing."""

ROW_SECONDS = 0.001
"""Seconds that a row is likely to take at most: so long may a worker be idle while another has one."""


def quick(chunker: Chunker) -> int:
    """Return how many chunks of a chunker's fixed size are quick and small enough, all together, to be a row."""
    size = chunker.fixed or 0
    return min(ROW, ROW_ITEMS // size, chunker.within(ROW_SECONDS, ROW_BYTES) // size) if size else 0


class Grains(list[Buffer]):
    """A payload in place of frames: those of several chunks or results of one size, a frame each."""


def grains_of(chunk: Chunk) -> list[tuple[int, int, int, bytes]]:
    """Return the grains of a row as (start, stop, items that are skipped ahead of them, payload)."""
    found, at, skip, grain = [], chunk.start, chunk.skip, chunk.grain
    for body in chunk.grains:
        stop = min(at + grain - skip, chunk.stop)
        found.append((at, stop, skip, body))
        at, skip = stop, 0
    return found


def results_of(result: Result, bodies: Sequence[Buffer]) -> list[tuple[Result, Sequence[Buffer], int]]:
    """Return the results of a row one by one, each with its payload and how many bytes that has."""
    grain = (result.stop - result.start) // len(bodies)
    seconds = result.seconds / len(bodies)
    found: list[tuple[Result, Sequence[Buffer], int]] = []
    for start, body in zip(range(result.start, result.stop, grain), bodies, strict=True):
        one = Result(result.job, result.lane, start, start + grain, result.attempt, seconds)
        found.append((one, (body,), len(body)))
    return found
