"""Measures a pipeline from its own ends: how much goes through at full load, and how long one item takes when idle.

The rule: a figure counts only if every result behind it is the right one, and nothing takes longer than it was given.
Each measurement has an equal share of the time, a part of which is its warm-up and its end, which don't count.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FuturesTimeoutError
from functools import partial
from importlib.metadata import version
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import zmq

from zpipe.api.maps import MapCall
from zpipe.api.pipeline import Pipeline
from zpipe.api.results import Results
from zpipe.broken import BrokenPipeline
from zpipe.core.chunking import Chunker
from zpipe.core.grains import Grains
from zpipe.errors import UsageError, ZpipeError
from zpipe.measuring.echo import echo
from zpipe.measuring.figures import Figures, RoundTrips, Throughput, round_trips, size_text
from zpipe.net import keys
from zpipe.nodes.started import cores

__all__ = [
    "END",
    "TRIPS",
    "WARM",
    "Mark",
    "Payloads",
    "Plan",
    "Tell",
    "await_workers",
    "environment",
    "measure",
    "run",
    "too_slow",
]

SHARE = 0.2
"""Seconds a measurement takes at least: with less, it would be all warm-up."""

WARM, END = 0.3, 0.9
"""Where in a measurement's share the warm-up ends, and where nothing more is sent."""

LARGEST = 128 << 20
"""Bytes of the largest payload: results of twice that fail."""

LARGEST_CHUNK = 256 << 20
"""Bytes of all payloads in a chunk, at most. One that is larger takes longer than anybody measures, and much memory."""

NUMBER = 8
"""Bytes that a payload of 0 takes there."""

DISTINCT, DISTINCT_BYTES = 32_768, 32 << 20
"""Different payloads, unless they take more than so many bytes; never less than two.

More than are in a chunk: an object that is in a pickle a second time takes next to nothing.
"""

BLOCK = 4096
"""Results that are taken and checked together, at most."""

SWIFT, SLOW = 0.002, 0.02
"""Seconds a block takes below which the next one is larger, or above which it is smaller."""

TRIPS = 10
"""Round trips before those that count."""

PATIENCE = 60.0
"""Seconds a pipeline's own workers have to come."""

MOMENT = 0.1
"""Seconds after which it is looked again whether anybody is left."""

REMIND = 5.0
"""Seconds after which it is said again what is being waited for."""

Tell = Callable[[str, bool], object]
"""Called with what is going on; True: it is to be read, and not only to be glanced at."""


class Plan(msgspec.Struct, frozen=True):
    """What is measured, in `seconds` in all: round trips for each payload (bytes), full load for each with each chunk.

    A payload of 0 stands for a whole number; a chunk of None for the pipeline's own choice. Raises UsageError.
    """

    seconds: float
    payloads: tuple[int, ...] = (0,)
    chunks: tuple[int | None, ...] = (None,)

    def __post_init__(self) -> None:
        if not self.payloads or not self.chunks:
            raise UsageError("nothing to measure: give at least one payload and one chunk size")
        if max(self.payloads) > LARGEST:
            raise UsageError(
                f"a payload of {size_text(max(self.payloads))} is too large: give {size_text(LARGEST)} at most"
            )
        chunk = max(chunk or 1 for chunk in self.chunks)
        if chunk * max(*self.payloads, NUMBER) > LARGEST_CHUNK:
            what = size_text(max(self.payloads)) if max(self.payloads) else "a number"
            raise UsageError(
                f"a chunk of {chunk:,} items of {what} is too large: give {size_text(LARGEST_CHUNK)} in all at most"
            )
        if self.seconds < self.count * SHARE - 1e-9:
            raise UsageError(
                f"{self.seconds:g} s are too few for {self.count} measurements: give {self.count * SHARE:.1f} at "
                "least, or fewer payloads or chunk sizes"
            )

    @property
    def count(self) -> int:
        """How many measurements that is."""
        return len(self.payloads) * (len(self.chunks) + 1)

    @property
    def share(self) -> float:
        """Seconds for each of them."""
        return self.seconds / self.count


class _Counted(MapCall):
    """A map with chunks of `size` items, that counts those that come back."""

    def __init__(self, size: int | None, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "chunker": Chunker(size)})
        self.came = (0, 0)
        """Chunks that have come back, and the items in them."""

    def arrived(self, start: int, count: int, found: Any, size: int) -> None:
        """Count a chunk's results, and take them."""
        chunks, items = self.came
        self.came = (chunks + (len(found) if isinstance(found, Grains) else 1), items + count)
        super().arrived(start, count, found, size)


class Payloads:
    """The items that are sent, and what must come back: item `n` of any size can be told from its neighbours.

    They are bytes, or as much `text`.
    """

    def __init__(self, size: int, *, text: bool = False) -> None:
        many = max(2, min(DISTINCT, DISTINCT_BYTES // max(size, 1)))
        whole: Any = os.urandom(size + many)
        if text:
            whole = whole.hex()
        self._made = [whole[n : n + size] for n in range(many)] if size else []
        self.size = size

    def __getitem__(self, n: int) -> Any:
        return self._made[n % len(self._made)] if self._made else n

    def until(self, end: float) -> Iterator[Any]:
        """Return items from the first on, without Python code for each, until it is `end`."""
        return chain.from_iterable(self._blocks(end))

    def _blocks(self, end: float) -> Iterator[Any]:
        start, size, now = 0, 1, time.monotonic()
        made = cycle(self._made)
        while now < end:
            yield islice(made, size) if self._made else range(start, start + size)
            start += size
            before, now = now, time.monotonic()
            size = _next_size(size, now - before)

    def check(self, start: int, found: list[Any]) -> None:
        """Raise ZpipeError unless these are the results from item `start` on."""
        if not self._made and found == list(range(start, start + len(found))):
            return
        for n, value in enumerate(found, start):
            if value != self[n]:
                raise ZpipeError(
                    f"wrong result: item {n} of {self.size or 'no'} bytes came back as {_shown(value)}, in place of "
                    f"{_shown(self[n])}; this is a bug of zpipe or a fault of the machine, and no figure is given"
                )


def run(
    plan: Plan,
    tell: Tell,
    *,
    workers: int | None = None,
    bind: str | None = None,
    key_file: str | None = None,
    insecure: bool = False,
    tcp: bool = False,
    curve: bool = False,
    wanted: int | None = None,
    heartbeat: float = 10.0,
) -> Figures:
    """Make a pipeline, wait for its workers, measure it.

    workers: processes of this machine (None: one a core, or with `bind` none). bind: where others may join, with the
    key of `key_file` or, if `insecure`, without one. tcp: reach this machine's over tcp; curve: so, with a key made for
    this. wanted: how many must be ready (None: this machine's, or one). Raises UsageError, and ZpipeError as `measure`
    does.
    """
    if workers is None:
        workers = cores() if bind is None else 0
    if not workers and bind is None:
        raise UsageError("--workers 0 leaves nobody to work; add --bind URL for workers elsewhere to join")
    wanted = wanted or workers or 1
    if bind is None and wanted > workers:
        raise UsageError(f"--wait-workers {wanted} can't come true with {workers} workers; add --bind URL")
    at = bind or ("tcp://127.0.0.1:0" if tcp or curve else None)
    with contextlib.ExitStack() as stack:
        if curve:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zpipe-bench-"))) / "key"
            keys.create(made)
            key_file = str(made)
        how: dict[str, Any] = {"key_file": key_file, "insecure": insecure, "heartbeat": heartbeat}
        pipe = stack.enter_context(Pipeline(workers=workers, bind=at, **how))
        if bind is not None:
            tell(f"listening; start workers with: {pipe._engine.worker_line}", True)
        await_workers(pipe, wanted, tell, patience=PATIENCE if bind is None else None)
        endpoint = "ipc" if pipe.url is None else f"{pipe.url}{' with a key' if curve else ''}"
        try:
            figures = measure(pipe, plan, tell, endpoint=endpoint)
        except ZpipeError:
            _end(pipe)
            raise
        _end(pipe)
        tell("", False)
    return figures


def _end(pipe: Pipeline) -> None:
    """Have what is under way come to its end, unless there is nobody left to bring it there."""
    engine = pipe._engine
    pipe.shutdown(wait=False, cancel_futures=True)
    while not engine.finished.wait(MOMENT):
        if engine.waits and not engine.workers:
            engine.abort("all workers are gone")
            break


def measure(pipe: Pipeline, plan: Plan, tell: Tell, *, endpoint: str = "") -> Figures:
    """Measure a pipeline whose workers are there. `tell` is called with what is being measured.

    Takes the plan's seconds at most, but for what was sent and is on its way. Raises ZpipeError if a result is wrong
    or none comes in time.
    """
    engine = pipe._engine
    began, workers, lost, where = time.monotonic(), engine.workers, engine.lost, environment()
    loads: list[Throughput] = []
    trips: list[RoundTrips] = []
    for payload in plan.payloads:
        payloads = Payloads(payload)
        name = size_text(payload) if payload else "numbers"
        tell(f"{name}: one there and back at a time", False)
        trips.append(_there_and_back(pipe, payloads, plan.share))
        for chunk in plan.chunks:
            tell(f"{name}: full load in chunks of {chunk or 'automatic size'}", False)
            loads.append(_full_load(pipe, payloads, chunk, plan.share))
    return Figures(
        where=where,
        endpoint=endpoint,
        workers=workers,
        workers_left=engine.workers,
        lost=engine.lost - lost,
        seconds=time.monotonic() - began,
        throughput=loads,
        round_trips=trips,
    )


def await_workers(pipe: Pipeline, wanted: int, tell: Tell, *, patience: float | None = PATIENCE) -> None:
    """Wait until so many workers are ready, saying so now and then. Raises ZpipeError after `patience` seconds."""
    began = said = time.monotonic()
    while (there := pipe.workers) < wanted:
        now = time.monotonic()
        if pipe._broken:
            raise BrokenPipeline("no worker can be kept alive; see above why")
        if patience is not None and now - began > patience:
            raise ZpipeError(f"{there} of {wanted} workers came in {patience:g} s: is this machine very busy?")
        if now - said >= REMIND:
            said = now
            start = f"; start them with: {pipe._engine.worker_line}" if pipe.url else ""
            tell(f"waiting for workers: {there} of {wanted} are ready{start}", True)
        time.sleep(0.01)


def environment() -> dict[str, Any]:
    """Return what figures depend on, as far as it can be told from here."""
    return {
        "zpipe": version("zpipe"),
        "python": platform.python_version(),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
    }


def _there_and_back(pipe: Pipeline, payloads: Payloads, share: float) -> RoundTrips:
    """Have items go there and back, one at a time."""
    began = time.monotonic()
    end, last = began + share * END, began + share
    took: list[float] = []
    trip = 0
    while time.monotonic() < end or not took:
        item = payloads[trip]
        before = time.perf_counter()
        try:
            value = pipe.submit(echo, item).result(max(0.0, last - time.monotonic()))
        except FuturesTimeoutError:
            if took:
                break
            raise too_slow(payloads.size, share) from None
        seconds = time.perf_counter() - before
        payloads.check(trip, [value])
        trip += 1
        if trip > TRIPS or time.monotonic() > end:
            took.append(seconds)
    return round_trips(payloads.size, took)


class Mark(msgspec.Struct, frozen=True):
    """How far it was at some time: results taken and checked, and chunks that have come, with the items in them."""

    at: float
    results: int = 0
    came: tuple[int, int] = (0, 0)


def _full_load(pipe: Pipeline, payloads: Payloads, chunk: int | None, share: float) -> Throughput:
    """Send as much as goes through, and see how much comes back between the warm-up and the end."""
    began = time.monotonic()
    warm, end = began + share * WARM, began + share * END
    call = pipe.start_map(echo, payloads.until(end), kind=partial(_Counted, chunk))
    assert isinstance(call, _Counted)
    zero = first = last = mark = Mark(began)
    results: Results[Any] = Results.of(call, "raise", share)
    with results:
        size = 1
        try:
            while block := list(islice(results, size)):
                payloads.check(mark.results, block)
                before, mark = mark, Mark(time.monotonic(), mark.results + len(block), call.came)
                size = _next_size(size, mark.at - before.at)
                if first.at < warm:
                    first = last = mark
                elif mark.at <= end or last is first:
                    last = mark
        except FuturesTimeoutError:
            pass  # what is still on its way is dropped
    if last is first:
        first = zero
    if last is zero:
        raise too_slow(payloads.size, share)
    items = last.results - first.results
    chunks, held = (then - before for before, then in zip(first.came, last.came, strict=True))
    return Throughput(
        payload=payloads.size,
        chunk=chunk,
        items=items,
        chunks=round(items * chunks / held) if held else 0,  # what has come may not have been taken yet
        seconds=last.at - first.at,
        checked=mark.results,
    )


def _next_size(size: int, seconds: float) -> int:
    """Return how large the next block is to be, when one of `size` took so long."""
    if seconds < SWIFT:
        return min(2 * size, BLOCK)
    return max(size // 2, 1) if seconds > SLOW else size


def too_slow(payload: int, share: float) -> ZpipeError:
    """Return the error for a measurement of `share` seconds in which nothing came back."""
    what = f"item of {size_text(payload)}" if payload else "item"
    return ZpipeError(f"not one {what} came back within {share:.1f} s: give more --seconds, or a smaller --payload")


def _shown(value: Any) -> str:
    text = repr(value if not isinstance(value, bytes) or len(value) <= 16 else value[:16])
    return text if len(text) <= 80 else f"{text[:80]}…"
