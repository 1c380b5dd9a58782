"""Sources pass over items that are done already: what comes next is what would have come, whatever was passed over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe import serialize
from zpipe.errors import SourceError
from zpipe.input.feeder import FeederSource
from zpipe.input.lines import LineSource, open_lines
from zpipe.input.sources import Batch, IterSource

COUNT = 300


def counted(stop: int = COUNT) -> Iterator[int]:
    """Numbers, one by one."""
    yield from range(stop)


def broken(at: int = 100) -> Iterator[int]:
    """Numbers, and an exception."""
    yield from range(at)
    raise OSError("no more of it")


def numbers(folder: Path, kind: Any, block: int = 100) -> LineSource:
    """The numbers as lines of a file, with blank ones between them if they are JSON."""
    path = folder / kind
    if not path.exists():
        path.write_text("".join(f"{n}\n" + "\n" * (kind == "json" and n % 3) for n in range(COUNT)))
    return open_lines(path, kind=kind, block=block)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "range": lambda _: IterSource(range(COUNT), "it"),
    "list": lambda _: IterSource(list(range(COUNT)), "it"),
    "generator": lambda _: IterSource(counted(), "it"),
    "set": lambda _: IterSource(dict.fromkeys(range(COUNT)), "it"),
    "feeder": lambda _: FeederSource(counted, "it", ahead=20),
    "feeder of a range": lambda _: FeederSource(lambda: range(COUNT), "it", ahead=20),
    "lines": lambda folder: numbers(folder, "lines"),
    "json lines": lambda folder: numbers(folder, "json"),
}


class Reader:
    """Asks a source for what is next until there is something."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.woken = threading.Event()
        source.start(self.woken.set)

    def until(self, ask: Callable[[], Any]) -> Any:
        """The first true answer, None at the end."""
        while not (answer := ask()) and not self.source.exhausted:
            assert self.woken.wait(30), "the source never said that there is more"
            self.woken.clear()
        return answer or None

    def take(self, most: int) -> list[int]:
        """The next items."""
        batch: Batch | None = self.until(lambda: self.source.take(most))
        if batch is None:
            return []
        if batch.kind == "pickle":
            return list(serialize.loads(batch.frames))
        return [int(line) for line in bytes(batch.frames[0]).split(b"\n")]

    def skip(self, count: int) -> int:
        """How many of so many were passed over; fewer only at the end."""
        left = count
        while left and (skipped := self.until(partial(self.source.skip, left))):
            assert skipped <= left
            left -= skipped
        return count - left


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 120)), max_size=8))
def test_what_comes_next_is_what_would_have_come(
    kind: str, steps: list[tuple[bool, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any mixture of taking and passing over, up to the end and beyond it."""
    source = MAKERS[kind](tmp_path_factory.mktemp("lines"))
    reader, at = Reader(source), 0
    try:
        for skip, count in steps:
            if skip:
                passed = reader.skip(count)
                assert passed == min(count, COUNT - at)
                at += passed
            else:
                items = reader.take(count)
                assert items == list(range(at, at + len(items)))
                assert bool(items) == (at < COUNT)
                at += len(items)
        assert source.remaining() in (None, COUNT - at) or not source.exact
        while items := reader.take(50):
            assert items == list(range(at, at + len(items)))
            at += len(items)
        assert at == COUNT
        assert source.exhausted
    finally:
        source.close()


@pytest.mark.parametrize("make", [lambda: IterSource(broken(), "it"), lambda: FeederSource(broken, "it", ahead=10)])
def test_a_source_that_fails_on_the_way(make: Callable[[], Any]) -> None:
    """Its exception is told with the place where it came, and what comes before it counts."""
    source = make()
    reader = Reader(source)
    try:
        with pytest.raises(SourceError, match="it failed at item 100: OSError: no more of it"):
            reader.skip(250)
    finally:
        source.close()


def test_a_source_that_is_closed_meanwhile() -> None:
    """The thread that passes over items looks whether it is still wanted."""
    begun = threading.Event()

    def endless() -> Iterator[int]:
        while True:
            begun.set()
            yield 1

    source = FeederSource(endless, "it", ahead=10)
    source.start(lambda: None)
    while not source.skip(10**12):
        assert begun.wait(30)
    source.skip(10**12)
    source.close()
    source._thread.join(30)
    assert not source._thread.is_alive()


def test_a_thread_that_rests_passes_over_items_all_the_same() -> None:
    """It has filled the queue since the one who takes found that empty, and gone to rest: it is woken."""
    begin = threading.Event()

    class Overtaken(FeederSource):
        def _pop(self, most: int) -> tuple[list[Any], bool]:
            found = super()._pop(most)
            if not begin.is_set():
                begin.set()
                deadline = time.monotonic() + 30
                while not self._full:
                    assert time.monotonic() < deadline, "the thread does not rest"
                    time.sleep(0.001)
            return found

    def gated() -> Iterator[int]:
        assert begin.wait(30)
        yield from range(COUNT)

    reader = Reader(Overtaken(gated, "it", ahead=20))
    assert reader.skip(250) == 250
    assert reader.take(1) == [250]
    reader.source.close()


def test_a_long_line_is_passed_over_in_blocks(tmp_path: Path) -> None:
    """A line longer than many blocks is one item."""
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 500_000 + b"\nnext\n")
    source = open_lines(path, block=100)
    source.start(lambda: None)
    assert source.skip(1) == 1
    batch = source.take(5)
    assert batch is not None
    assert bytes(batch.frames[0]) == b"next"
    source.close()
