"""Stages in a script: maps over the results of maps, beside what plain Python makes of the same."""

from __future__ import annotations

import gc
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline import steps
from pipeline.test_map import Source
from process.tools import wait_until

import zpipe
from zpipe.api.results import Results

Stage = tuple[str, Callable[[Any], Any]]

STAGES = st.one_of(
    st.tuples(st.just("map"), st.integers(-5, 5).map(lambda n: partial(steps.plus, n))),
    st.tuples(st.just("map"), st.integers(2, 5).map(lambda n: partial(steps.fails_on, n))),
    st.tuples(st.just("flat_map"), st.integers(1, 4).map(lambda n: partial(steps.copies, n))),
    st.tuples(st.just("flat_map"), st.integers(1, 5).map(lambda n: partial(steps.yields, n))),
    st.tuples(st.just("filter"), st.integers(1, 4).map(lambda n: partial(steps.divides, n))),
)


def twin(outcomes: Iterable[Any], kind: str, fn: Callable[[Any], Any]) -> Iterator[Any]:
    """What plain Python makes of a stage: exceptions pass it by, and stand for what raised them."""
    for item in outcomes:
        if isinstance(item, Exception):
            yield item
            continue
        try:
            found = list(fn(item)) if kind == "flat_map" else fn(item)
        except Exception as error:  # noqa: BLE001 - whatever the stage raises
            yield error
            continue
        if kind == "map":
            yield found
        elif kind == "flat_map":
            yield from found
        elif found:
            yield item


def taken(results: Iterator[Any]) -> list[Any]:
    """All results, with the exceptions that are raised at their places."""
    found: list[Any] = []
    while (more := one(results)) is not None:
        found += more
    return found


def one(results: Iterator[Any]) -> list[Any] | None:
    """The next result or exception, None at the end."""
    try:
        return [next(results)]
    except StopIteration:
        return None
    except Exception as error:  # noqa: BLE001 - an item's
        return [error]


def plain(outcomes: Iterable[Any]) -> list[Any]:
    """Outcomes, so that exceptions can be compared."""
    return [repr(outcome) if isinstance(outcome, Exception) else outcome for outcome in outcomes]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stages=st.lists(STAGES, min_size=1, max_size=4),
    count=st.integers(0, 300),
    sized=st.booleans(),
    ordered=st.booleans(),
    on_error=st.sampled_from(["raise", "skip", "collect"]),
    sizes=st.lists(st.sampled_from([None, 1, 7]), min_size=4, max_size=4),
    bound=st.sampled_from([None, 1, 10]),
)
def test_chains_give_what_plain_python_gives(
    pipe: zpipe.Pipeline,
    stages: list[Stage],
    count: int,
    sized: bool,
    ordered: bool,
    on_error: Any,
    sizes: list[int | None],
    bound: int | None,
) -> None:
    """Any chain of maps, flat maps and filters, over whatever gives the items, whatever becomes of the failed ones."""
    items: Any = range(count) if sized else iter(range(count))
    results: Results[Any] = pipe.map(partial(steps.plus, 0), items, ordered=ordered, on_error=on_error)
    wanted: Iterable[Any] = range(count)
    for (kind, fn), size in zip(stages, sizes, strict=False):
        results = getattr(results, kind)(fn, chunksize=size, buffersize=bound)
        wanted = twin(wanted, kind, fn)
    expected = plain(outcome for outcome in wanted if not (on_error == "skip" and isinstance(outcome, Exception)))
    found = plain(taken(results))
    assert found == expected if ordered else sorted(map(str, found)) == sorted(map(str, expected))


@given(stages=st.lists(STAGES, max_size=2), n=st.integers(1, 4), reduced=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_groups_are_what_plain_python_groups(pipe: zpipe.Pipeline, stages: list[Stage], n: int, reduced: bool) -> None:
    """Values by key, reduced or as lists, in the order in which keys are first seen."""
    results = pipe.map(partial(steps.plus, 1), range(100), on_error="skip")
    wanted: Iterable[Any] = range(1, 101)
    for kind, fn in stages:
        results = getattr(results, kind)(fn)
        wanted = twin(wanted, kind, fn)
    groups: dict[int, list[int]] = {}
    for value in wanted:
        if not isinstance(value, Exception):
            groups.setdefault(value % n, []).append(value)
    found = results.group_by(partial(steps.remainder, n))
    if reduced:
        assert list(found.reduce(operator.add).items()) == [(key, sum(group)) for key, group in groups.items()]
    else:
        assert list(found) == list(groups.items())


def test_a_fold_by_key_may_begin_with_a_value(pipe: zpipe.Pipeline) -> None:
    """`initial` begins the fold of each key."""
    counts = pipe.map(abs, range(10)).group_by(partial(steps.remainder, 3)).reduce(lambda n, _: n + 1, 0)
    assert counts == {0: 4, 1: 3, 2: 3}


def test_a_stage_is_lazy_and_bounded(pipe: zpipe.Pipeline) -> None:
    """An endless source is pulled no further than the stages have use for, and no more once nobody takes results."""
    source = Source()
    with pipe.map(partial(steps.plus, 1), source).flat_map(partial(steps.copies, 2)).map(str) as results:
        assert list(itertools.islice(results, 1000)) == [str(n * 10) for n in range(1, 2000, 2)]
        assert source.pulled < 1_000_000
    pulled = source.pulled
    assert pipe.submit(abs, -1).result() == 1
    assert source.pulled == pulled


def test_the_first_result_does_not_wait_for_more_items(pipe: zpipe.Pipeline, gate: str) -> None:
    """What has come through all stages is handed out, though a stage before waits for its next item."""
    first = pipe.map(partial(steps.plus, 1), [0]).map(str)
    assert next(first) == "1"
    held = pipe.map(partial(steps.waits_for, gate), range(1), ordered=False)
    chained = held.map(str, timeout=0.2)
    with pytest.raises(futures.TimeoutError):
        next(chained)
    Path(gate).touch()


def test_results_that_were_taken_do_not_go_on(pipe: zpipe.Pipeline) -> None:
    """A stage begins with the results that nobody has taken; whoever goes on taking those is told."""
    before = pipe.map(partial(steps.fails_on, 7), range(1, 100), chunksize=50)
    assert [next(before), next(before)] == [1, 2]
    results = before.map(str, on_error="skip")
    with pytest.raises(ValueError, match="go to a later stage"):
        next(before)
    with pytest.raises(ValueError, match="go to a later stage already"):
        before.map(str)
    before.close()
    assert list(results) == [str(n) for n in range(3, 100) if n % 7]


def test_a_stage_begins_in_the_midst_of_the_last_chunk(pipe: zpipe.Pipeline) -> None:
    """What is left of it is all there is: nothing else is waited for."""
    for chunksize in (10, 4, 1):
        first = pipe.map(str, range(10), chunksize=chunksize)
        assert [next(first) for _ in range(9)] == [str(n) for n in range(9)]
        assert list(first.map(int, timeout=60)) == [9]


def test_time_is_limited_for_all_stages_together(pipe: zpipe.Pipeline, gate: str) -> None:
    """Whoever takes the last one's results waits no longer than was said of the first."""
    waiting = pipe.map(partial(steps.waits_for, gate), range(1), timeout=0.2).map(repr)
    with pytest.raises(futures.TimeoutError):
        next(waiting)
    Path(gate).touch()


def test_a_source_that_fails_is_heard_of_at_the_end(pipe: zpipe.Pipeline) -> None:
    """What came before it goes through all stages; then its exception is raised."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise RuntimeError("no more")

    found = []
    results = pipe.map(abs, items()).map(str).map(int)
    with pytest.raises(RuntimeError, match="no more"):
        found.extend(results)
    assert found == list(range(10))


def test_wrong_arguments_are_refused(pipe: zpipe.Pipeline) -> None:
    """As those of `map`, and the stage before is as it was."""
    before = pipe.map(abs, range(3))
    with pytest.raises(ValueError, match="on_error must be"):
        before.map(str, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunksize"):
        before.flat_map(str, chunksize=0)
    assert list(before.map(str)) == ["0", "1", "2"]


def test_killed_workers_do_not_change_a_chain(tmp_path: Path) -> None:
    """Workers of each stage are killed over some items: every outcome is there once, in its place."""
    with zpipe.Pipeline(2) as own:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        results = own.map(partial(steps.dies_once, str(tmp_path / "first")), range(200)).flat_map(
            partial(steps.copies, 3)
        )
        found = list(results.map(partial(steps.dies_once, str(tmp_path / "second"))))
        assert found == [item * 10 + k for item in range(200) for k in range(item % 3)]
        assert own._engine.lost >= 2


def test_stages_nobody_takes_from_run_to_their_end(tmp_path: Path) -> None:
    """On leaving the pipeline all stages of a chain are done, as a map is."""
    with zpipe.Pipeline(1) as own:
        own.map(partial(steps.plus, 1), range(20)).map(partial(touch, str(tmp_path)))
    assert len(list(tmp_path.iterdir())) == 20


def test_a_chain_that_is_let_go_of_stops() -> None:
    """So does one that is closed: nothing of it is run any more, and the pipeline ends at once."""
    source = Source()
    with zpipe.Pipeline(1) as own:
        results = own.map(abs, source).map(str)
        assert next(results) == "0"
        del results
        gc.collect()
        wait_until(lambda: not own._engine.maps(), lambda: "the end of the chain's maps")


def test_a_chain_with_a_pipeline_of_its_own() -> None:
    """`zpipe.map` goes on in stages, too, and its pipeline ends with the last one."""
    assert list(zpipe.map(abs, range(-3, 3), workers=1).map(str).map(int)) == [3, 2, 1, 0, 1, 2]
    with zpipe.map(abs, itertools.count(), workers=1).map(str) as results:
        assert next(results) == "0"


def touch(folder: str, item: int) -> None:
    """Leave a file."""
    Path(folder, str(item)).touch()
