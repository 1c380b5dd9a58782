"""Results that come in many small chunks are handed out together, as if each had come by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

import zpipe
from zpipe.api.functions import Function
from zpipe.api.maps import LIGHT, MapCall
from zpipe.api.results import Results
from zpipe.core.chunking import Chunker
from zpipe.core.spec import TaskSpec
from zpipe.running import outcomes


def call(count: int, **options: Any) -> MapCall:
    """Return a map of so many items, of which none has been taken."""
    function = Function(1, TaskSpec("pickle", "f", b""))
    given = {"wake": lambda: None, "chunker": Chunker(1), "slots": lambda: 2, **options}
    return MapCall(function, list(range(count)), **given)


def arrive(made: MapCall, start: int, value: Any = None, error: BaseException | None = None, size: int = 1) -> None:
    """Have the outcome of one item come."""
    errors = {} if error is None else {0: error}
    made.arrived(start, 1, outcomes.encode([value], errors, start)[0], size)


def five(**options: Any) -> MapCall:
    """Return a map of five items whose outcomes are there: the second and the last one failed."""
    made = call(5, **options)
    for number in range(5):
        arrive(made, number, number, ValueError(number) if number in (1, 4) else None)
    return made


def taken(results: Results[Any], most: int) -> Iterator[Any]:
    """Yield so many results, and instead of raising an exception what it was raised with."""
    for _ in range(most):
        with contextlib.suppress(StopIteration):
            found: Any = None
            try:
                found = next(results)
            except ValueError as error:
                found = str(error)
            yield found


def test_each_exception_is_raised_at_its_place() -> None:
    """Those before and after it come as they are."""
    assert list(taken(Results.of(five(), "raise", 60), 9)) == [0, "1", 2, 3, "4"]


def test_failed_items_are_skipped_or_collected() -> None:
    """Whatever chunk they came in."""
    assert list(Results.of(five(), "skip", 60)) == [0, 2, 3]
    assert [str(value) for value in Results.of(five(), "collect", 60)] == list("01234")


def test_values_of_several_results_keep_their_order() -> None:
    """Exceptions are between the values of the items around theirs."""
    made = call(3)
    arrive(made, 0, [1, 2])
    arrive(made, 1, error=ValueError("x"))
    arrive(made, 2, [3])
    assert list(taken(Results.of(made, "raise", 60, flat=True), 9)) == [1, 2, "x", 3]


def test_those_that_were_handed_out_together_count_when_they_are_taken() -> None:
    """With a bound none is taken ahead, and large ones never are."""
    for size, options, ahead in ((1, {}, 4), (1, {"bound": 5}, 0), (LIGHT + 1, {}, 0)):
        made = call(5, **options)
        for number in range(5):
            arrive(made, number, number, size=size)
        results: Results[int] = Results.of(made, "raise", 60)
        assert next(results) == 0
        rest = 0
        while made.another(1) is not None:
            rest += 1
        assert rest == (0 if size > LIGHT else 4 - ahead)


@pytest.mark.parametrize("ordered", [True, False])
def test_chunks_of_one_item(ordered: bool) -> None:
    """Every item's result comes once, of an endless iterable too."""
    with zpipe.Pipeline(2, chunk=1) as pipe:
        found = list(pipe.map(abs, iter(range(-500, 0)), ordered=ordered))
        assert (found if ordered else sorted(found, reverse=True)) == list(range(500, 0, -1))
        endless = pipe.map(abs, iter(lambda: -1, 0), ordered=ordered)
        assert list(islice(endless, 300)) == [1] * 300
        endless.close()


def test_what_is_slow_to_pull_holds_up_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes results pulls the items, and has a result that came meanwhile before the next item but one."""
    monkeypatch.setattr("zpipe.api.maps.BURST", 0.0)
    pulled = 0

    def slow() -> Iterator[int]:
        nonlocal pulled
        for number in range(200):
            pulled += 1
            yield number
            arrive(made, number, number)

    given: dict[str, Any] = {"wake": lambda: None, "chunker": Chunker(1), "slots": lambda: 2}
    made = MapCall(Function(1, TaskSpec("pickle", "f", b"")), slow(), **given)
    assert made.next() is not None
    assert pulled < 5
