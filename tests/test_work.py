"""What a pipeline's calls give, and whose the outcomes are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zpipe import serialize
from zpipe.api.functions import Function
from zpipe.api.futures import PipelineFuture
from zpipe.api.maps import TOGETHER, MapCall
from zpipe.api.submits import Submits
from zpipe.api.work import Work
from zpipe.core.chunking import FIRST, MAX_BYTES, MAX_ITEMS, Chunker
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Result


class Receiver:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []

    def deliver(self, offset: int, count: int, frames: object) -> None:
        """Take it."""
        self.got.append((offset, count))


def test_it_is_known_what_was_sent_together() -> None:
    """Outcomes of parts are handed on with their places; those of a run that nobody was sent are told from them."""
    one, other = Receiver(), Receiver()
    work = Work(None, JobSpec(TaskSpec("import", "a:b")))
    tickets: dict[int, Any] = {0: (5, one), 5: (10, other)}
    work.tickets = tickets
    assert all(work.together(*run) for run in ((0, 5), (2, 4), (4, 5), (5, 10), (7, 10)))
    assert not any(work.together(*run) for run in ((3, 7), (0, 6), (0, 10), (4, 10)))
    for start, stop in ((2, 4), (5, 10), (0, 2), (4, 5)):
        work.deliver(Result("job", 1, start, stop, 1, 0.0), [])
    assert (one.got, other.got) == ([(2, 2), (0, 2), (4, 1)], [(0, 5)])
    assert not work.tickets


def map_call(items: Any, chunker: Chunker) -> MapCall:
    """Return a call of two workers, whose results are taken as they come."""
    function = Function(1, TaskSpec("pickle", "f", b""))
    return MapCall(function, items, ordered=False, wake=lambda: None, chunker=chunker, slots=lambda: 2)


def chunks_of(items: Any, chunker: Chunker) -> list[tuple[int, int]]:
    """Return of all chunks of a call how many items each has, and how many bytes."""
    call = map_call(items, chunker)
    found = []
    while not call.given:
        call.release()
        call.pull()
        while (taken := call.take(chunker.size(None, 2))) is not None:
            found.append((taken[0], sum(map(len, taken[1]))))
            call.arrived(0, taken[0], ValueError(), 1)
            call.next()
    return found


def seen_light() -> Chunker:
    """Return what has seen many items that take no time and have no weight."""
    chunker = Chunker()
    for _ in range(400):
        chunker.observe(MAX_ITEMS, 1e-7 * MAX_ITEMS, 28 * MAX_ITEMS)
    return chunker


def test_heavy_items_of_a_function_that_had_light_ones_make_no_heavy_chunks() -> None:
    """Neither do such that are pulled, nor such that begin in the middle of a call, or come again."""
    heavy = [bytearray(1 << 16) for _ in range(500)]
    late = [*range(2 * FIRST), *heavy]
    later = [*range(50_000), *heavy]
    for items in (heavy, late, later, [*heavy, *later]):
        for given in (items, iter(items)):
            found = chunks_of(given, seen_light())
            assert sum(count for count, _ in found) == len(items)
            assert max(size for _, size in found) <= 1.1 * MAX_BYTES


def test_few_heavy_items_are_pulled_behind_many_light_ones() -> None:
    """Till the light ones are done there may be as many as are pulled at once, and no more."""
    pulled = 0

    def made() -> Iterator[Any]:
        nonlocal pulled
        yield from range(200_000)
        for pulled in range(100_000):  # noqa: B007
            yield bytes(1 << 16)

    call = map_call(made(), seen_light())
    while not pulled:
        call.pull()
        if (taken := call.take(MAX_ITEMS)) is not None and not pulled:
            call.arrived(0, taken[0], ValueError(), 1)
            call.next()
    assert pulled <= 2 * TOGETHER


def test_light_items_behind_heavy_ones_go_in_large_chunks_again() -> None:
    """From the first chunk or two of them on."""
    items = [*(bytearray(1 << 20) for _ in range(50)), *range(400_000)]
    for given in (items, iter(items)):
        assert len(chunks_of(given, seen_light())) < 150


def test_items_of_which_one_is_heavy_go_in_large_chunks() -> None:
    """Wherever it is."""
    for at in (0, 2047, 2048, 16_383, 99_999):
        items: list[Any] = [*range(100_000)]
        items[at] = bytearray(MAX_BYTES)
        for given in (items, iter(items)):
            assert len(chunks_of(given, seen_light())) < 100


def test_a_huge_string_is_not_pickled_to_be_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length is known."""
    pickled: list[Any] = []
    dumps = serialize.dumps
    monkeypatch.setattr(serialize, "dumps", lambda value, **more: pickled.extend(value) or dumps(value, **more))
    huge = [bytes(1 << 20), bytearray(1 << 20), "n" * (1 << 20)]
    for one in huge:
        chunks_of([*range(50), one], seen_light())
        chunks_of(iter([*range(50), one]), seen_light())
        assert sum(item is one for item in pickled) == 2


class Leaving:
    """Can't be pickled: that would end the process."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, FIRST - 1, 99])
@pytest.mark.parametrize("kind", [list, iter])
def test_whatever_pickling_raises_is_told_in_its_turn(error: type[BaseException], at: int, kind: Any) -> None:
    """To nobody else, and nothing is lost for it."""
    items: list[Any] = [*range(at), Leaving(error), *range(at + 1, 100)]
    call = map_call(kind(items), seen_light())
    found: list[Any] = []
    while not call.given or call.poll():
        call.pull()
        if (taken := call.take(MAX_ITEMS)) is not None:
            call.arrived(len(found), taken[0], taken[1], 1)
        while call.poll() and (entry := call.next()) is not None:
            count, what = entry
            found += [what] if isinstance(what, BaseException) else serialize.loads(what)
            assert count
    assert type(found.pop(at)) is error
    assert found == [*range(at), *range(at + 1, 100)]


def test_what_was_pulled_before_an_interrupt_is_not_lost() -> None:
    """Whoever is interrupted may go on."""

    def made() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    call = map_call(made(), seen_light())
    with pytest.raises(KeyboardInterrupt):
        call.pull()
    taken = call.take(MAX_ITEMS)
    assert taken is not None
    assert serialize.loads(taken[1]) == [*range(5)]


def submitted(items: list[Any], function: Function) -> Submits:
    """Return these items as they wait, each with its future."""
    submits = Submits()
    submits.queue.extend((function, item, PipelineFuture()) for item in items)
    return submits


def sizes(submits: Submits) -> list[tuple[int, int]]:
    """Return of all chunks of what waits how many items each has, and how many bytes."""
    found = []
    while submits.queue:
        taken = submits.take(MAX_ITEMS)
        assert taken is not None
        found.append((taken[0], sum(map(len, taken[1]))))
    return found


def test_heavy_items_that_are_submitted_make_no_heavy_chunks() -> None:
    """Whatever was submitted before them, in the same moment too; light ones behind them go together again."""
    light, heavy = list(range(5000)), [str(n) * (1 << 15) for n in range(1000, 1300)]
    function = Function(1, TaskSpec("pickle", "f", b""))
    for items in (light, heavy, light + heavy):
        found = sizes(submitted(items, function))
        assert sum(count for count, _ in found) == len(items)
        assert max(size for _, size in found) <= 1.1 * MAX_BYTES
    found = sizes(submitted(light, function))
    assert [count for count, _ in found][1:] == [5000 - found[0][0]]


def test_submitted_items_whose_number_is_fixed_go_together() -> None:
    """However heavy they are."""
    submits = submitted(["x" * MAX_BYTES] * 4, Function(1, TaskSpec("pickle", "f", b""), 2))
    assert [(submits.take(2) or (0,))[0] for _ in range(2)] == [2, 2]


def test_an_item_of_another_function_is_not_weighed_for_it() -> None:
    """Those of one function go by what its own items weigh."""
    one, other = (Function(number, TaskSpec("pickle", "f", b"")) for number in (1, 2))
    submits = submitted([1] * 100, one)
    submits.queue.extend(submitted(["x" * MAX_BYTES] * 5, other).queue)
    assert sizes(submits)[0][0] == 100


def test_a_call_whose_size_is_fixed_has_chunks_of_that() -> None:
    """From the first one on."""
    assert {count for count, _ in chunks_of(range(1000), Chunker(100))} == {100}


def test_what_is_pulled_for_chunks_of_a_fixed_size_is_taken_in_such() -> None:
    """However large they are, and soon they are taken."""
    found: list[int] = []

    def take() -> None:
        if (taken := call.take(size)) is not None:
            found.append(taken[0])

    size = 2 * TOGETHER + 1
    function = Function(1, TaskSpec("pickle", "f", b""))
    call = MapCall(function, iter(range(4 * size)), wake=take, chunker=Chunker(size), slots=lambda: 2)
    call.pull()
    assert found == [size] * 4


def test_a_call_of_light_items_has_large_chunks_at_once() -> None:
    """One item is weighed ahead of them."""
    for items in (range(200_000), iter(range(200_000))):
        assert chunks_of(items, seen_light())[0][0] == MAX_ITEMS


def test_items_that_cannot_be_pickled_are_told_in_their_turn() -> None:
    """To weigh one ahead of the others fails nobody."""
    call = MapCall(
        Function(1, TaskSpec("pickle", "f", b"")),
        [threading.Lock(), *range(50)],
        wake=lambda: None,
        chunker=seen_light(),
        slots=lambda: 2,
    )
    assert call.take(MAX_ITEMS) is None
    found = call.next()
    assert found is not None
    assert isinstance(found[1], TypeError)
    assert (call.take(MAX_ITEMS) or (0,))[0] == 50


def test_few_items_are_pulled_before_one_is_weighed() -> None:
    """However many of other calls went together."""
    numbers = iter(range(100_000))
    made = (bytes(1 << 16) for _ in numbers)
    call = MapCall(
        Function(1, TaskSpec("pickle", "f", b"")), made, wake=lambda: None, chunker=seen_light(), slots=lambda: 2
    )
    call.pull()
    assert FIRST < next(numbers) < 2000
