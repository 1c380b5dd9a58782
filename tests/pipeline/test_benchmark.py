"""Measuring a pipeline: what is measured, what is checked, and that it ends."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from pipeline import chores

import zpipe
from zpipe import data
from zpipe.core.spec import Codec
from zpipe.errors import UsageError, ZpipeError
from zpipe.measuring import benchmark, coded
from zpipe.measuring.benchmark import Payloads, Plan, await_workers, measure


def silent(text: str, lasting: bool) -> None:
    """Say nothing."""


def test_what_is_measured(pipe: zpipe.Pipeline) -> None:
    """Each payload with each chunk size at full load, and there and back; chunks have the size that was asked for."""
    said: list[str] = []
    await_workers(pipe, 2, silent)
    found = measure(pipe, Plan(3.0, (0, 70_000), (None, 7)), lambda text, _: said.append(text), endpoint="ipc")
    assert [(one.payload, one.chunk) for one in found.throughput] == [(0, None), (0, 7), (70_000, None), (70_000, 7)]
    assert [one.payload for one in found.round_trips] == [0, 70_000]
    assert len(said) == 6
    assert (found.workers, found.endpoint) == (2, "ipc")
    for load in found.throughput:
        assert 0 < load.items <= load.checked
        assert load.seconds > 0
        assert load.chunk is None or not load.chunks or 6 < load.items / load.chunks < 8
    for trips in found.round_trips:
        assert 0 < trips.least <= trips.p50 <= trips.p99 <= trips.p999 <= trips.greatest
    assert found.checked == sum(one.checked for one in found.throughput) + sum(one.trips for one in found.round_trips)


@pytest.mark.parametrize("payload", [0, 100, 70_000])
@pytest.mark.parametrize("wrong", [chores.negative, chores.late_one])
def test_wrong_results_are_found(
    pipe: zpipe.Pipeline, monkeypatch: pytest.MonkeyPatch, payload: int, wrong: object
) -> None:
    """A result that is not the right one ends the benchmark, by its number."""
    monkeypatch.setattr(benchmark, "echo", wrong)
    with pytest.raises(ZpipeError, match=r"^wrong result: item \d+ of .* came back as .{1,300}no figure is given$"):
        measure(pipe, Plan(60.0, (payload,)), silent)


def test_too_slow(pipe: zpipe.Pipeline, monkeypatch: pytest.MonkeyPatch, gate: str) -> None:
    """Where nothing comes back in time there is no figure, but an end, and what to do."""
    monkeypatch.setattr(benchmark, "echo", partial(chores.held, gate))
    with pytest.raises(ZpipeError, match=r"^not one item came back within 0.2 s: give more --seconds, or a smaller"):
        measure(pipe, Plan(0.4), silent)


@pytest.mark.parametrize("said", ["", "not one item came back"])
def test_it_ends_when_all_workers_are_gone(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """What they had is not waited for, whether there are figures or not."""
    pending = []

    def measured(pipe: zpipe.Pipeline, *_: object, **__: object) -> str:
        pending.append(pipe.submit(chores.negative, 1))
        if said:
            raise ZpipeError(said)
        return "figures"

    def given() -> object:
        try:
            return benchmark.run(Plan(1.0), silent, bind="tcp://127.0.0.1:0", insecure=True)
        except ZpipeError as error:
            return str(error)

    monkeypatch.setattr(benchmark, "await_workers", lambda *_, **__: None)
    monkeypatch.setattr(benchmark, "measure", measured)
    found: list[object] = []
    running = threading.Thread(target=lambda: found.append(given()), daemon=True)
    running.start()
    running.join(60)
    assert found == [said or "figures"]
    assert isinstance(pending[0].exception(0), zpipe.BrokenPipeline)


def test_workers_that_do_not_come() -> None:
    """Waiting for workers ends after a while, if it is to, and says what was missing."""
    with (
        zpipe.Pipeline(workers=0, bind="tcp://127.0.0.1:0") as empty,
        pytest.raises(ZpipeError, match=r"^0 of 3 workers came in 0.05 s"),
    ):
        await_workers(empty, 3, silent, patience=0.05)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ((0.5, (0,), (None, 1, 10)), "0.5 s are too few for 4 measurements: give 0.8 at least"),
        ((10.0, (1 << 30,)), "a payload of 1 GiB is too large: give 128 MiB at most"),
        ((10.0, ()), "nothing to measure"),
    ],
)
def test_plans_that_cannot_be(plan: tuple[float, tuple[int, ...]], said: str) -> None:
    """What can't be measured is refused before anything is started."""
    with pytest.raises(UsageError, match=said):
        Plan(*plan)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_wrong_values_of_jobs_without_pickles(codec: Codec) -> None:
    """They end it, too, whichever of both measurements they are in."""
    payloads = Payloads(100, text=codec == "json")
    load = coded._Load(payloads, codec, 1.0)
    right = [payloads[n] for n in range(3)]
    load.write([data.dump(right, codec)])
    load.write([])
    assert load.mark.results == 3
    with pytest.raises(ZpipeError, match="wrong result: item 3 of 100 bytes came back"):
        load.write([data.dump(right, codec)])
    trips = coded._Trips(payloads, codec, 1.0)
    assert trips.take(5) is not None
    assert trips.take(5) is None
    with pytest.raises(ZpipeError, match="wrong result: item 0"):
        trips.write([data.dump(right[1:2], codec)])
