"""Maps and folds: order, laziness, bounded memory, failing items, and searches that stop early."""

from __future__ import annotations

import gc
import itertools
import operator
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from pipeline import chores
from process.tools import PATIENCE, wait_until

import zpipe


class Source:
    """Counts 0, 1, 2 and so on, and knows how many were pulled. Endless, unless `stop` is given."""

    def __init__(self, stop: int | None = None) -> None:
        self.pulled = 0
        self._stop = stop

    def __iter__(self) -> Iterator[int]:
        while self._stop is None or self.pulled < self._stop:
            self.pulled += 1
            yield self.pulled - 1


def test_map_gives_what_the_builtin_gives(pipe: zpipe.Pipeline) -> None:
    """In order, over several iterables up to the shortest, over none and over empty ones; whatever the chunks."""
    for how in ({}, {"chunksize": 1}, {"chunksize": 6}, {"chunksize": 1000}, {"buffersize": 3}):
        assert list(pipe.map(pow, range(40), range(45), **how)) == list(map(pow, range(40), range(40)))
    assert list(pipe.map(str, [])) == list(pipe.map(str)) == list(pipe.map(str, buffersize=2)) == []
    assert list(pipe.map(chores.double, (letter for letter in "abc"))) == ["aa", "bb", "cc"]
    assert list(pipe.map(chores.double, {1: "x", 2: "y"})) == [2, 4]
    assert list(pipe.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
    assert list(pipe.imap(chores.double, range(1000), 10)) == list(range(0, 2000, 2))
    assert sorted(pipe.imap_unordered(chores.double, range(1000))) == list(range(0, 2000, 2))
    assert sorted(pipe.map(chores.double, Source(1000), ordered=False)) == list(range(0, 2000, 2))


def test_a_big_map_is_exact(pipe: zpipe.Pipeline) -> None:
    """200,000 items in automatic chunks, each once and in its place."""
    assert all(map(operator.eq, pipe.map(chores.double, range(200_000)), itertools.count(0, 2)))
    assert sum(1 for _ in pipe.map(chores.double, Source(50_000))) == 50_000


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"buffersize": "foo"}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": 2.0}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"chunksize": -1}, ValueError, "chunksize must be >= 1"),
        ({"on_error": "ignore"}, ValueError, "on_error"),
    ],
)
def test_options_that_can_not_be_are_refused(
    pipe: zpipe.Pipeline, how: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """They are refused at the call, before an item is pulled."""
    source = Source()
    with pytest.raises(kind, match=said):
        pipe.map(chores.double, source, **how)
    assert source.pulled == 0


def test_a_list_runs_though_nobody_looks(pipe: zpipe.Pipeline, tmp_path: Path) -> None:
    """The results of a sized sequence may be thrown away: all its items run."""
    notes = tmp_path / "notes"
    pipe.map(chores.note, [str(notes)] * 50)
    gc.collect()
    wait_until(lambda: notes.exists() and notes.stat().st_size == 50, "50 notes")


def test_an_iterator_is_pulled_no_further_than_the_buffer(pipe: zpipe.Pipeline) -> None:
    """`buffersize` items at most at the call, fewer if there are results by then; one more for each result taken."""
    source = Source()
    results = pipe.map(chores.double, source, buffersize=8)
    assert 1 <= source.pulled <= 8
    for taken in range(1, 100):
        assert next(results) == (taken - 1) * 2
        assert source.pulled <= taken + 8
    results.close()
    assert source.pulled <= 99 + 8


def test_an_endless_iterable_is_pulled_within_bounds(pipe: zpipe.Pipeline) -> None:
    """Without a buffersize too, what is pulled ahead does not grow with what the consumer leaves."""
    source = Source()
    with pipe.map(chores.nap, source) as results:
        assert list(itertools.islice(results, 300)) == list(range(300))
        assert source.pulled < 20_000
    with pipe.imap_unordered(chores.nap, source) as results:
        assert len(set(itertools.islice(results, 300))) == 300
    assert source.pulled < 40_000


def test_the_reorder_buffer_is_bounded(pipe: zpipe.Pipeline, gate: str) -> None:
    """While the first item lasts, an ordered map does no more than fill its buffer with those behind it."""
    source = Source(500)
    results = pipe.map(chores.held_unless, itertools.repeat(gate), source, chunksize=1, buffersize=20)
    taken: list[int] = []
    consumer = threading.Thread(target=lambda: taken.extend(results))
    consumer.start()
    assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
    assert source.pulled <= 20
    assert taken == []
    Path(gate).touch()
    consumer.join(PATIENCE)
    assert taken == list(range(500))


def test_unordered_results_come_as_they_are_ready(pipe: zpipe.Pipeline, gate: str) -> None:
    """An item that lasts holds none of the others back."""
    calls = [(gate, item) for item in range(20)]
    results = pipe.starmap(chores.held_unless, calls, chunksize=1, ordered=False)
    assert sorted(itertools.islice(results, 19)) == list(range(1, 20))
    Path(gate).touch()
    assert list(results) == [0]


def test_results_are_not_kept(pipe: zpipe.Pipeline) -> None:
    """A result that the caller has dropped is gone at once, whatever chunk it came in."""
    for how in ({}, {"chunksize": 5}, {"ordered": False}):
        for thing in pipe.map(chores.make_thing, range(10), **how):
            gone = weakref.ref(thing)
            del thing
            assert gone() is None


def test_large_results_are_not_kept_however_many(pipe: zpipe.Pipeline) -> None:
    """Only results that weigh nothing are let go of chunk by chunk."""

    def make_large(number: int) -> chores.Thing:
        thing = chores.make_thing(number)
        thing.weight = bytes([number % 256]) * 2_000  # type: ignore[attr-defined]
        return thing

    for thing in pipe.map(make_large, range(1_000), chunksize=1_000):
        gone = weakref.ref(thing)
        del thing
        assert gone() is None


def test_results_close() -> None:
    """A closed map gives nothing more, and its queued items are not run; the pipeline goes on."""
    with zpipe.Pipeline(workers=1) as pipe:
        results = pipe.map(chores.nap, range(1_000_000))
        assert next(results) == 0
        results.close()
        results.close()
        assert next(results, None) is None
        assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
        results = pipe.map(chores.fail_on_three, range(6), chunksize=6)
        assert next(results) == 0
        results.close()  # what has failed in the chunk at hand is not told of
        assert next(results, None) is None


def test_shutdown_pulls_no_more_than_the_buffer() -> None:
    """A map that nobody iterates is run to its end, but not pulled beyond its `buffersize`."""
    whole, some = Source(300), Source(300)
    with zpipe.Pipeline(workers=1) as pipe:
        pipe.map(chores.double, whole)
        results = pipe.map(chores.double, some, buffersize=2)
    assert (whole.pulled, some.pulled) == (300, 2)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(RuntimeError, match="shut down"):
        next(results)


def test_one_thread_takes_results(pipe: zpipe.Pipeline, gate: str) -> None:
    """A second one that asks while the first waits is told so, rather than that results get lost between them."""
    results = pipe.map(chores.held, [gate] * 2, range(2), chunksize=1)
    taken: list[int] = []
    first = threading.Thread(target=lambda: taken.extend(results))
    first.start()
    wait_until(results._chunks._busy.locked, "the first thread to wait")
    with pytest.raises(ValueError, match="one thread"):
        next(results)
    Path(gate).touch()
    first.join(PATIENCE)
    assert taken == [0, 1]


def test_a_timeout_ends_the_map(pipe: zpipe.Pipeline, gate: str) -> None:
    """After the time given it raises concurrent.futures.TimeoutError, then there is nothing more."""
    results = pipe.starmap(chores.held_unless, [(gate, 1), (gate, 0)], chunksize=1, timeout=1.0)
    with pytest.raises(futures.TimeoutError):
        list(results)
    assert next(results, None) is None
    Path(gate).touch()
    late = pipe.map(chores.call, [chores.timed_out, dict, chores.timed_out], timeout=PATIENCE, on_error="collect")
    assert [str(value) for value in late] == ["of the task itself", "{}", "of the task itself"]


@pytest.mark.parametrize("how", [{}, {"chunksize": 3}])
def test_a_failing_item_is_raised_at_its_place(pipe: zpipe.Pipeline, how: dict[str, int]) -> None:
    """Results before it come first; those behind it are there for whoever asks on, even of the same chunk."""
    results = pipe.map(chores.fail_on_three, range(6), **how)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three is not wanted") as failed:
        next(results)
    assert isinstance(failed.value.__cause__, zpipe.RemoteTraceback)
    assert list(results) == [4, 5]


def test_failing_items_can_be_skipped_or_collected(pipe: zpipe.Pipeline) -> None:
    """ "skip" leaves them out; "collect" gives their exceptions as values."""
    assert list(pipe.map(chores.fail_on_three, range(6), on_error="skip")) == [0, 1, 2, 4, 5]
    found = list(pipe.map(chores.fail_on_three, range(6), on_error="collect"))
    assert isinstance(found.pop(3), KeyError)
    assert found == [0, 1, 2, 4, 5]
    assert sorted(pipe.imap_unordered(chores.fail_on_three, range(6), on_error="skip")) == [0, 1, 2, 4, 5]


def test_a_failing_source_fails_the_map_alone(pipe: zpipe.Pipeline) -> None:
    """What an iterable raises comes out of the map after the results of what it gave; the pipeline goes on."""

    def broken() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk is gone")

    for how in ({}, {"chunksize": 4}, {"buffersize": 3}):
        taken: list[int] = []
        with pytest.raises(OSError, match="the disk is gone"):
            taken.extend(pipe.map(chores.double, broken(), **how))
        assert taken == list(range(0, 20, 2))
    assert list(pipe.map(chores.double, [1])) == [2]


def test_maps_may_be_interleaved(pipe: zpipe.Pipeline) -> None:
    """Two maps and single calls of one thread don't get in each other's way."""
    one, two = pipe.map(chores.double, Source(500), chunksize=7), pipe.map(chores.nap, range(500))
    for item, (left, right) in enumerate(zip(one, two)):  # noqa: B905 - `strict` would look for one more
        assert (left, right) == (item * 2, item)
        if item % 100 == 0:
            assert pipe.submit(chores.double, item).result(PATIENCE) == item * 2


def test_buffers_come_out_writable(pipe: zpipe.Pipeline) -> None:
    """Large bytearrays travel both ways and are the receiver's own; bytes stay bytes."""
    sent = [bytearray(os.urandom(300_000)) for _ in range(4)]
    for before, after in zip(sent, pipe.map(chores.double, sent, chunksize=2), strict=True):
        assert after == before * 2
        after[0] ^= 255
    assert list(pipe.map(chores.double, [b"ab"])) == [b"abab"]


def test_reduce_folds_in_order(pipe: zpipe.Pipeline) -> None:
    """Like functools.reduce over the results: with and without an initial value, empty or not."""
    assert pipe.reduce(str, range(200), operator.add) == "".join(map(str, range(200)))
    assert pipe.reduce(str, Source(200), operator.add, ">", chunksize=7) == ">" + "".join(map(str, range(200)))
    assert pipe.reduce(chores.double, range(10_000), operator.add, 0, ordered=False) == 9_999 * 10_000
    assert pipe.reduce(str, [], operator.add, "none") == "none"
    assert pipe.reduce(str, [], operator.add, None) is None
    with pytest.raises(TypeError):
        pipe.reduce(str, [], operator.add)


def test_reduce_and_failing_items(pipe: zpipe.Pipeline) -> None:
    """A failing item is raised, or left out when that is asked for."""
    with pytest.raises(KeyError, match="three"):
        pipe.reduce(chores.fail_on_three, range(6), operator.add)
    assert pipe.reduce(chores.fail_on_three, range(6), operator.add, on_error="skip") == 12


def test_reduce_holds_a_bounded_number_of_results(pipe: zpipe.Pipeline) -> None:
    """Results are folded as they come: those pulled and not yet folded never pile up."""
    source, widest, folded = Source(600_000), 0, 0

    def fold(total: int, value: int) -> int:
        nonlocal widest, folded
        folded += 1
        widest = max(widest, source.pulled - folded)
        return total + value

    assert pipe.reduce(chores.double, source, fold, 0, chunksize=10) == 599_999 * 600_000
    assert widest < 250_000


def test_first_stops_early(pipe: zpipe.Pipeline) -> None:
    """It returns a value that satisfies, from an endless iterable too; ordered, the very first one."""
    source = Source()
    assert pipe.first(chores.double, source, lambda value: value > 100) > 100
    pulled = source.pulled
    assert pipe.first(chores.double, Source(), lambda value: value > 100, ordered=True) == 102
    assert pipe.first(chores.double, range(10**9), lambda value: value == 84) == 84
    assert pipe.submit(chores.double, 1).result(PATIENCE) == 2
    assert source.pulled == pulled


def test_first_without_a_hit(pipe: zpipe.Pipeline) -> None:
    """A LookupError, or the default."""
    assert pipe.first(chores.double, range(10), lambda value: value > 100, default=None) is None
    assert pipe.first(chores.double, [0, 0, 3]) == 6
    with pytest.raises(LookupError):
        pipe.first(chores.double, [0, 0])


def test_the_one_liners() -> None:
    """Each makes a pipeline of its own and closes it; a lazy one when its results have ended or are closed."""
    assert list(zpipe.map(chores.double, range(5), workers=1)) == [0, 2, 4, 6, 8]
    assert zpipe.reduce(chores.double, range(5), operator.add, 0, workers=1) == 20
    with zpipe.map(chores.double, itertools.count(), workers=1) as results:
        assert next(results) == 0


class Stopping:
    """Raises what a loop takes for the end when it is pickled."""

    def __reduce__(self) -> Any:
        raise StopIteration("too early")


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_item_that_says_stop_is_not_the_end_of_all(pipe: zpipe.Pipeline, chunksize: int) -> None:
    """Its StopIteration would end whatever loop the results are taken by, and the items behind it go unseen."""
    for results in (
        pipe.map(chores.double, [1, Stopping(), 2], chunksize=chunksize),
        pipe.map(lambda item: Stopping() if item == 1 else item, range(3), chunksize=chunksize),
    ):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(results)
    found = list(pipe.map(chores.double, [1, Stopping(), 2], chunksize=chunksize, on_error="collect"))
    assert (found[0], type(found[1]), found[2]) == (2, StopIteration, 4)
