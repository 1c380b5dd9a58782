"""Where items come from: memory, files, pipes, and generators that block."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from collections import UserList, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count, cycle, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zpipe.errors import SourceError, UsageError
from zpipe.input import feeder, lines, sources
from zpipe.input.feeder import FeederSource, callable_source, glob_source
from zpipe.input.lines import Cutter, LineSource, open_lines
from zpipe.input.sources import Batch, IterSource, Source, parse_range
from zpipe.serialize import loads

DEADLINE = 60.0


def never() -> None:
    """Be the `wake` of a source that has no use for it."""
    raise AssertionError("woken, though nothing was waited for")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain for {what}"
        time.sleep(0.001)


def split(batch: Batch, separator: bytes = b"\n") -> list[bytes]:
    """Return a batch of lines as a worker would have them."""
    (frame,) = batch.frames
    found = bytes(frame).split(separator)
    assert len(found) == batch.count
    return found


def unpack(batch: Batch) -> list[Any]:
    """Return a pickled batch as a worker would have it."""
    assert batch.kind == "pickle"
    items = list(loads(batch.frames))
    assert len(items) == batch.count
    return items


def until_it_fails(
    take: Callable[[int], Batch | None], open_batch: Callable[[Batch], list[Any]]
) -> tuple[list[Any], SourceError]:
    """Return the items that come before a source's failure, and the failure."""
    items: list[Any] = []
    try:
        while (batch := take(3)) is not None:
            items += open_batch(batch)
    except SourceError as error:
        return items, error
    pytest.fail("the source did not fail")


def drain(source: Source, most: int = 3, open_batch: Callable[[Batch], list[Any]] = unpack) -> list[Any]:
    """Return all items of a source that never has to be waited for."""
    items: list[Any] = []
    while (batch := source.take(most)) is not None:
        assert 1 <= batch.count <= most
        items += open_batch(batch)
    assert source.exhausted
    assert source.remaining() == 0
    assert source.exact
    return items


@contextmanager
def stored(data: bytes, folder: Path, **options: Any) -> Iterator[LineSource]:
    """Give a started source of the lines of a file that holds `data`."""
    path = folder / "lines.txt"
    path.write_bytes(data)
    with closing(LineSource(path.open("rb", buffering=0), "lines.txt", **options)) as source:
        source.start(never)
        yield source


@contextmanager
def piped(**options: Any) -> Iterator[tuple[LineSource, Callable[[bytes], int], Callable[[], None]]]:
    """Give a started source of the lines of a pipe, and what writes to the pipe and what ends it."""
    reading, writing = os.pipe()
    ends = [writing]
    try:
        source = LineSource(reading, "pipe", **options)
        source.start(never)
        yield source, lambda data: os.write(writing, data), lambda: os.close(ends.pop())
        source.close()
    finally:
        os.close(reading)
        for end in ends:
            os.close(end)


def reference(data: bytes, separator: bytes) -> list[bytes]:
    """Return the items that `data` holds by definition."""
    found = data.split(separator)
    return found if found[-1] else found[:-1]


SEPARATORS = st.sampled_from([b"\n", b"\0", b"\r\n", b"\n\n", b"aa", b"aba", b"ab"])
TEXTS = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r\n", b"\0", b" ", b"xyz", b"a" * 40]), max_size=80).map(
    b"".join
)
MOSTS = st.lists(st.integers(1, 50), min_size=1, max_size=8)


class Watched(bytearray):
    """Knows how often and how far it was searched by counting."""

    looked = times = 0

    def count(self, sub: bytes, start: int, end: int) -> int:  # type: ignore[override]
        """Count as ever."""
        self.looked += max(0, min(end, len(self)) - start)
        self.times += 1
        return super().count(sub, start, end)


class TestCutting:
    """Lines come out whole, whatever the blocks and the batches are."""

    @settings(max_examples=400, deadline=None)
    @given(data=TEXTS | st.binary(max_size=300), separator=SEPARATORS, block=st.integers(1, 64), mosts=MOSTS)
    def test_gives_back_what_split_does(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes, separator: bytes, block: int, mosts: list[int]
    ) -> None:
        """Any bytes, separator, block size and run of batch sizes give the items of data.split(separator)."""
        wanted = reference(data, separator)
        found: list[bytes] = []
        turn = cycle(mosts)
        with stored(data, tmp_path_factory.getbasetemp(), separator=separator, block=block) as source:
            while (batch := source.take(most := next(turn))) is not None:
                assert 1 <= batch.count <= most
                assert batch.kind == "lines"
                # Each batch says as many items as it holds, which joining makes visible.
                found.append(bytes(batch.frames[0]))
                wanted_now, wanted = wanted[: batch.count], wanted[batch.count :]
                assert found[-1] == separator.join(wanted_now)
                if source.exact:
                    assert source.remaining() == len(wanted)
            assert not wanted
            assert source.exhausted

    @settings(max_examples=200, deadline=None)
    @given(
        data=TEXTS, separator=st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\0"]), block=st.integers(1, 64), mosts=MOSTS
    )
    def test_json_drops_blank_lines_only(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes, separator: bytes, block: int, mosts: list[int]
    ) -> None:
        """Of kind json, what is left are the lines that are more than whitespace, as they are."""
        wanted = [line for line in reference(data, separator) if line.strip()]
        turn = cycle(mosts)
        with stored(data, tmp_path_factory.getbasetemp(), separator=separator, kind="json", block=block) as source:
            while (batch := source.take(next(turn))) is not None:
                assert batch.kind == "json"
                wanted_now, wanted = wanted[: batch.count], wanted[batch.count :]
                assert bytes(batch.frames[0]) == separator.join(wanted_now)
                if source.exact:
                    assert source.remaining() == len(wanted)
            assert not wanted
            assert source.exhausted

    @pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\n\n"])
    @pytest.mark.parametrize("shape", ["even", "varied", "long ones last", "long ones first", "one in the middle"])
    def test_finds_the_nth_of_many(self, separator: bytes, shape: str) -> None:
        """The n-th separator among thousands is found, however uneven the lines are."""
        draw = random.Random(shape)
        sizes = {
            "even": [7] * 3000,
            "varied": [draw.choice([0, 1, 30, 900]) for _ in range(3000)],
            "long ones last": [1] * 2900 + [5000] * 100,
            "long ones first": [5000] * 100 + [1] * 2900,
            "one in the middle": [0] * 1500 + [100_000] + [0] * 1499,
        }[shape]
        ends, buffer = [0], bytearray()
        for size in sizes:
            buffer += b"x" * size + separator
            ends.append(len(buffer))
        cutter = Cutter(separator)
        for n in [*range(1, 40), 1400, 1499, 1500, 1501, 2899, 2999, 3000]:
            for first in (0, 1, 100, 1490):
                wanted = min(n, 3000 - first)
                assert cutter.upto(buffer, ends[first], ends[-1], n) == (wanted, ends[first + wanted])

    @settings(max_examples=300, deadline=None)
    @given(
        runs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=12),
        separator=SEPARATORS,
        mean=st.floats(0.5, 300),
        n=st.integers(1, 500),
    )
    @example(runs=[(40, 0)], separator=b"\r\n", mean=1.91, n=41)  # the guess is within the last separator
    def test_finds_the_nth_whatever_it_guesses(
        self, runs: list[tuple[int, int]], separator: bytes, mean: float, n: int
    ) -> None:
        """Runs of lines of any length and any first guess give the same as splitting; the guess only costs time."""
        buffer = bytearray(b"".join((b"-" * size + separator) * many for many, size in runs))
        lines_there = bytes(buffer).split(separator)[:-1]
        wanted = min(n, len(lines_there))
        end = sum(map(len, lines_there[:wanted])) + wanted * len(separator)
        cutter = Cutter(separator)
        cutter._mean = mean
        assert cutter.upto(buffer, 0, len(buffer), n) == (wanted, end)

    @pytest.mark.parametrize(
        ("text", "n", "mean"),
        [
            (b"\n" * 5000 + b"x" * 1_000_000 + b"\n", 4990, 64.0),
            (b"x" * 1_000_000 + b"\n" * 5000, 4990, 64.0),
            (b"\n" * 1000 + b"x" * 1_000_000 + b"\n" * 100, 1050, 1.0),
        ],
        ids=["dense first", "dense last", "a gap"],
    )
    def test_finds_the_nth_in_few_looks(self, text: bytes, n: int, mean: float) -> None:
        """However wrong the first guess is, few guesses and a small multiple of the bytes there are do."""
        buffer = Watched(text)
        cutter = Cutter(b"\n")
        cutter._mean = mean
        assert cutter.upto(buffer, 0, len(buffer), n)[0] == n
        assert buffer.looked < 5 * len(buffer)
        assert buffer.times < 100

    def test_small_batches_look_at_little(self) -> None:
        """Taking few lines of a full block does not count the whole block each time."""
        buffer = Watched(b"abcdefg\n" * 100_000)
        cutter, at = Cutter(b"\n"), 0
        for _ in range(1000):
            got, at = cutter.upto(buffer, at, len(buffer), 100)
            assert got == 100
        assert at == len(buffer)
        assert buffer.looked < 3 * len(buffer)


class TestRegularFile:
    """A file is read in blocks, and never waited for."""

    @pytest.mark.parametrize(
        ("data", "wanted"),
        [
            (b"", []),
            (b"\n", [b""]),
            (b"a", [b"a"]),
            (b"a\n", [b"a"]),
            (b"a\n\nb", [b"a", b"", b"b"]),
            (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
            (b"\n\n\n", [b"", b"", b""]),
            (b"\xff\xfe\n\x80", [b"\xff\xfe", b"\x80"]),
        ],
    )
    def test_what_a_line_is(self, tmp_path: Path, data: bytes, wanted: list[bytes]) -> None:
        """Blank lines and an unfinished last one are items; carriage returns and undecodable bytes stay."""
        with stored(data, tmp_path) as source:
            assert drain(source, 2, split) == wanted

    def test_knows_a_short_file_from_the_start(self, tmp_path: Path) -> None:
        """The end of a file that fits in a block is seen before anything is taken."""
        with stored(b"1\n2\n3", tmp_path) as source:
            assert (source.remaining(), source.exact, source.exhausted) == (3, True, False)
            assert source.take(2) is not None
            assert (source.remaining(), source.exact, source.exhausted) == (1, True, False)
            assert source.take(2) is not None
            assert (source.remaining(), source.exact, source.exhausted) == (0, True, True)

    def test_knows_an_empty_file_from_the_start(self, tmp_path: Path) -> None:
        """An empty file is exhausted at once."""
        with stored(b"", tmp_path) as source:
            assert (source.remaining(), source.exact, source.exhausted) == (0, True, True)
            assert source.take(1) is None

    def test_estimates_what_remains_of_a_long_file(self, tmp_path: Path) -> None:
        """Before the end is seen, what remains is estimated from bytes, and it is exact a block before the end."""
        with stored(b"12345678\n" * 10_000, tmp_path, block=1024) as source:
            assert source.remaining() == 10_000
            assert not source.exact
            left = 10_000
            while (batch := source.take(100)) is not None:
                left -= batch.count
                assert source.remaining() == left
            assert (left, source.exact) == (0, True)

    def test_estimates_with_blank_lines_in_mind(self, tmp_path: Path) -> None:
        """Blank lines that are skipped count for the mean length of items."""
        with stored(b"[12345]\n\n        \n" * 10_000, tmp_path, block=1024, kind="json") as source:
            for _ in range(20):
                assert source.take(100) is not None
            assert not source.exact
            assert 7000 <= (source.remaining() or 0) <= 8400

    def test_is_exact_about_a_block_before_the_end(self, tmp_path: Path) -> None:
        """The end is seen when less than a block is left to take."""
        with stored(b"".join(b"%d\n" % i for i in range(5000)), tmp_path, block=1000) as source:
            while not source.exact:
                assert source.take(10) is not None
            assert 100 <= (source.remaining() or 0) <= 400

    def test_guesses_nothing_from_no_line(self, tmp_path: Path) -> None:
        """Without a whole line there is nothing to estimate from."""
        with stored(b"x" * 100, tmp_path, block=10) as source:
            assert source.remaining() is None
            assert not source.exact

    def test_fills_a_batch_from_many_blocks(self, tmp_path: Path) -> None:
        """A batch is as large as asked for, though no block holds as much."""
        with stored(b"".join(b"%d\n" % i for i in range(1000)), tmp_path, block=16) as source:
            batch = source.take(900)
            assert batch is not None
            assert split(batch) == [b"%d" % i for i in range(900)]

    def test_bounds_a_batch_in_bytes(self, tmp_path: Path) -> None:
        """Long lines are handed out in fewer than asked for, but at least one."""
        with stored((b"x" * 999 + b"\n") * 100, tmp_path, block=1000, batch_bytes=5000) as source:
            batch = source.take(100)
            assert batch is not None
            assert batch.count == 5
        with stored((b"x" * 999 + b"\n") * 10, tmp_path, block=100, batch_bytes=10) as source:
            assert [len(line) for line in drain(source, 100, split)] == [999] * 10

    def test_starts_where_the_descriptor_stands(self, tmp_path: Path) -> None:
        """A descriptor that is part way into its file goes on from there, and its estimate with it."""
        path = tmp_path / "file"
        path.write_bytes(b"12345\n" * 1000)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.lseek(fd, 600 * 6, os.SEEK_SET)
            source = LineSource(fd, "file", block=100)
            source.start(never)
            assert source.remaining() == 400
            assert len(drain(source, 1000, split)) == 400
            source.close()
            os.fstat(fd)  # a descriptor is not ours to close
        finally:
            os.close(fd)

    def test_never_waits(self, tmp_path: Path) -> None:
        """There is no descriptor to wait on for a regular file."""
        with stored(b"a\nb\n", tmp_path, block=1) as source:
            assert source.fileno() is None

    def test_refuses_a_line_that_is_too_long(self, tmp_path: Path) -> None:
        """The lines before are handed out, then the error names file, line, length and separator, again and again."""
        with stored(b"1\n2\n" + b"x" * 101 + b"\n3\n", tmp_path, block=10, max_line=100) as source:
            found = []
            for _ in range(2):
                batch = source.take(1)
                assert batch is not None
                found += split(batch)
            assert found == [b"1", b"2"]
            for _ in range(2):
                with pytest.raises(SourceError, match=r"lines\.txt: line 3 is longer than 100 bytes .*b'\\n'"):
                    source.take(1)
            assert not source.exhausted
            assert not source.exact

    def test_takes_a_line_that_is_just_short_enough(self, tmp_path: Path) -> None:
        """The bound is on the line without its separator."""
        line = b"x" * 100
        for separator, block in product((b"\n", b"\r\n"), (1, 7, 100)):
            with stored(line + separator + line, tmp_path, block=block, max_line=100, separator=separator) as source:
                assert drain(source, 1, lambda batch: [bytes(batch.frames[0])]) == [line, line]

    @settings(max_examples=100, deadline=None)
    @given(sizes=st.lists(st.integers(0, 30), max_size=20), block=st.integers(1, 100), limit=st.integers(1, 30))
    def test_refuses_exactly_the_lines_that_are_too_long(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], block: int, limit: int
    ) -> None:
        """Whatever the blocks, the first line beyond the bound is refused and none before it."""
        good = next((i for i, size in enumerate(sizes) if size > limit), None)
        data = b"".join(b"x" * size + b"\n" for size in sizes)
        with stored(data, tmp_path_factory.getbasetemp(), block=block, max_line=limit) as source:
            if good is None:
                assert [len(line) for line in drain(source, 4, split)] == sizes
                return
            found, error = until_it_fails(source.take, split)
            assert f"line {good + 1} is longer" in str(error)
            assert [len(line) for line in found] == sizes[:good]

    def test_counts_blank_lines_in_the_number_of_a_line(self, tmp_path: Path) -> None:
        """The number an error gives is the one an editor shows, blank lines included."""
        with stored(b"1\n\n \n2\n" + b"x" * 50, tmp_path, block=8, max_line=20, kind="json") as source:
            assert source.take(1) is not None
            assert source.take(1) is not None
            with pytest.raises(SourceError, match="line 5 is longer"):
                source.take(1)

    def test_says_where_reading_failed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was read before a failure is handed out, then the error names the file, the line and the reason."""
        real, calls = os.read, count()

        def read(fd: int, size: int) -> bytes:
            if next(calls) == 2:
                raise OSError(5, "Input/output error")
            return real(fd, size)

        monkeypatch.setattr("zpipe.input.lines.os.read", read)
        with stored(b"1\n2\n3\n4\n5\n6\n", tmp_path, block=4) as source:
            batch = source.take(10)
            assert batch is not None
            assert split(batch) == [b"1", b"2", b"3", b"4"]
            with pytest.raises(SourceError, match=r"lines\.txt: reading failed at line 5: Input/output error"):
                source.take(10)
            assert not source.exhausted

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        """Reading 32 MiB through blocks of 64 KiB holds a few blocks at a time."""
        path = tmp_path / "long"
        path.write_bytes(b"0123456789abcde\n" * (2 * 1024 * 1024))
        with closing(open_lines(path, block=65536)) as source:
            tracemalloc.start()
            source.start(never)
            total = 0
            while (batch := source.take(1000)) is not None:
                total += batch.count
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert total == 2 * 1024 * 1024
        assert peak < 8 * 65536

    def test_nothing_comes_after_closing(self, tmp_path: Path) -> None:
        """A closed source is exhausted, its file is closed, and it can be closed again."""
        path = tmp_path / "file"
        path.write_bytes(b"1\n2\n3\n")
        file = path.open("rb", buffering=0)
        source = LineSource(file, "file")
        source.start(never)
        assert source.take(1) is not None
        source.close()
        source.close()
        assert file.closed
        assert source.take(1) is None
        assert (source.exhausted, source.remaining(), source.exact) == (True, 0, True)

    def test_refuses_an_empty_separator(self, tmp_path: Path) -> None:
        """Without a separator there are no lines; the file is not left open."""
        path = tmp_path / "file"
        path.write_bytes(b"1\n")
        with pytest.raises(UsageError, match="empty separator"):
            open_lines(path, b"")


class TestPipe:
    """Lines that trickle in are handed out at once; nothing is waited for."""

    def test_hands_out_what_trickles_in(self) -> None:
        """Each whole line can be taken as soon as it was written, and a part of one can't."""
        with piped() as (source, write, end):
            assert source.take(10) is None
            assert not source.exhausted
            write(b"one\ntw")
            batch = source.take(10)
            assert batch is not None
            assert split(batch) == [b"one"]
            assert source.take(10) is None
            write(b"o\nthree")
            batch = source.take(10)
            assert batch is not None
            assert split(batch) == [b"two"]
            assert source.remaining() is None
            assert not source.exact
            end()
            batch = source.take(10)
            assert batch is not None
            assert split(batch) == [b"three"]
            assert source.exhausted

    def test_gives_its_descriptor_to_wait_on(self) -> None:
        """Waiting on the descriptor ends when there is something to take, and there is none after the end."""
        reading, writing = os.pipe()
        with closing(LineSource(open(reading, "rb", buffering=0), "pipe")) as source:
            source.start(never)
            assert source.fileno() == reading
            os.close(writing)
            assert source.take(1) is None
            assert source.exhausted
            assert source.fileno() is None

    def test_sees_the_end_without_being_asked_again(self) -> None:
        """When the writer has gone, taking the last item tells that it was the last, and how many are left before."""
        with piped() as (source, write, end):
            write(b"1\n2\n3\n")
            end()
            assert source.take(1) is not None
            assert (source.remaining(), source.exact) == (2, True)
            assert source.take(2) is not None
            assert source.exhausted

    def test_fills_a_batch_with_all_that_is_there(self) -> None:
        """A batch takes in several blocks if they can be read without waiting."""
        with piped(block=8) as (source, write, _):
            write(b"".join(b"%d\n" % i for i in range(1000)))
            batch = source.take(2000)
            assert batch is not None
            assert split(batch) == [b"%d" % i for i in range(1000)]

    def test_reads_about_a_block_ahead_of_an_endless_stream(self) -> None:
        """A writer that never stops is held back: no more is read than was taken, and a block or two."""
        block, taken, written, stop = 1024, 0, 0, threading.Event()

        def write(fd: int) -> None:
            nonlocal written
            with open(fd, "wb", buffering=0) as file, suppress(BrokenPipeError):
                while not stop.is_set():
                    written += file.write(b"0123456\n" * 512) or 0

        def take() -> int:
            nonlocal taken
            batch = source.take(100)
            taken += 8 * batch.count if batch is not None else 0
            assert len(source._buffer) <= 4 * block
            return taken

        reading, writing = os.pipe()
        thread = threading.Thread(target=write, args=(writing,))
        source = LineSource(os.fdopen(reading, "rb", buffering=0), "pipe", block=block)
        source.start(never)
        thread.start()
        try:
            until(lambda: take() > 100 * block, "the writer")
            assert written - taken < 64 * 1024 + 8192 + 4 * block
        finally:
            stop.set()
            source.close()
            thread.join(DEADLINE)
        assert not thread.is_alive()

    def test_refuses_an_endless_line(self) -> None:
        """A line without an end is given up on at the bound, though the pipe goes on."""
        with piped(max_line=1000, block=100) as (source, write, _):
            write(b"fine\n" + b"x" * 2000)
            assert source.take(1) is not None
            with pytest.raises(SourceError, match=r"pipe: line 2 is longer than 1,000 bytes"):
                source.take(1)

    def test_reads_a_socket(self) -> None:
        """A socket is as good as a pipe."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            source = LineSource(ours.fileno(), "socket")
            source.start(never)
            assert source.take(1) is None
            theirs.sendall(b"a\nb\n")
            theirs.shutdown(socket.SHUT_WR)
            assert drain(source, 5, split) == [b"a", b"b"]

    def test_survives_a_descriptor_that_is_not_ready_after_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If somebody else was quicker to read, there is nothing now, which is no failure."""

        def read(fd: int, size: int) -> bytes:
            raise BlockingIOError

        with piped() as (source, write, _):
            write(b"1\n")
            with monkeypatch.context() as patch:
                patch.setattr("zpipe.input.lines.os.read", read)
                assert source.take(1) is None
            assert not source.exhausted
            assert source.take(1) is not None


class TestOpening:
    """What can't be read is refused by name, before anything runs."""

    def test_opens_a_file(self, tmp_path: Path) -> None:
        """A path gives its lines."""
        path = tmp_path / "file"
        path.write_bytes(b'{"a": 1}\n\n[2]\n')
        with closing(open_lines(path, kind="json")) as source:
            source.start(never)
            assert drain(source, 5, split) == [b'{"a": 1}', b"[2]"]

    def test_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """The message has the path, the reason and what to do."""
        with pytest.raises(UsageError, match=r"can't read items from .*nothing-here: No such file.*: check the path"):
            open_lines(tmp_path / "nothing-here")

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        """A folder has no lines; the message says how to get at its files."""
        with pytest.raises(UsageError, match=r"Is a directory: .*'folder/\*\*'"):
            open_lines(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_refuses_a_file_it_may_not_read(self, tmp_path: Path) -> None:
        """Missing permission is said."""
        path = tmp_path / "secret"
        path.write_bytes(b"")
        path.chmod(0)
        with pytest.raises(UsageError, match=r"secret: Permission denied: ask for leave"):
            open_lines(path)

    def test_says_what_to_do_about_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The mend for missing permission is not to check the path."""

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("zpipe.input.lines._open_without_waiting", refuse)
        with pytest.raises(UsageError, match=r"secret: Permission denied: ask for leave"):
            open_lines(tmp_path / "secret")

    def test_refuses_a_path_that_can_be_none(self) -> None:
        """A path with a zero byte is a usage error as well."""
        with pytest.raises(UsageError, match="null"):
            open_lines("a\0b")

    def test_does_not_wait_for_the_writer_of_a_named_pipe(self, tmp_path: Path) -> None:
        """Opening a named pipe comes back at once, and its lines come when somebody writes."""
        path = tmp_path / "fifo"
        os.mkfifo(path)
        with closing(open_lines(path)) as source:
            source.start(never)
            assert source.take(1) is None
            assert not source.exhausted
            with path.open("wb", buffering=0) as file:
                file.write(b"late\n")
            assert drain(source, 5, split) == [b"late"]

    def test_reads_standard_input(self) -> None:
        """A dash is standard input, a pipe here, and it is left open."""
        code = """
            import os
            from zpipe.input.lines import open_lines
            source = open_lines("-")
            source.start(lambda: None)
            while not source.exhausted:
                batch = source.take(2)
                if batch is not None:
                    print(batch.count, bytes(batch.frames[0]))
            source.close()
            os.fstat(0)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], input=b"a\nb\nc\n", capture_output=True, timeout=DEADLINE
        )
        assert done.stderr == b""
        assert done.stdout.split(b"\n") == [b"2 b'a\\nb'", b"1 b'c'", b""]

    def test_refuses_standard_input_that_is_closed(self) -> None:
        """A process without standard input is told so."""
        code = "from zpipe.input.lines import open_lines\nopen_lines('-')"
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, code], capture_output=True, timeout=DEADLINE
        )
        assert b"can't read items from standard input: Bad file descriptor: pipe something in" in done.stderr


class Odd:
    """Can't be pickled, and says why."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("too odd")


class Lazy:
    """A sequence by its methods alone."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < 4:
            raise IndexError
        return place * place


class Countdown:
    """An iterator that can be weakly referred to."""

    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if not self.items:
            raise StopIteration
        return self.items.pop()


class TestIterSource:
    """Items that are in memory, or as good as."""

    @pytest.mark.parametrize(
        ("iterable", "wanted"),
        [
            ([1, "two", None], [1, "two", None]),
            ((1, 2, 3, 4), [1, 2, 3, 4]),
            (range(7), list(range(7))),
            (range(9, 0, -2), [9, 7, 5, 3, 1]),
            ("abcd", list("abcd")),
            (b"abcd", list(b"abcd")),
            ({1: 2, 3: 4, 5: 6}, [1, 3, 5]),
            (deque([1, 2, 3, 4]), [1, 2, 3, 4]),
            (UserList([1, 2, 3, 4]), [1, 2, 3, 4]),
            (memoryview(b"abcd"), list(b"abcd")),
            (Lazy(), [0, 1, 4, 9]),
            ([], []),
            (range(0), []),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_gives_the_items_of_what_has_a_length(self, iterable: Any, wanted: list[Any]) -> None:
        """Each kind of collection gives its items in order, and knows how many are left."""
        source = IterSource(iterable, "items")
        source.start(never)
        assert source.fileno() is None
        found: list[Any] = []
        assert (source.remaining(), source.exact, source.exhausted) == (len(wanted), True, not wanted)
        while (batch := source.take(3)) is not None:
            found += unpack(batch)
            assert (source.remaining(), source.exact) == (len(wanted) - len(found), True)
            assert source.exhausted == (len(found) == len(wanted))
        assert found == wanted
        assert source.exhausted

    def test_gives_the_items_of_a_generator(self) -> None:
        """A generator's end is known when it was seen."""
        source = IterSource((i for i in range(7)), "items")
        assert (source.remaining(), source.exact) == (None, False)
        assert drain(source, 3) == list(range(7))

    def test_takes_no_more_than_it_hands_out(self) -> None:
        """An endless generator is read as far as items are taken."""
        numbers = count()
        source = IterSource(numbers, "items")
        batch = source.take(5)
        assert batch is not None
        assert unpack(batch) == [0, 1, 2, 3, 4]
        assert next(numbers) == 5

    def test_never_spells_out_a_range(self) -> None:
        """A range of 10^15 items travels as ranges."""
        source = IterSource(range(10**15), "items")
        batch = source.take(10**12)
        assert batch is not None
        assert batch.count == 10**12
        assert loads(batch.frames) == range(10**12)
        assert len(bytes(batch.frames[0])) < 200
        batch = source.take(10)
        assert batch is not None
        assert loads(batch.frames) == range(10**12, 10**12 + 10)
        assert source.remaining() == 10**15 - 10**12 - 10

    def test_refuses_more_items_than_can_be_counted(self) -> None:
        """A range beyond 2^63 is refused rather than miscounted."""
        with pytest.raises(UsageError, match="several jobs"):
            IterSource(range(2**64), "items")

    def test_large_buffers_travel_out_of_band(self) -> None:
        """A batch may have more frames than one."""
        import pickle

        source = IterSource([pickle.PickleBuffer(bytearray(b"x" * 10_000))], "items")
        batch = source.take(1)
        assert batch is not None
        assert len(batch.frames) == 2

    def test_a_length_that_is_wrong_loses_nothing(self) -> None:
        """An iterable that has more or fewer items than it says gives those it has."""

        class Liar:
            def __init__(self, says: int) -> None:
                self.says = says

            def __len__(self) -> int:
                return self.says

            def __iter__(self) -> Iterator[int]:
                return iter(range(5))

        for says in (0, 3, 5, 9):
            for most in (1, 2, 3):
                source = IterSource(Liar(says), "items")
                source.start(never)
                assert drain(source, most) == [0, 1, 2, 3, 4]
        source = IterSource(Liar(1), "items")
        assert source.take(2) is not None
        assert (source.remaining(), source.exact) == (None, False)

    def test_a_length_that_is_not_known_is_none(self) -> None:
        """A __len__ that raises means no length, as some data loaders do it."""

        class Shy:
            def __len__(self) -> int:
                raise TypeError("streaming")

            def __iter__(self) -> Iterator[int]:
                return iter([1])

        source = IterSource(Shy(), "items")
        assert source.remaining() is None
        assert drain(source) == [1]

    def test_refuses_what_can_not_be_iterated(self) -> None:
        """The message names the source and the type."""
        with pytest.raises(UsageError, match="numbers: items can't be taken from a int"):
            IterSource(3, "numbers")  # type: ignore[arg-type]

    def test_names_the_item_that_can_not_be_pickled(self) -> None:
        """The items before it are handed out, then the error says which item it is, its type and the reason."""
        for iterable in ([0, 1, 2, 3, Odd(), 5], iter([0, 1, 2, 3, Odd(), 5])):
            source = IterSource(iterable, "items")
            found: list[int] = []
            for _ in range(2):
                batch = source.take(3)
                assert batch is not None
                found += unpack(batch)
            assert found == [0, 1, 2, 3]
            for _ in range(2):
                with pytest.raises(SourceError, match=r"items: item 4, of type test_sources\.Odd.*ValueError: too odd"):
                    source.take(3)
            assert not source.exhausted
            assert not source.exact

    def test_says_so_if_only_the_whole_batch_can_not_be_pickled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Items that fail together but not alone are named as a run."""
        real = sources.dumps

        def dumps(value: Any) -> Any:
            if isinstance(value, list):
                raise MemoryError
            return real(value)

        monkeypatch.setattr(sources, "dumps", dumps)
        with pytest.raises(SourceError, match=r"items 0 to 2 can't be sent.*MemoryError"):
            IterSource([1, 2, 3], "items").take(5)

    def test_says_where_a_generator_failed(self) -> None:
        """The items before the exception are handed out, then it comes out with its traceback."""

        def items() -> Iterator[int]:
            yield from range(5)
            raise KeyError("lost")

        source = IterSource(items(), "items")
        found: list[int] = []
        for _ in range(2):
            batch = source.take(3)
            assert batch is not None
            found += unpack(batch)
        assert found == [0, 1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(SourceError, match=r"items failed at item 5: KeyError: 'lost'.*") as caught:
                source.take(3)
            assert 'raise KeyError("lost")' in str(caught.value)
            assert isinstance(caught.value.__cause__, KeyError)
        assert not source.exhausted
        assert not source.exact

    def test_nothing_comes_after_closing(self) -> None:
        """A closed source is exhausted and can be closed again."""
        for kind in (UserList, Countdown):
            iterable = kind([3, 2, 1])
            gone = weakref.ref(iterable)
            source = IterSource(iterable, "items")
            del iterable
            assert source.take(1) is not None
            source.close()
            source.close()
            assert source.take(1) is None
            assert (source.exhausted, source.remaining()) == (True, 0)
            assert gone() is None


class Feed:
    """A FeederSource that is waited for, and its wake-ups counted."""

    def __init__(self, factory: Callable[[], Any], ahead: int = 10_000) -> None:
        self.wakes = 0
        self.woken = threading.Event()
        self.source = FeederSource(factory, "feed", ahead)
        self.source.start(self.wake)

    def wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def take(self, most: int = 3) -> Batch | None:
        """Return the next batch, waiting for it by `wake` alone; None at the end."""
        while (batch := self.source.take(most)) is None and not self.source.exhausted:
            assert self.woken.wait(DEADLINE), "the source did not wake its taker"
            self.woken.clear()
        return batch

    def rest(self, most: int = 3) -> list[Any]:
        """Return all items."""
        found: list[Any] = []
        while (batch := self.take(most)) is not None:
            assert batch.count <= most
            found += unpack(batch)
        return found


@pytest.fixture
def feed() -> Iterator[Callable[..., Feed]]:
    """Make Feeds, which are closed at the end and leave no thread."""
    made: list[Feed] = []

    def make(factory: Callable[[], Any], ahead: int = 10_000) -> Feed:
        made.append(Feed(factory, ahead))
        return made[-1]

    yield make
    for one in made:
        one.source.close()
        until(lambda one=one: not one.source._thread.is_alive(), "a source's thread to end")


class TestFeederSource:
    """Items that have to be waited for, by a thread."""

    @pytest.mark.parametrize("ahead", [1, 2, 7, 10_000])
    @pytest.mark.parametrize("most", [1, 3, 100_000])
    def test_gives_all_items_in_order(self, feed: Callable[..., Feed], ahead: int, most: int) -> None:
        """Whatever the bounds, every item comes once and in order, and the taker is woken whenever it has to be."""
        one = feed(lambda: (i for i in range(2000)), ahead)
        assert one.rest(most) == list(range(2000))
        assert one.source.exhausted
        assert (one.source.remaining(), one.source.exact) == (0, True)

    def test_does_not_wait_for_a_generator_that_blocks(self, feed: Callable[..., Feed]) -> None:
        """Taking comes back with what there is, and the next item wakes the taker, once."""
        gate = threading.Semaphore(0)

        def items() -> Iterator[int]:
            for i in count():
                assert gate.acquire(timeout=DEADLINE)
                if i == 3:
                    return
                yield i

        one = feed(items)
        assert one.source.fileno() is None
        for i in range(3):
            assert one.source.take(10) is None
            assert not one.source.exhausted
            assert one.wakes == i
            gate.release()
            batch = one.take(10)
            assert batch is not None
            assert unpack(batch) == [i]
            assert one.wakes == i + 1
        assert one.source.take(10) is None
        gate.release()
        assert one.take() is None
        assert one.source.exhausted

    def test_wakes_only_a_taker_that_found_nothing(self, feed: Callable[..., Feed]) -> None:
        """Items that come while others wait make no wake-up; only the end does."""
        one = feed(lambda: iter(range(1000)))
        until(lambda: one.wakes == 1, "the end")
        assert len(one.rest(10)) == 1000
        assert one.wakes == 1

    def test_the_end_of_nothing_wakes(self, feed: Callable[..., Feed]) -> None:
        """A taker that has not asked yet hears that there will be no items."""
        one = feed(lambda: iter(()))
        until(lambda: one.wakes == 1, "the end")
        assert one.source.exhausted

    def test_wakes_once_until_asked_again(self, feed: Callable[..., Feed]) -> None:
        """A taker that was woken and has not come yet is not woken again."""
        gate = threading.Event()

        def items() -> Iterator[int]:
            assert gate.wait(DEADLINE)
            yield from range(100)

        one = feed(items)
        assert one.source.take(1) is None
        gate.set()
        until(lambda: one.source.remaining() == 100, "all items")
        until(lambda: one.wakes == 2, "one for the items, one for the end")

    def test_reads_a_bounded_way_ahead(self, feed: Callable[..., Feed]) -> None:
        """The generator rests when `ahead` items wait, and goes on when they are taken."""
        made = 0

        def items() -> Iterator[int]:
            nonlocal made
            while True:
                made += 1
                yield made

        one = feed(items, ahead=50)
        for start in range(0, 1000, 50):
            until(lambda start=start: made == start + 50, "the generator to be 50 items ahead")
            until(lambda: one.source._full, "the generator to rest")
            assert len(one.source._queue) == 50
            batch = one.source.take(1000)
            assert batch is not None
            assert batch.count == 50

    def test_goes_on_when_half_of_what_waits_was_taken(self, feed: Callable[..., Feed]) -> None:
        """The thread is not woken for every item taken."""
        one = feed(count, ahead=10)
        until(lambda: one.source._full, "the generator to rest")
        for _ in range(4):
            one.source.take(1)
        assert one.source._full
        one.source.take(1)
        until(lambda: len(one.source._queue) == 10, "the generator to go on")

    def test_knows_the_length_of_what_has_one(self, feed: Callable[..., Feed]) -> None:
        """What the callable returned tells how many items there are, before they were read."""
        one = feed(lambda: list(range(100)), ahead=10)
        until(lambda: one.source.exact, "the length")
        assert one.source.remaining() == 100
        assert one.take(3) is not None
        assert one.source.remaining() == 97
        assert len(one.rest()) == 97

    def test_knows_no_length_of_what_has_none(self, feed: Callable[..., Feed]) -> None:
        """A generator's remaining items are known when it has ended."""
        one = feed(lambda: iter(range(15)), ahead=10)
        until(lambda: one.source._full, "the generator to rest")
        assert (one.source.remaining(), one.source.exact) == (None, False)
        assert one.take(10) is not None
        until(lambda: one.source.exact, "the end")
        assert one.source.remaining() == 5

    @pytest.mark.parametrize(
        "error", [RuntimeError("cursor gone"), SystemExit(3)], ids=lambda error: type(error).__name__
    )
    def test_says_where_the_generator_failed(self, feed: Callable[..., Feed], error: BaseException) -> None:
        """The items before come first, then the error with its type, message, place and traceback."""

        def items() -> Iterator[int]:
            yield from range(5)
            raise error

        one = feed(items)
        found, caught = until_it_fails(one.take, unpack)
        assert found == [0, 1, 2, 3, 4]
        assert f"feed failed at item 5: {type(error).__name__}: {error}" in str(caught)
        assert "in items" in str(caught)
        assert "raise error" in str(caught)
        assert caught.__cause__ is error
        with pytest.raises(SourceError):
            one.source.take(1)
        assert not one.source.exhausted
        assert not one.source.exact

    def test_an_error_wakes_a_taker_that_waits(self, feed: Callable[..., Feed]) -> None:
        """A taker that found nothing hears of the failure."""
        gate = threading.Event()

        def items() -> Iterator[int]:
            assert gate.wait(DEADLINE)
            raise RuntimeError
            yield 1

        one = feed(items)
        assert one.source.take(1) is None
        gate.set()
        with pytest.raises(SourceError, match="item 0: RuntimeError"):
            one.take()

    def test_says_that_the_callable_itself_failed(self, feed: Callable[..., Feed]) -> None:
        """The callable runs in the thread too, and its failure comes out the same way."""

        def refuse() -> list[int]:
            raise ConnectionRefusedError("no database")

        with pytest.raises(SourceError, match="item 0: ConnectionRefusedError: no database"):
            feed(refuse).take()

    def test_names_the_item_that_can_not_be_pickled(self, feed: Callable[..., Feed]) -> None:
        """The items before it are handed out, and the thread is let go."""
        one = feed(lambda: (Odd() if i == 4 else i for i in count()), ahead=10)
        found, caught = until_it_fails(one.take, unpack)
        assert found == [0, 1, 2, 3]
        assert re.search(r"feed: item 4, of type test_sources\.Odd.*too odd", str(caught))
        with pytest.raises(SourceError, match="item 4"):
            one.source.take(1)
        assert not one.source.exhausted
        until(lambda: not one.source._thread.is_alive(), "the thread to end")

    def test_closing_does_not_wait_for_a_generator_that_blocks(self) -> None:
        """A generator that never comes back is left behind at once."""
        gate = threading.Event()

        def items() -> Iterator[int]:
            yield 1
            gate.wait()
            yield 2

        one = Feed(items)
        assert one.take() is not None
        one.source.close()
        one.source.close()
        assert not gate.is_set(), "nobody waited for it"
        assert one.source.take(1) is None
        assert (one.source.exhausted, one.source.remaining()) == (True, 0)
        wakes = one.wakes
        gate.set()
        until(lambda: not one.source._thread.is_alive(), "the thread to end")
        assert one.wakes == wakes
        assert one.source.take(1) is None

    @pytest.mark.parametrize("ahead", [5, 10**12])
    def test_closing_ends_the_generator_in_its_thread(self, ahead: int) -> None:
        """Resting or busy, the generator is closed, so that its finally blocks run, where it ran."""
        threads: list[threading.Thread] = []

        def items() -> Iterator[int]:
            threads.append(threading.current_thread())
            try:
                yield from count()
            finally:
                threads.append(threading.current_thread())

        kept = items()
        one = Feed(lambda: kept, ahead)
        assert one.take() is not None
        one.source.close()
        until(lambda: not one.source._thread.is_alive(), "the thread to end")
        assert threads == [one.source._thread] * 2

    def test_closing_drops_what_the_end_of_the_generator_raises(self) -> None:
        """A finally block that fails after closing has nobody left to be told, and is not heard of."""

        def items() -> Iterator[int]:
            try:
                yield from count()
            finally:
                raise RuntimeError("too late")

        one = Feed(items, 5)
        assert one.take() is not None
        one.source.close()
        until(lambda: not one.source._thread.is_alive(), "the thread to end")
        assert one.source.take(1) is None
        assert (one.source.exhausted, one.source.exact) == (True, True)

    def test_can_be_closed_before_it_began(self) -> None:
        """A source that was never started has nothing to let go of."""
        source = FeederSource(count, "feed")
        assert source.take(1) is None
        source.close()
        assert source.exhausted

    @pytest.mark.parametrize("close", ["source.close()", "pass"])
    def test_a_blocked_generator_does_not_hold_up_the_end_of_the_process(self, close: str) -> None:
        """The interpreter ends although the thread is blocked, closed or not."""
        code = f"""
            import threading
            from zpipe.input.feeder import FeederSource
            begun = threading.Event()
            def items():
                begun.set()
                threading.Event().wait()
                yield 1
            source = FeederSource(items, "blocked")
            source.start(lambda: None)
            begun.wait()
            assert source.take(1) is None
            {close}
            print("over")
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=DEADLINE, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


class TestParseRange:
    """Ranges as they are typed."""

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("0:10", range(10)),
            ("10", range(10)),
            ("5:8", range(5, 8)),
            ("0:1_000_000:10", range(0, 1_000_000, 10)),
            ("10:0:-1", range(10, 0, -1)),
            ("-5:5", range(-5, 5)),
            ("5:5", range(5, 5)),
            ("9:3", range(9, 3)),
            ("0", range(0)),
            (f"0:{2**63 - 1}", range(2**63 - 1)),
        ],
    )
    def test_reads(self, text: str, wanted: range) -> None:
        """START:STOP, with a step, backwards, with underscores, or empty."""
        assert parse_range(text) == wanted

    @pytest.mark.parametrize(
        "text", ["", ":", "0:", ":5", "a:b", "1:2:3:4", "0:5:0", "1.5:3", "0-10", "0:1e3", "9" * 5000]
    )
    def test_refuses(self, text: str) -> None:
        """Anything else is refused with an example of what is right."""
        with pytest.raises(UsageError, match="START:STOP"):
            parse_range(text)

    def test_refuses_more_than_can_be_counted(self) -> None:
        """A range of 2^63 items can't be numbered."""
        with pytest.raises(UsageError, match="several jobs"):
            parse_range(f"0:{2**63}")


def collect(source: FeederSource) -> list[Any]:
    """Start a source, take all its items, and close it."""
    woken = threading.Event()
    source.start(woken.set)
    found: list[Any] = []
    with closing(source):
        while not source.exhausted:
            batch = source.take(1000)
            if batch is not None:
                found += unpack(batch)
            elif not source.exhausted:
                assert woken.wait(DEADLINE)
                woken.clear()
    return found


class TestGlob:
    """Files by pattern."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        """Make some files, a folder called like one, hidden things and a dead link."""
        for name in ("a.txt", "b.csv", "sub/c.txt", "sub/deep/d.txt", ".hidden.txt", ".git/e.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        (tmp_path / "folder.txt").mkdir()
        (tmp_path / "dead.txt").symlink_to("nowhere")
        return tmp_path

    @pytest.mark.parametrize(
        ("pattern", "wanted"),
        [
            ("*.txt", ["a.txt"]),
            ("**/*.txt", ["a.txt", "sub/c.txt", "sub/deep/d.txt"]),
            ("**", ["a.txt", "b.csv", "sub/c.txt", "sub/deep/d.txt"]),
            (".*", [".hidden.txt"]),
            (".git/*", [".git/e.txt"]),
            ("[ab].*", ["a.txt", "b.csv"]),
            ("nothing*", []),
        ],
    )
    def test_finds_files(self, tree: Path, pattern: str, wanted: list[str]) -> None:
        """Files come relative to the root; folders, dead links and what is hidden stay out."""
        assert sorted(collect(glob_source(pattern, tree))) == wanted

    def test_relative_to_the_current_folder(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a root, a relative pattern gives paths relative to where the process is."""
        monkeypatch.chdir(tree)
        assert collect(glob_source("sub/*.txt")) == ["sub/c.txt"]

    def test_an_absolute_pattern_gives_absolute_paths(self, tree: Path) -> None:
        """An absolute pattern needs no root and heeds none."""
        for root in (None, tree / "sub"):
            assert collect(glob_source(f"{tree}/sub/*.txt", root)) == [f"{tree}/sub/c.txt"]

    def test_walks_as_it_is_asked_to(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is listed before the source is started, and then in its own thread."""
        threads: list[threading.Thread] = []
        real = feeder.matches

        def matches(*args: str) -> Iterator[str]:
            threads.append(threading.current_thread())
            return real(*args)

        monkeypatch.setattr(feeder, "matches", matches)
        source = glob_source("*.csv", tree)
        assert not threads
        assert collect(source) == ["b.csv"]
        assert threads == [source._thread]

    def test_refuses_nonsense(self, tree: Path) -> None:
        """An empty pattern and a root that is no folder are usage errors."""
        with pytest.raises(UsageError, match="empty pattern"):
            glob_source("")
        with pytest.raises(UsageError, match=r"b\.csv: it is not a folder"):
            glob_source("*", tree / "b.csv")


class TestCallable:
    """Items of the user's own function."""

    @pytest.fixture
    def code(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Put a file of sources into the current folder, and forget it afterwards."""
        text = """
            from helper_of_sources_test import BASE

            def numbers():
                yield from range(BASE, BASE + 3)

            def sized(n=4):
                return [n] * n

            def needs(path):
                return [path]

            def number():
                return 7

            class Rows:
                def __iter__(self):
                    return iter("xy")

            plain = ("a", "b")
            three = 3
        """
        (tmp_path / "helper_of_sources_test.py").write_text("BASE = 10\n")
        path = tmp_path / "items_of_sources_test.py"
        path.write_text(textwrap.dedent(text))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        before = set(sys.modules)
        yield path
        for name in set(sys.modules) - before:
            if "sources_test" in name:
                del sys.modules[name]

    @pytest.mark.parametrize("where", ["items_of_sources_test", "items_of_sources_test.py", "{path}"])
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [("numbers", [10, 11, 12]), ("sized", [4] * 4), ("plain", ["a", "b"]), ("Rows", ["x", "y"])],
    )
    def test_gives_the_items(self, code: Path, where: str, name: str, wanted: list[Any]) -> None:
        """A function, a class or a collection is found in a module of the current folder, and in a file."""
        assert collect(callable_source(f"{where.format(path=code)}:{name}")) == wanted

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("no_such_module_of_sources_test:f", "no_such_module_of_sources_test"),
            ("missing.py:f", "missing.py"),
            ("items_of_sources_test:absent", "absent"),
            ("items_of_sources_test", "module:function"),
            ("items_of_sources_test:three", "it is of type int: name a function"),
            ("items_of_sources_test:needs", "called without arguments, but missing a required argument: 'path'"),
        ],
    )
    def test_refuses_what_gives_no_items(self, code: Path, spec: str, said: str) -> None:
        """What can't be imported, called without arguments, or iterated is a usage error that says so."""
        with pytest.raises(UsageError) as caught:
            callable_source(spec)
        assert spec in str(caught.value)
        assert said in str(caught.value)

    def test_says_what_a_function_returned_instead_of_items(self, code: Path) -> None:
        """That a function returns no iterable shows when it is called."""
        with pytest.raises(SourceError, match="it returned int, which is not iterable"):
            collect(callable_source("items_of_sources_test:number"))


def test_every_source_is_a_source(tmp_path: Path) -> None:
    """Each class has the whole interface (the type checker sees to the rest)."""
    path = tmp_path / "file"
    path.write_bytes(b"1\n")
    made: list[Source] = [IterSource([1], "items"), FeederSource(lambda: [1], "feed"), open_lines(path)]
    wanted = {name for name in vars(Source) if not name.startswith("_")}
    assert wanted == {"close", "exact", "exhausted", "fileno", "remaining", "skip", "start", "take"}
    for source in made:
        assert all(hasattr(source, name) for name in wanted)
        source.close()


def test_exports() -> None:
    """What a module exports is there."""
    for module in (sources, lines, feeder):
        assert all(hasattr(module, name) for name in module.__all__)
