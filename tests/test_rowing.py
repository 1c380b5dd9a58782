"""A row that a worker runs: each chunk as if it had come alone, told of in parts and left at any chunk's edge."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from zpipe import context, serialize
from zpipe.core.grains import Grains
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.core.wire import Chunk
from zpipe.errors import WireError
from zpipe.running import outcomes
from zpipe.running.awaitables import Awaiting
from zpipe.running.rowing import Row
from zpipe.running.runner import Runner
from zpipe.running.settling import Outcome


def burst() -> Any:
    """Fail."""
    raise ValueError("burst")


class Bomb:
    """Can be pickled; unpickling it fails."""

    def __reduce__(self) -> Any:
        return burst, ()


def runner(task: Callable[[Any], Any], **options: Any) -> Runner:
    """Return what runs a task whose values are wanted as they are."""
    spec = JobSpec(TaskSpec("pickle", "task", b""), "outcomes", **options)
    return Runner(spec, task=task)


def row(*chunks: list[Any], start: int = 100, skip: int = 0) -> Row:
    """Return a row of these."""
    bodies = [bytes(serialize.dumps(items)[0]) for items in chunks]
    count = sum(map(len, chunks)) - skip
    made = Chunk(start, start + count, 1, "pickle", skip=skip, grain=len(chunks[0]), grains=bodies)
    return Row(made, "welcome")


def taken(made: Row) -> list[tuple[int, int, Any]]:
    """Return what is done of it: where that starts and stops, and the values, or an error's name."""
    found = []
    for outcome, bodies, seconds in made.take():
        assert seconds >= 0.0
        count = outcome.stop - outcome.start
        values, errors = outcomes.decode(Grains(bodies) if bodies else outcome.frames, count)
        for position, error in errors.items():
            values[position] = type(error).__name__
        assert bodies or len(outcome.failures) == len(errors)
        found.append((outcome.start, outcome.stop, values))
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_done_of_a_row_goes_home_together(size: int) -> None:
    """Once."""
    chunks = [list(range(at, at + size)) for at in range(0, 4 * size, size)]
    made = row(*chunks)
    made.run(runner(lambda item: 2 * item))
    assert taken(made) == [(100, 100 + 4 * size, [2 * n for n in range(4 * size)])]
    assert taken(made) == []


def test_parts_are_taken_while_it_runs() -> None:
    """As they are done; and what has not been begun can be left then, but not what has."""
    parts: list[Any] = []

    def task(item: int) -> int:
        if item in (2, 5):
            parts.extend(taken(made))
        if item == 5:
            parts.append(made.cut())
        return item

    made = row(*[[n] for n in range(9)])
    made.run(runner(task))
    assert parts == [(100, 102, [0, 1]), (102, 105, [2, 3, 4]), 106]
    assert taken(made) == [(105, 106, [5])]
    assert made.cut() == 0


def test_the_first_chunk_is_never_left() -> None:
    """A row without an item would have no outcome."""
    made = row([0], [1], [2])
    assert made.cut() == 101
    made.run(runner(abs))
    assert taken(made) == [(100, 101, [0])]


def test_chunks_share_nothing() -> None:
    """One object in several chunks is several in the worker, and each value is what it is when its chunk ends."""
    box: list[int] = []
    made = row([box], [box], [box])
    seen: list[int] = []

    def task(item: list[int]) -> list[int]:
        item.append(1)
        seen.append(len(item))
        return seen

    made.run(runner(task))
    assert taken(made) == [(100, 103, [[1], [1, 1], [1, 1, 1]])]


def test_an_item_that_fails_fails_alone() -> None:
    """Whatever it is: the task, what unpickles it, what pickles its value."""

    def task(item: Any) -> Any:
        if item == 1:
            raise KeyError(item)
        return (n for n in ()) if item == 4 else item

    made = row([0], [1], [Bomb()], [3], [4], [5])
    made.run(runner(task))
    found = taken(made)
    assert [(start, stop) for start, stop, _ in found] == [(100 + n, 101 + n) for n in range(6)]
    assert [values[0] for _, _, values in found] == [0, "KeyError", "ValueError", 3, "TypeError", 5]


def test_large_values_travel_by_themselves() -> None:
    """In their place."""
    made = row([1], [100_000], [2], [3])
    made.run(runner(bytes))
    assert [(start, stop) for start, stop, _ in taken(made)] == [(100, 101), (101, 102), (102, 104)]


def test_an_item_is_known_by_its_own_number_and_attempt() -> None:
    """As in a chunk of its own; and what is skipped is not run."""
    made = row([0, 1], [2, 3], [4, 5], skip=1)
    made.run(runner(lambda item: (item, context.current().index, context.current().attempt)))
    (_, _, first), (_, _, rest) = taken(made)
    assert [*first, *rest] == [(n, 99 + n, 1) for n in range(1, 6)]


def test_items_that_are_to_be_tried_again_are_told_of_so() -> None:
    """The others count."""
    made = row([1], [0], [2])
    made.run(runner(lambda item: 1 // item, retries=1))
    found = [(outcome.start, outcome.again is not None) for outcome, _, _ in made.take()]
    assert found == [(100, False), (101, True), (102, False)]


def test_what_is_left_when_a_task_is_to_be_awaited() -> None:
    """All of it, to be run on an event loop."""

    async def later() -> None: ...

    waits = later()
    made = row([0], [1], [2])
    ran = runner(lambda _: waits)
    with pytest.raises(Awaiting):
        made.run(ran)
    waits.close()
    rest = made.rest
    assert (rest.start, rest.stop, len(rest.grains)) == (100, 103, 3)
    assert ran.read(rest, ()) == ([0, 1, 2], type(ran.read(rest, ())[1])(), 0)


def test_a_chunk_without_its_items_is_the_senders_fault() -> None:
    """What was run before it is good."""
    made = row([0], [1], [2])
    made._left[1] = (102, 103, 0, bytes(serialize.dumps([])[0]))
    with pytest.raises(WireError, match="with 0 items"):
        made.run(runner(abs))
    assert taken(made) == [(100, 102, [0, 1])]


def test_values_of_a_row_that_cannot_be_read_here_fail_alone() -> None:
    """Each chunk's by themselves."""
    bodies = Grains([serialize.dumps([n, n])[0] for n in range(2)] + [serialize.dumps([Bomb(), 1])[0]])
    values, errors = outcomes.decode(bodies, 6)
    assert values == [0, 0, 1, 1, None, None]
    assert sorted(errors) == [4, 5]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("tries", [0, 2])
def test_items_of_a_row_are_tried_again_each_for_itself(size: int, tries: int) -> None:
    """What failed ahead of an item says nothing of it, nor how often other chunks have been tried."""

    def task(item: int) -> int:
        if item % 3 == 0:
            raise ValueError(item)
        return item

    made, host = row(*([at + n for n in range(size)] for at in range(0, 12 * size, size))), runner(task, retries=2)
    again = msgspec.structs.replace(row([3], [3], start=7).chunk, tries=2 - tries)
    Row(again, "welcome").run(host)
    made.chunk = msgspec.structs.replace(made.chunk, tries=tries)
    made.run(host)
    found = [outcome for outcome, _, _ in made.take()]
    assert [index for outcome in found for index in range(outcome.start, outcome.stop)] == [
        *range(100, 100 + 12 * size)
    ], "each item once"
    wanted = {100 + item for item in range(0, 12 * size, 3)}
    assert {outcome.start for outcome in found if outcome.again is not None} == (wanted if tries < 2 else set())
    assert {failure.index for outcome in found for failure in outcome.failures} == (wanted if tries == 2 else set())


def test_what_has_been_taken_is_kept_no_longer() -> None:
    """Results may be large: a row that lasts does not hold on to those that went home."""
    taken_at: list[int] = []
    kept: list[Any] = []

    def task(item: int) -> bytes:
        if item == 3:
            taken_at.extend(outcome.start for outcome, _, _ in made.take())
            kept.extend(x.start for x in gc.get_objects() if isinstance(x, Outcome) and x.start in taken_at)
        return bytes(100_000)

    made = row([0], [1], [2], [3], start=987_000)
    made.run(runner(task))
    assert taken_at == [987_000, 987_001, 987_002]
    assert not kept
    assert [outcome.start for outcome, _, _ in made.take()] == [987_003]
