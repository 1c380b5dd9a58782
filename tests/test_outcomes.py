"""A chunk's outcomes there and back: values, exceptions as they are, and the odd ones, each of which fails alone."""

from __future__ import annotations

import pickle
import sys
import threading
import traceback
from typing import Any

import pytest

from zpipe import serialize
from zpipe.core.wire import Failure
from zpipe.running import outcomes


class Picky(Exception):
    """An exception that can be pickled, and not unpickled."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Holder(Exception):
    """An exception that can't be pickled."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class Frozen(Exception):
    """An exception that lets nobody set its attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Turncoat(Exception):
    """An exception that is unpickled as something else."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, ("no exception",)


class Mute(Exception):
    """An exception that has no text."""

    def __str__(self) -> str:
        raise ValueError("mute")


class Exits:
    """A value that ends the process that pickles it."""

    def __reduce__(self) -> Any:
        sys.exit(3)


class Bomb:
    """A value that can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise SystemExit("bang")


def raised(error: BaseException) -> BaseException:
    """The exception with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any will do
        return caught


def there_and_back(
    values: list[Any], errors: dict[int, BaseException] | None = None, limit: int | None = None
) -> tuple[list[Any], dict[int, BaseException], list[Failure]]:
    """What arrives of a chunk that starts at index 100, and the failures told."""
    count = len(values)
    frames, failures = outcomes.encode(values, errors or {}, 100, limit)
    return *outcomes.decode([bytes(frame) for frame in frames], count), failures


def test_a_good_chunk_is_one_plain_pickle() -> None:
    """Nothing is added for what may go wrong and doesn't."""
    values = list(range(1000))
    frames, failures = outcomes.encode(list(values), {}, 0)
    assert (frames, failures) == ([pickle.dumps(values, protocol=5)], [])
    assert outcomes.decode(frames, 1000) == (values, {})


@pytest.mark.parametrize(
    "error", [ValueError("no", 3), SystemExit(4), KeyboardInterrupt(), StopIteration(5), OSError(2, "gone", "x.txt")]
)
def test_an_exception_arrives_as_itself(error: BaseException) -> None:
    """With its arguments, beside the values of the others, its traceback as its cause."""
    values, errors, failures = there_and_back([1, None, 3], {1: raised(error)})
    there = errors.pop(1)
    assert (values, errors) == ([1, None, 3], {})
    assert (type(there), there.args) == (type(error), error.args)
    assert isinstance(there.__cause__, outcomes.RemoteTraceback)
    assert f"in {raised.__name__}" in str(there.__cause__)
    assert [(failure.index, failure.type) for failure in failures] == [(101, type(error).__name__)]


def test_the_cause_reads_as_in_concurrent_futures() -> None:
    """The traceback's text in triple quotes, on lines of their own."""
    _, errors, _ = there_and_back([None], {0: raised(ValueError("no"))})
    shown = str(errors[0].__cause__)
    assert shown.startswith('\n"""\nTraceback (most recent call last):\n')
    assert shown.endswith('\nValueError: no\n"""')
    assert shown in "".join(traceback.format_exception(errors[0]))


def test_notes_and_what_an_exception_came_from_are_kept() -> None:
    """The chain in the worker is the context here, and in the text."""
    error = ValueError("outer")
    error.__dict__["__notes__"] = ["a note"]
    error.__cause__ = raised(KeyError("inner"))
    _, errors, _ = there_and_back([None], {0: raised(error)})
    there = errors[0]
    assert there.__dict__["__notes__"] == ["a note"]
    assert repr(there.__context__) == "KeyError('inner')"
    assert "KeyError: 'inner'" in str(there.__cause__)


def test_an_exception_that_is_its_own_context_ends() -> None:
    """A circle of exceptions is cut."""
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    _, errors, _ = there_and_back([None], {0: one})
    assert repr(errors[0]) == "ValueError('one')"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Picky(5, "bad"), "can't be unpickled: TypeError"),
        (Holder(), "can't be pickled"),
        (Turncoat("coat"), "unpickled as a str"),
    ],
)
def test_an_exception_that_can_not_travel_is_told_by_name(error: Exception, why: str) -> None:
    """Its type, its message and the worker's traceback arrive, and its neighbours as they are."""
    values, errors, _ = there_and_back([1, None], {1: raised(error)})
    there = errors[1]
    assert values[0] == 1
    assert isinstance(there, outcomes.RemoteError)
    assert (there.type, there.message) == (type(error).__name__, str(error))
    assert why in str(there)
    assert f"in {raised.__name__}" in str(there.__cause__)


def test_odd_exceptions_arrive() -> None:
    """One that refuses attributes, one without a text, one of a local class."""

    class Local(Exception):
        pass

    given = {0: Frozen(3), 1: Mute(), 2: Local("here")}
    _, errors, _ = there_and_back([None] * 3, {position: raised(error) for position, error in given.items()})
    assert [type(errors[n]).__name__ for n in range(3)] == ["Frozen", "Mute", "Local"]
    assert all(isinstance(error.__cause__, outcomes.RemoteTraceback) for error in errors.values())


@pytest.mark.parametrize(("value", "kind"), [(threading.Lock(), TypeError), (Exits(), SystemExit)])
def test_a_value_that_can_not_be_pickled_fails_alone(value: Any, kind: type[BaseException]) -> None:
    """With what pickling raised, and a note of which item it was."""
    values, errors, failures = there_and_back([1, value, 3])
    assert (values, list(errors)) == ([1, None, 3], [1])
    assert type(errors[1]) is kind
    assert "the value of item 101" in errors[1].__dict__["__notes__"][0]
    assert [failure.index for failure in failures] == [101]


def test_values_that_can_not_be_pickled_a_second_time_fail() -> None:
    """Each of them says so; nothing is raised."""

    class Once:
        times = 0

        def __reduce__(self) -> tuple[type, tuple[()]]:
            Once.times += 1
            if Once.times != 3:  # the look at each item, between two times the whole list, plain and by value
                raise ValueError("not now")
            return list, ()

    _, errors, failures = there_and_back([1, Once()])
    assert len(errors) == len(failures) == 2


def test_a_result_over_the_limit_fails_alone() -> None:
    """With its size and what to do; a chunk that is over it only together passes."""
    values, errors, _ = there_and_back([b"x" * 600, b"y" * 600, b"z" * 5000], limit=1000)
    assert values == [b"x" * 600, b"y" * 600, None]
    assert "the result of item 102 is 5,0" in str(errors[2])
    assert "over the limit of 1,000" in str(errors[2])


def test_an_exception_over_the_limit_is_told_by_name() -> None:
    """What it carried stays behind."""
    _, errors, _ = there_and_back([None], {0: ValueError("x" * 5000)}, limit=1000)
    assert type(errors[0]) is outcomes.RemoteError


def test_values_that_can_not_be_unpickled_fail_with_their_chunk() -> None:
    """Every item says what went wrong; those that had failed by themselves keep their own exceptions."""
    frames, _ = outcomes.encode([1, Bomb(), None], {2: ValueError("own")}, 0)
    values, errors = outcomes.decode(frames, 3)
    assert values == [None] * 3
    assert "SystemExit: bang" in str(errors[0])
    assert isinstance(errors[0].__cause__, SystemExit)
    assert repr(errors[2]) == "ValueError('own')"


@pytest.mark.parametrize("frames", [[], [b"no pickle"], [pickle.dumps([1])], [pickle.dumps(7)]])
def test_nonsense_fails_every_item(frames: list[bytes]) -> None:
    """Whatever arrives, decode returns."""
    values, errors = outcomes.decode(frames, 2)
    assert (values, len(errors)) == ([None, None], 2)


def test_large_results_beside_failures_stay_out_of_band() -> None:
    """And what only the chunk held is marked to be sent as it is."""
    size = serialize.WORTH_A_LOOK
    frames, _ = outcomes.encode([bytearray(b"x" * size), None], {1: ValueError("no")}, 0)
    assert len(frames) == 2
    assert frames[1].readonly  # type: ignore[union-attr]
    values, errors = outcomes.decode(frames, 2)
    assert (values, list(errors)) == ([bytearray(b"x" * size), None], [1])


def test_the_stand_ins_can_be_pickled() -> None:
    """A task that itself uses a Pipeline raises them on."""
    error = pickle.loads(pickle.dumps(outcomes.RemoteError("Odd", "text", "why")))
    assert str(error) == "Odd: text (why)"
    assert str(pickle.loads(pickle.dumps(outcomes.RemoteTraceback("text\n")))) == '\n"""\ntext\n"""'
