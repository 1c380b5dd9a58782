"""What a script's calls claim, decided without workers and on a clock that is only told: each item in its turn."""

from __future__ import annotations

import random
from collections.abc import Iterable
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe import serialize
from zpipe.api.claimed import UNKNOWN, Claimed
from zpipe.api.functions import Function
from zpipe.api.futures import PipelineFuture
from zpipe.api.maps import MapCall
from zpipe.api.results import unpacked
from zpipe.api.work import Work
from zpipe.core.agenda import AHEAD
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import MAX_BYTES, Chunker
from zpipe.core.claim import Claim, Rate, Schedule
from zpipe.core.ledger import Ledger
from zpipe.core.spec import TaskSpec
from zpipe.core.wire import Receipt
from zpipe.errors import UsageError
from zpipe.jobs.terms import terms
from zpipe.running import outcomes
from zpipe.schedule.claims import Claims
from zpipe.schedule.parked import load

NOBODY = SimpleNamespace(look=lambda: None, lend=lambda *_: None, on_done=lambda _: None)


class Desk:
    """A pipeline without its thread: calls come in, and workers give back what they were sent, when told to."""

    def __init__(
        self, schedule: Schedule | None = None, lanes: int = 1, chunk: int | None = 1, labels: Any = None
    ) -> None:
        self.now = 100.0
        self.ledger = Ledger(Chunker(chunk))
        self.work = Work(None, terms().spec)
        self.work.labels = labels
        self.plan = self.ledger.follow(schedule or Schedule())
        self.void: list[tuple[int, int]] = []
        self.woken = 0
        self.docket: Any = self.work.read_by(
            self.plan, self.ledger, lambda: None, self._wake, lambda *gone: self.void.append(gone)
        )
        for number in range(1, lanes + 1):
            self.ledger.on_ready(number)
        self.function = Function(1, TaskSpec("import", "a:b"), chunk)
        self.lanes = lanes
        """The number of the last."""

    def _wake(self) -> None:
        self.woken += 1

    def submit(self, item: Any, **wishes: Any) -> PipelineFuture[Any]:
        """As `Options.submit`, with what the arguments claim now."""
        future: PipelineFuture[Any] = PipelineFuture()
        future.hand = NOBODY
        future.claim, future.since = Claims(**wishes).of(item, self.now, self.now), self.now
        self.function.held += 1
        self.work.booked.append((self.function, item, future))
        return future

    def map(self, items: Iterable[Any], *, ordered: bool = True, bound: int | None = None, **wishes: Any) -> MapCall:
        """As `Options.map`, of items that are pulled at once."""
        call = MapCall(
            self.function,
            items,
            wake=self._wake,
            chunker=self.function.chunker,
            slots=lambda: len(self.ledger.lanes),
            ordered=ordered,
            bound=bound,
        )
        call.claimed = Claimed(Claims(**wishes), lambda: self.now)
        self.function.held += 1
        self.work.booked.append(call)
        call.pull()
        return call

    def take(self, number: int = 1) -> Chunk | None:
        """What a lane gets now, with its payload."""
        while True:
            self.ledger.due(self.now)
            self.docket.read(self.now)
            self.plan.agenda.tick(self.now)
            self.plan.survey(self.docket.left())
            found = self.ledger.again(number, self.now)
            self.ledger.check()
            if found is None:
                return None
            if load(found, self.plan.split):
                self.ledger.check()
                return found
            self.plan.on_void(found)
            self.docket.on_void(found.start, found.stop)
            self.ledger.check()

    def done(self, chunk: Chunk) -> list[Any]:
        """A worker gives back the items of a chunk, or that they expired; return them."""
        items = list(serialize.loads(chunk.payload))[chunk.skip :][: len(chunk)]
        errors: dict[int, BaseException] = {}
        if chunk.doom:
            errors = {place: KeyError(chunk.doom) for place in range(len(items))}
        frames, _ = outcomes.encode([*items], errors, chunk.start)
        result: Any = SimpleNamespace(start=chunk.start, stop=chunk.stop)
        self.work.deliver(result, frames)
        self.ledger.account.on_receipt(
            Receipt(chunk.start, chunk.stop, chunk.lane, 0.01, 0, 10, None, chunk.attempt), self.now
        )
        self.ledger.check()
        return [] if chunk.doom else items

    def order(self, number: int = 1) -> list[Any]:
        """Run all there is for a lane, one after the other; return the items."""
        found = []
        while (chunk := self.take(number)) is not None:
            found += self.done(chunk)
        return found

    def over(self) -> bool:
        """Whether nothing is left of anything."""
        work = self.work
        for call in [call for call in work.maps if call.given]:
            work.maps.remove(call)
            call.function.uses -= 1
        books = (work.tickets, work._parts, work.maps, work.booked, work.submits.queue, self.plan.agenda.parked)
        return not any(books) and not self.ledger.in_flight and self.function.held + self.function.uses == 0


def taken(call: MapCall) -> list[Any]:
    """What a map gives that is over."""
    found = []
    while (entry := call.next(0)) is not None:
        found += unpacked(*entry, "collect")
    return found


def test_a_call_with_priority_goes_ahead_of_all_that_does_not_run() -> None:
    """Of other calls, plain ones too, and later ones."""
    desk = Desk()
    desk.map([1, 2, 3])
    running = desk.take()
    assert running is not None
    desk.submit(4)
    desk.map([5, 6], priority=1)
    desk.submit(7, priority=2)
    assert desk.done(running) == [1]
    assert desk.order()[:3] == [7, 5, 6]
    assert desk.over()


def test_each_items_priority_is_what_its_function_says() -> None:
    """Of a sequence, and of an iterable that is pulled; results come in their order all the same."""
    for items in (list(range(50)), iter(range(50))):
        desk = Desk()
        call = desk.map(items, priority=lambda item: item % 10)
        assert desk.order() == sorted(range(50), key=lambda item: (-(item % 10), item))
        assert taken(call) == list(range(50))
        assert desk.over()


def test_equal_maps_go_by_turns() -> None:
    """None waits for the whole of another that was there before."""
    desk = Desk()
    desk.map(range(1000))
    first = desk.take()
    assert first is not None
    desk.map(range(5000, 6000))
    order = [*desk.done(first), *desk.order()]
    assert min(order.index(item) for item in range(5000, 6000)) < 20
    assert sorted(order) == [*range(1000), *range(5000, 6000)]


def test_nothing_goes_ahead_of_a_map_that_is_read_bit_by_bit() -> None:
    """As much of it is parked as lanes may take at once."""
    desk = Desk(lanes=2, chunk=3)
    for lane in desk.ledger.lanes.values():
        lane.window = 8
    desk.submit("low", priority=-1)
    desk.map(range(100))
    desk.docket.read(desk.now)
    desk.plan.survey(desk.docket.left())
    chunks = [desk.ledger.again(number, desk.now) for number in (1, 2) for _ in range(8)]
    assert [(len(chunk), chunk.claim) for chunk in chunks if chunk is not None] == [(3, Claim())] * 16


def test_what_is_claimed_counts_from_when_the_item_was_there() -> None:
    """Of a list from the call on, of a lazy iterable from when it was pulled."""
    desk = Desk()
    listed = desk.map([1, 2], delay=10)
    lazy = desk.map(iter(["a", "b"]), delay=10, bound=1)
    desk.now += 4
    assert desk.take() is None
    desk.now += 6
    assert sorted(desk.order(), key=str) == [1, 2, "a"]
    assert desk.ledger.deadline() is None
    assert lazy.next(0) is not None
    lazy.release()
    lazy.pull()
    assert desk.take() is None
    assert desk.ledger.deadline() == desk.now + 10
    desk.now += 10
    assert desk.order() == ["b"]
    assert taken(listed) == [1, 2]


def test_what_expired_before_it_was_read_is_not_run() -> None:
    """Nobody had room for it until then: it fails, with how long it had."""
    desk = Desk(lanes=1)
    running, late = desk.submit(1), desk.submit(2, ttl=5)
    first = desk.take()
    assert first is not None
    mapped = desk.map([3, 4], ttl=5)
    desk.now += 6
    desk.done(first)
    assert desk.order() == []
    assert running.result() == 1
    assert "not started within 5 s" in str(late.exception())
    assert [type(error) for error in taken(mapped)] == [KeyError, KeyError]
    assert desk.over()


def test_a_function_that_raises_fails_its_item_alone() -> None:
    """So does one that says what makes no sense."""
    desk = Desk()
    call = desk.map([1, 0, 2, "x"], priority=lambda item: 1 / item if item != 2 else "high")
    assert desk.order() == [1]
    good, *bad = taken(call)
    assert (good, [type(error) for error in bad]) == (1, [ZeroDivisionError, ValueError, TypeError])
    assert desk.over()


def test_what_cannot_be_pickled_fails_alone() -> None:
    """Those around it that claim the same go on together."""
    desk = Desk(chunk=10)
    futures = [desk.submit(item) for item in (1, 2, (_ for _ in ()), 3)]
    call = desk.map([4, (_ for _ in ()), 5])
    desk.order()
    assert [future.exception() is None for future in futures] == [True, True, False, True]
    assert [isinstance(value, int) for value in taken(call)] == [True, False, True]
    assert desk.over()


@pytest.mark.parametrize("mapped", [False, True])
def test_heavy_items_of_a_function_that_had_light_ones_go_few_at_a_time(mapped: bool) -> None:
    """Those that do not fit go on waiting: they can be cancelled, are run once, and count for nobody's limit."""
    desk = Desk(Schedule(max_in_flight=1000), chunk=None)
    for chunker in (desk.function.chunker, desk.function.quick):
        for _ in range(400):
            chunker.observe(16_384, 1e-3, 16_384)
    light, heavy = list(range(100)), [str(n) * (1 << 17) for n in range(1000, 1050)]
    for items in (light, heavy):
        call = desk.map(items) if mapped else None
        futures = [] if mapped else [desk.submit(item) for item in items]
        first = desk.take()
        assert first is not None
        assert first.size <= 1.1 * MAX_BYTES
        assert (len(first) < 10) == (items is heavy)
        assert [future.running() for future in futures] == [place < len(first) for place in range(len(futures))]
        cancelled = len(futures) and items is heavy and futures[30].cancel()
        found = desk.done(first)
        while (chunk := desk.take()) is not None:
            assert chunk.size <= 1.1 * MAX_BYTES
            found += desk.done(chunk)
        assert sorted(map(str, found)) == sorted(str(item) for item in items if not (cancelled and item == items[30]))
        assert call is None or taken(call) == items
        assert all(future.cancelled() == (place == 30 and items is heavy) for place, future in enumerate(futures))
    assert desk.over()


def test_what_is_cancelled_or_closed_is_let_go_of_at_once() -> None:
    """Whatever it waits for: nothing is left of it, and those behind it of its key go on."""
    desk = Desk()
    far = [desk.submit(n, delay=1e6) for n in range(3)]
    first, second = desk.submit("a", key="k", delay=1e6), desk.submit("b", key="k")
    closed = desk.map([7, 8], requires="gpu")
    lazy = desk.map(iter([9] * 100), delay=1e6)
    assert desk.take() is None
    assert all(future.cancel() for future in [*far, first])
    assert desk.woken
    closed.close()
    lazy.close()
    assert desk.order() == ["b"]
    assert (second.result(), first.cancelled()) == ("b", True)
    assert desk.over()


def test_cancelling_all_spares_what_runs() -> None:
    """And nothing else that was submitted, wherever it is."""
    desk = Desk()
    futures = [desk.submit(n) for n in range(300)]
    first = desk.take()
    assert first is not None
    later = desk.submit(1, delay=5)
    desk.work.cancel(0)
    desk.done(first)
    assert desk.order() == []
    assert [future.cancelled() for future in [*futures, later]] == [False, *[True] * 300]
    assert desk.over()


def test_a_lazy_iterable_is_read_a_bounded_way_ahead() -> None:
    """Far enough for those that go first to be found, and by what its items weigh."""
    desk = Desk()
    pulled = 0

    def endless(size: int) -> Any:
        nonlocal pulled
        while True:
            pulled += 1
            yield bytes(size)

    desk.map(endless(10), delay=10)
    while not pulled > UNKNOWN:
        desk.work.booked[0].pull()  # type: ignore[union-attr]
        if pulled >= AHEAD:
            break
    assert UNKNOWN <= pulled <= AHEAD + 1
    assert desk.take() is None
    pulled = 0
    desk.map(endless(1 << 20), priority=len)
    assert pulled <= 64 + 8


def test_a_long_map_whose_items_may_overtake_is_parked_a_bounded_way_ahead() -> None:
    """The rest is left where it is, until there is room."""
    desk = Desk(chunk=None)
    call = desk.map(range(100_000), priority=lambda item: -item)
    assert desk.take() is not None
    assert len(desk.plan.agenda.parked) <= AHEAD
    assert call.left is not None
    assert call.left >= 100_000 - AHEAD - 1


def test_without_other_workers_what_none_can_run_fails() -> None:
    """It would wait for ever."""
    desk = Desk(labels=frozenset({"gpu"}))
    good, bad = desk.submit(1), desk.submit(2, requires="tpu")
    call = desk.map([3, 4], requires=lambda item: "tpu" if item == 4 else None)
    assert desk.order() == [1, 3]
    assert good.result() == 1
    assert isinstance(bad.exception(), UsageError)
    assert isinstance(taken(call)[1], UsageError)
    assert desk.over()


def test_runs_of_items_that_claim_the_same() -> None:
    """Wherever they were pulled; a time of their own parts them."""
    now = 1.0
    claimed = Claimed(Claims(priority=lambda item: item // 2), lambda: now)
    assert [(count, claim) for count, _, claim in claimed.of(0, [0, 1, 2, 4, 5], 0.0)] == [
        (2, Claim()),
        (1, Claim(1.0)),
        (2, Claim(2.0)),
    ]
    claimed = Claimed(Claims(delay=3), lambda: now)
    claimed.on_pulled(2, "ab")
    now = 2.0
    claimed.on_pulled(3, "c")
    assert claimed.of(0, "abc", 0.0) == [(2, 1.0, Claim(begin=4.0)), (1, 2.0, Claim(begin=5.0))]
    assert claimed.of(3, "", 0.0) == []


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(-2, 2),
        "delay": st.sampled_from([0, 1, 5]),
        "ttl": st.sampled_from([0.5, 20]),
        "key": st.sampled_from("ab"),
        "rate_key": st.sampled_from("xy"),
    },
)
SCHEDULES = st.builds(
    Schedule,
    rate=st.sampled_from([None, Rate(2.0, 2.0)]),
    max_in_flight=st.sampled_from([None, 2]),
    key_rate=st.sampled_from([None, Rate(1.0)]),
    key_max_in_flight=st.sampled_from([None, 1]),
    ageing=st.sampled_from([None, 2.0]),
)


class Play:
    """A desk at which things happen by chance."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk, self.rng = desk, random.Random(seed)
        self.futures: list[tuple[int, PipelineFuture[Any]]] = []
        self.calls: list[tuple[list[int], MapCall]] = []
        self.ran: list[int] = []
        self.serial = 0

    def ask(self, wished: dict[str, Any]) -> None:
        """Submit or map some items that claim this."""
        desk, rng = self.desk, self.rng
        items = list(range(self.serial, self.serial + rng.randint(0, 6)))
        self.serial += len(items)
        if rng.random() < 0.5:
            self.futures += [(item, desk.submit(item, **wished)) for item in items]
            return
        told = {name: (lambda _, value=value: value) for name, value in wished.items()}
        made = desk.map(
            rng.choice((items, iter(items))), ordered=rng.random() < 0.5, **rng.choice((wished, told, wished))
        )
        self.calls.append((items, made))

    def give_up(self) -> None:
        """Cancel or close something."""
        if self.futures and self.rng.random() < 0.7:
            self.rng.choice(self.futures)[1].cancel()
        elif self.calls:
            self.rng.choice(self.calls)[1].close()

    def work(self) -> None:
        """Some worker is given something, or is done, or goes; or time passes."""
        desk, rng, lanes = self.desk, self.rng, self.desk.ledger.lanes
        held = [chunk for lane in lanes.values() for chunk in list(lane.held.values())[:1]]
        number = rng.choice(list(lanes))
        if rng.random() < 0.04:
            desk.ledger.returns.on_lost(number)
            desk.ledger.on_ready(max(desk.lanes, number) + 1)
            desk.lanes = max(desk.lanes, number) + 1
        elif held and rng.random() < 0.5:
            self.ran += desk.done(rng.choice(held))
        elif lanes[number].credit > 0 and (chunk := desk.take(number)) is not None:
            if rng.random() < 0.1:
                desk.ledger.on_refused(chunk)
        elif not held:
            due = desk.plan.agenda.deadline()  # recalls are nobody's here
            desk.now = max(desk.now, due) if due < inf else desk.now + 0.1
        desk.ledger.check()


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, st.lists(WISHES, min_size=1, max_size=8), st.integers(0, 1 << 30), st.sampled_from([1, 3, None]))
def test_every_item_has_one_outcome(
    schedule: Schedule, wishes: list[dict[str, Any]], seed: int, chunk: int | None
) -> None:
    """Whatever is submitted, mapped, cancelled and closed while workers work: nothing is run twice, lost or left."""
    play = Play(desk := Desk(schedule, lanes=2, chunk=chunk), seed)
    steps = 0
    while wishes or not desk.over():
        steps += 1
        assert steps < 3000, "something is left"
        what = play.rng.random()
        if wishes and what < 0.2:
            play.ask(wishes.pop())
        elif what < 0.23:
            play.give_up()
        else:
            play.work()
    assert len(play.ran) == len(set(play.ran))
    for item, future in play.futures:
        assert future.done()
        assert (item in play.ran) == (not future.cancelled() and future.exception() is None)
    for items, call in play.calls:
        if not call.closed:
            found = taken(call)
            assert len(found) == len(items)
            assert {value for value in found if isinstance(value, int)} == {item for item in items if item in play.ran}


@pytest.mark.parametrize("ordered", [True, False])
def test_results_nobody_takes_hold_up_the_rest(ordered: bool) -> None:
    """As of any map: what is there already is run, and no more is read."""
    desk = Desk(chunk=1)
    call = desk.map([bytes(1 << 20)] * 300, ordered=ordered, priority=1)
    ran = len(desk.order())
    assert 60 <= ran <= 80
    while call.next(0) is not None:
        ran += len(desk.order())
    assert ran == 300
    assert desk.over()


def test_items_that_claim_the_same_go_together_where_their_order_does_not_matter() -> None:
    """In a map whose results are taken as they come; one that could not be told what it claims fails alone."""
    desk = Desk(chunk=10)
    call = desk.map(range(20), ordered=False, priority=lambda n: n % 2 if n != 7 else n / 0)
    sent = []
    while (chunk := desk.take()) is not None:
        sent.append(desk.done(chunk))
    assert sent == [[n for n in range(1, 20, 2) if n != 7], list(range(0, 20, 2))]
    found = taken(call)
    assert isinstance(found[0], ZeroDivisionError)
    assert sorted(found[1:]) == [n for n in range(20) if n != 7]
    assert desk.over()
    ordered = desk.map(range(20), priority=lambda n: n % 2)
    assert desk.order() == [*range(1, 20, 2), *range(0, 20, 2)]
    assert taken(ordered) == list(range(20))
