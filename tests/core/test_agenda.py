"""What goes next: each rule of the schedule against a plain reading of it, on a clock that is only told."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zpipe.core.agenda import AHEAD, Agenda
from zpipe.core.budget import Budget
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Claim, Limits, Rate, Schedule, provided
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.core.ranges import RangeSet
from zpipe.core.suspects import Verdict
from zpipe.core.wire import Receipt

FREE = Schedule()


def task_of(index: int) -> int:
    """The number of the task that the item of this index is for, or that is first of those that go together."""
    return 1 + index % 2


class Desk:
    """A ledger with a schedule whose workers do what the test says."""

    def __init__(self, schedule: Schedule = FREE, lanes: int = 1, chunk: int | None = 1, labels: Any = None) -> None:
        self.ledger = Ledger(Chunker(chunk))
        self.plan: Plan = self.ledger.follow(schedule)
        self.now = 100.0
        for number in range(1, lanes + 1):
            self.ledger.on_ready(number, provided((labels or {}).get(number, [])))

    def admit(self, *claims: Claim, count: int = 1, size: int = 10) -> None:
        """Park `count` items of each of these claims."""
        for claim in claims:
            self.plan.admit(count, "lines", [b"x"], self.now, claim, size, task_of(self.ledger.next))

    def take(self, number: int = 1) -> Chunk | None:
        """What the lane gets now."""
        self.ledger.due(self.now)
        self.plan.survey(None)
        found = self.ledger.again(number, self.now)
        self.ledger.check()
        return found

    def start(self, number: int = 1) -> int | None:
        """The index of the first item that the lane gets now."""
        found = self.take(number)
        return None if found is None else found.start

    def done(self, chunk: Chunk, again: float | None = None) -> None:
        """A chunk has its receipt, or is to be tried again."""
        lane = chunk.lane
        self.ledger.account.on_receipt(
            Receipt(chunk.start, chunk.stop, lane, 0.01, 0, 1, again, chunk.attempt), self.now
        )
        self.ledger.check()

    def order(self, number: int = 1) -> list[int]:
        """Run all there is for a lane, one after the other; return it."""
        found = []
        while (chunk := self.take(number)) is not None:
            found.append(chunk.start)
            self.done(chunk)
        return found


def test_higher_priorities_go_first_and_equal_ones_in_turn() -> None:
    """Strictly, and an item that comes later overtakes what has not been sent."""
    desk = Desk()
    desk.admit(Claim(1), Claim(5), Claim(), Claim(5), Claim(-1))
    assert desk.start() == 1
    desk.admit(Claim(9))
    desk.done(desk.ledger.lanes[1].held[1])
    assert desk.order() == [5, 3, 0, 2, 4]


def test_who_waits_long_goes_first_with_ageing() -> None:
    """A point of priority for each ten seconds; without it, never."""
    for ageing, order in ((10.0, [0, 2, 1]), (None, [2, 1, 0])):
        desk = Desk(Schedule(ageing=ageing))
        desk.admit(Claim(0))
        desk.now += 25
        desk.admit(Claim(1), Claim(2))
        assert desk.order() == order


def test_what_is_delayed_waits_and_the_deadline_says_till_when() -> None:
    """The others go ahead of it; from its time on its priority counts."""
    desk = Desk()
    desk.admit(Claim(9, begin=130.0), Claim(), Claim())
    assert desk.start() == 1
    desk.done(desk.ledger.lanes[1].held[1])
    assert desk.ledger.deadline() == 130.0
    desk.now = 130.0
    assert desk.order() == [0, 2]


def test_what_was_not_started_in_time_is_only_told_of() -> None:
    """Any lane is told, whatever the item requires; what was sent in time is not given up, not even after a retry."""
    desk = Desk()
    desk.admit(Claim(end=110.0), Claim(end=110.0, requires=frozenset({"gpu"})), Claim(end=150.0))
    first = desk.take()
    assert first is not None
    assert desk.ledger.deadline() == 110.0
    desk.now = 120.0
    desk.done(first, again=1.0)
    told = desk.take()
    assert told is not None
    assert told.expired
    assert (told.start, told.doom) == (1, "it expired: it was not started within 10 s")
    desk.ledger.returns.on_lost(1)
    desk.ledger.on_ready(2)
    desk.now = 122.0
    told = desk.take(2)
    assert told is not None
    assert (told.start, told.doom[:10]) == (1, "it expired")
    desk.done(told)
    again = desk.take(2)
    assert again is not None
    assert (again.start, again.doom) == (0, "")


def test_many_that_expire_are_told_of_together() -> None:
    """But not all in one message."""
    desk = Desk()
    desk.admit(Claim(end=110.0), count=2500)
    desk.now = 111.0
    sizes = []
    while (chunk := desk.take()) is not None:
        assert chunk.expired
        sizes.append(len(chunk))
        desk.done(chunk)
    assert sizes == [1000, 1000, 500]


def test_a_rate_is_kept_to() -> None:
    """Its burst at once, then as many as come in; the deadline is when the next one does."""
    desk = Desk(Schedule(rate=Rate(10.0, 3.0)), chunk=8)
    desk.admit(Claim(), count=20)
    sent = [(desk.now, desk.start())]
    while desk.ledger.in_flight > 0 and desk.now < 110:
        held = [*desk.ledger.lanes[1].held.values()]
        for chunk in held:
            desk.done(chunk)
        if desk.take() is None and desk.ledger.in_flight:
            due = desk.ledger.deadline()
            assert due is not None
            assert due > desk.now
            desk.now = due
            continue
        sent += [(desk.now, chunk.start) for chunk in desk.ledger.lanes[1].held.values()]
    assert [start for _, start in sent] == list(range(20))
    assert [round(when - 100, 3) for when, _ in sent[:6]] == [0, 0, 0, 0.1, 0.2, 0.3]
    assert sent[-1][0] == pytest.approx(100 + 1.7)


def test_what_was_not_begun_has_not_used_its_token() -> None:
    """A lane refuses it, or gives it back."""
    desk = Desk(Schedule(rate=Rate(1.0, 2.0)), lanes=2)
    desk.admit(Claim(), count=4)
    first = desk.take()
    assert first is not None
    desk.ledger.on_refused(first)
    assert [desk.start(1), desk.start(2), desk.start(1)] == [0, 1, None]
    desk.ledger.lanes[2].recall(desk.now)
    desk.ledger.returns.on_returned(2, 0, 1)
    assert desk.start(1) == 1


def test_no_more_are_in_flight_than_may_be() -> None:
    """In items; and each lane gets its share of them."""
    desk = Desk(Schedule(max_in_flight=5), lanes=3, chunk=4)
    desk.admit(Claim(), count=40)
    got = [desk.take(number) for number in (1, 2, 3, 1, 2, 3, 1)]
    assert [len(chunk) for chunk in got if chunk is not None] == [1] * 5
    assert got[0] is not None
    desk.done(got[0])
    assert desk.start(2) == 5
    assert desk.start(2) is None


def test_each_rate_key_has_its_own_budget() -> None:
    """One that is used up does not hold up others, however many of its items are ahead."""
    desk = Desk(Schedule(key_rate=Rate(1.0, 1.0), key_max_in_flight=2), lanes=1)
    desk.admit(*[Claim(rate_key=key) for key in "aaaab"], Claim())
    assert desk.order() == [0, 4, 5]
    assert desk.ledger.deadline() == pytest.approx(101.0)
    desk.now = 101.0
    assert desk.order() == [1]


@pytest.mark.parametrize("limit", [Schedule(key_rate=Rate(1000, 1)), Schedule(key_max_in_flight=1)])
def test_keys_without_end_are_forgotten(limit: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each could be had as if for the first time; and none is looked at for each new one."""
    monkeypatch.setattr("zpipe.core.budgets.REMEMBERED", 10)
    desk = Desk(limit)
    budgets = desk.plan.agenda._budgets
    budgets._many, looks = 10, 0
    idle = Budget.idle

    def counted(self: Budget, now: float) -> bool:
        nonlocal looks
        looks += 1
        return idle(self, now)

    monkeypatch.setattr(Budget, "idle", counted)
    for n in range(200):
        desk.admit(Claim(rate_key=n))
        desk.now += 0.01
        chunk = desk.take()
        assert chunk is not None
        desk.done(chunk)
    assert len(budgets._budgets) <= 10
    assert len(budgets._outs) <= 10
    assert looks < 2 * 200


def test_each_task_has_its_own_limits() -> None:
    """What waits for one holds up no other; chunks count as such, however many items they have."""
    desk = Desk(Schedule(tasks=((1, Limits(Rate(2.0, 1.0), 3)), (2, Limits(chunks=1)))), lanes=2, chunk=2)
    desk.admit(Claim(), Claim(), count=3)
    first, second = desk.take(), desk.take()
    assert first is not None
    assert second is not None
    assert [(c.task, c.start, len(c)) for c in (first, second)] == [(1, 0, 1), (2, 3, 2)]
    assert desk.start() is None
    desk.done(second)
    assert desk.start() == 5
    desk.now += 0.5
    assert [desk.start(), desk.start()] == [1, None]
    desk.now += 9
    assert [desk.start(), desk.start()] == [2, None]


def test_a_task_is_shut_off_and_let_in_again() -> None:
    """Others go meanwhile; what waited goes in its order."""
    desk = Desk()
    agenda = desk.plan.agenda
    agenda.gate([1])
    desk.admit(Claim(), Claim(), Claim(5), Claim())
    agenda.shut([1])
    assert desk.order() == [1, 3]
    desk.ledger.check()
    agenda.shut([])
    assert desk.order() == [2, 0]


def test_what_is_ahead_goes_first_and_calls_nothing_back() -> None:
    """Whatever the priorities of the others; among itself in turn."""
    desk = Desk()
    desk.admit(Claim(1e9), Claim(ahead=1), Claim(2e9), Claim(ahead=2), Claim(ahead=1))
    assert desk.start() == 3
    assert desk.order() == [1, 4, 2, 0]


def test_room_in_flight_for_a_key_comes_back_with_its_receipts() -> None:
    """Then the next of its items may go."""
    desk = Desk(Schedule(key_max_in_flight=1), lanes=2)
    desk.admit(*[Claim(rate_key=key) for key in "aab"])
    first = desk.take()
    assert first is not None
    assert [first.start, desk.start(2), desk.start(2)] == [0, 2, None]
    desk.done(first)
    assert desk.start(1) == 1


def test_what_is_done_meanwhile_holds_up_nobody_of_its_rate_key() -> None:
    """It had room, and is let go of by who looks for what is urgent, or what no worker can be asked for."""
    for labels in (frozenset[str](), frozenset({"gpu"})):
        desk = Desk(Schedule(key_max_in_flight=1), labels={1: labels})
        desk.admit(*[Claim(rate_key="a", requires=labels)] * 3)
        first = desk.take()
        assert first is not None
        assert desk.take() is None
        desk.done(first)
        desk.ledger.deadline()
        desk.plan.survey(None)
        desk.ledger.account.on_done(RangeSet([(1, 2)]))
        assert not desk.plan.agenda.unmet()
        assert desk.plan.agenda.overtaken(desk.now) is None
        desk.ledger.check()
        assert desk.start() == 2


def test_of_one_key_one_item_is_under_way() -> None:
    """In order: also when one is to be tried again, or the worker is lost."""
    desk = Desk(lanes=2)
    desk.admit(Claim(key="a"), Claim(9, key="a"), Claim(key="b"))
    first, other = desk.take(1), desk.take(2)
    assert first is not None
    assert other is not None
    assert (first.start, other.start, desk.start(1)) == (0, 2, None)
    desk.done(first, again=5.0)
    assert desk.start(1) is None
    desk.now = 106.0
    second = desk.take(2)
    assert second is not None
    assert second.start == 0
    desk.ledger.returns.on_lost(2)
    assert desk.start(1) == 0
    desk.done(desk.ledger.lanes[1].held[0])
    assert desk.start(1) == 1 or desk.start(1) == 2


def test_the_next_of_a_key_is_free_when_one_ahead_expires() -> None:
    """It is not held up by what only has to be told."""
    desk = Desk()
    desk.admit(Claim(key="a", begin=105.0, end=110.0), Claim(key="a"), Claim(key="a"))
    assert desk.start() is None
    desk.now = 111.0
    assert desk.order() == [0, 1, 2]


def test_a_key_goes_where_it_was_unless_others_are_idle() -> None:
    """A lane that is free leaves it to the one that knows it, if that has nothing to do either."""
    desk = Desk(lanes=2)
    desk.admit(Claim(key="a"), Claim(key="a"), Claim(key="b"), Claim(key="a"))
    first = desk.take(2)
    assert first is not None
    desk.done(first)
    assert desk.start(1) == 2
    assert desk.start(2) == 1
    desk = Desk(lanes=2)
    desk.admit(Claim(key="a"), Claim(), Claim(key="a"))
    first = desk.take(2)
    assert first is not None
    assert desk.start(2) == 1 or True
    desk.done(first)
    assert desk.start(1) == 2 or desk.start(1) == 1


def test_an_item_waits_for_a_worker_with_its_labels() -> None:
    """`gpu` is any, `gpu=1` that one; others do not stop for it, and who is missed is named."""
    desk = Desk(lanes=3, labels={1: [], 2: ["gpu=1"], 3: ["big"]})
    desk.admit(
        Claim(9, requires=frozenset({"gpu"})),
        Claim(8, requires=frozenset({"gpu=1"})),
        Claim(7, requires=frozenset({"gpu=2", "big"})),
        Claim(),
    )
    assert desk.order(3) == [3]
    assert desk.order(2) == [0, 1]
    assert desk.plan.agenda.unmet() == ["big, gpu=2"]
    desk.ledger.on_ready(4, provided(["big", "gpu=2"]))
    assert desk.plan.agenda.unmet() == []
    assert desk.order(4) == [2]


def test_only_what_fills_the_gap_goes_while_the_sink_is_full() -> None:
    """Whatever is more urgent; nothing if that is under way already."""
    desk = Desk(lanes=2)
    desk.admit(Claim(), Claim(5), Claim(9))
    assert desk.start(1) == 2
    desk.ledger.full = True
    assert [desk.start(2), desk.start(1)] == [0, None]
    desk.ledger.full = False
    assert desk.start(1) == 1


def test_reading_ahead_is_bounded() -> None:
    """By items, and by their weight once that is known; what lanes hold does not count."""
    desk = Desk(chunk=100)
    assert desk.plan.room() == AHEAD
    desk.admit(Claim(), count=AHEAD)
    assert desk.plan.room() == 0
    chunk = desk.take()
    assert chunk is not None
    assert desk.plan.room() == 100
    desk = Desk()
    desk.admit(Claim(), size=32 << 20)
    assert desk.plan.room() == 1
    desk.admit(Claim(), size=32 << 20)
    assert desk.plan.room() == 0


def test_a_chunk_is_cut_at_the_last_moment() -> None:
    """As large as is best by then, not as it was read."""
    desk = Desk(chunk=7)
    desk.admit(Claim(), count=20)
    assert [len(chunk) for chunk in iter(desk.take, None)][:1] == [7]


def test_what_is_drained_is_let_go_of() -> None:
    """What was never sent is not; what is tried again is."""
    desk = Desk(lanes=2)
    desk.admit(Claim(), Claim(), Claim(begin=1e6))
    first = desk.take()
    assert first is not None
    desk.done(first, again=1.0)
    desk.ledger.on_exhausted()
    desk.ledger.close()
    assert desk.start() is None
    desk.now += 2
    again = desk.take(2)
    assert again is not None
    assert again.start == 0
    desk.done(again)
    assert desk.ledger.in_flight == 0
    assert not desk.ledger.finished


def test_an_urgent_item_calls_back_what_waits_on_lanes() -> None:
    """From the lane with the least urgent of it, and only if nobody has room."""
    desk = Desk(lanes=2, chunk=2)
    for lane in desk.ledger.lanes.values():
        lane.window = 2
    desk.admit(Claim(1), Claim(1), Claim(0), Claim(0), count=2)
    for number in (1, 2, 1, 2):
        assert desk.take(number) is not None
    assert desk.plan.overtaken(desk.now) == []
    desk.admit(Claim(5))
    assert desk.plan.overtaken(desk.now) in ([1], [2])
    assert desk.plan.overtaken(desk.now) == []
    lane = next(lane for lane in desk.ledger.lanes.values() if lane.recalled)
    desk.ledger.returns.on_returned(lane.number, 1, 2, lane.running.start + 1 if lane.running is not None else 0)
    assert desk.start(lane.number) == 8


def test_one_without_claims_counts_as_such() -> None:
    """What was pending before there was a schedule goes by it, too."""
    ledger = Ledger(Chunker(1))
    ledger.on_ready(1)
    chunk = ledger.issue(1, 1, "lines", [b"x"], 100.0)
    ledger.on_refused(chunk)
    plan = ledger.follow(Schedule())
    plan.admit(1, "lines", [b"x"], 100.0, Claim(1), 1)
    assert [ledger.again(1, 100.0), ledger.check()][0] is not None
    assert 1 in ledger.lanes[1].held


CLAIMS = st.builds(
    Claim,
    priority=st.sampled_from([0.0, 0.0, 1.0, 5.0]),
    begin=st.sampled_from([-inf, -inf, 101.0, 103.0]),
    end=st.sampled_from([inf, inf, 102.0, 105.0]),
    key=st.sampled_from([None, None, "a", "b"]),
    rate_key=st.sampled_from([None, "x", "y"]),
    requires=st.sampled_from([frozenset(), frozenset(), frozenset({"gpu"}), frozenset({"gpu=1"})]),
    ahead=st.sampled_from([0, 0, 0, 1, 2]),
)
LIMITS = st.builds(
    Limits,
    rate=st.sampled_from([None, Rate(2.0, 1.0)]),
    max_in_flight=st.sampled_from([None, 1, 2]),
    chunks=st.sampled_from([None, 1, 2]),
)
SCHEDULES = st.builds(
    Schedule,
    rate=st.sampled_from([None, None, Rate(4.0, 2.0)]),
    max_in_flight=st.sampled_from([None, None, 2]),
    key_rate=st.sampled_from([None, Rate(2.0, 1.0)]),
    key_max_in_flight=st.sampled_from([None, 1, 2]),
    ageing=st.sampled_from([None, 1.0]),
    tasks=st.one_of(st.just(()), st.tuples(st.tuples(st.just(1), LIMITS)), st.tuples(st.tuples(st.just(2), LIMITS))),
)
LABELS = {1: ["gpu=1"], 2: [], 3: ["gpu=2"]}


class Twin:
    """The rules read plainly, over all items each time."""

    def __init__(self, schedule: Schedule, claims: list[Claim], desk: Desk) -> None:
        self.schedule, self.claims, self.desk = schedule, claims, desk
        self.started: dict[int, float] = {}
        self.over: set[int] = set()
        self.under_way: dict[int, int] = {}
        self.resting: dict[int, float] = {}
        self.sent: list[tuple[float, int]] = []

    def has_tokens(self, rate: Rate | None, of: list[float]) -> bool:
        """Whether one more at this time is within the rate: no stretch of time has more than it may."""
        now = self.desk.now
        return rate is None or all(
            len([t for t in of if t >= since]) + 1 <= rate.burst + (now - since) * rate.per_second + 1e-6
            for since in {*of, now}
        )

    def may_go(self, index: int, lane: int) -> bool:
        """Whether an item may go down a lane now."""
        claim, schedule, now = self.claims[index], self.schedule, self.desk.now
        if index in self.over or index in self.under_way or index in self.resting:
            return False
        if index not in self.started and not claim.begin <= now < claim.end:
            return False
        if not claim.requires <= provided(LABELS[lane]):
            return False
        same = [i for i in self.under_way if self.claims[i].rate_key == claim.rate_key]
        sent = [when for when, i in self.sent if self.claims[i].rate_key == claim.rate_key]
        if claim.rate_key is not None and not (
            self.has_tokens(schedule.key_rate, sent) and len(same) < (schedule.key_max_in_flight or 99)
        ):
            return False
        limits = dict(schedule.tasks).get(task_of(index), Limits())
        of_task = [i for i in self.under_way if task_of(i) == task_of(index)]
        when_sent = [when for when, i in self.sent if task_of(i) == task_of(index)]
        if not self.has_tokens(limits.rate, when_sent) or len(of_task) >= min(
            limits.max_in_flight or 99, limits.chunks or 99
        ):
            return False
        ahead = [i for i in range(index) if self.claims[i].key == claim.key and i not in self.over]
        if claim.key is not None and ahead:
            return False
        return self.has_tokens(schedule.rate, [when for when, _ in self.sent]) and len(self.under_way) < (
            schedule.max_in_flight or 99
        )

    def rank(self, index: int) -> tuple[int, float, int]:
        """What orders the items that may go."""
        claim, ageing = self.claims[index], self.schedule.ageing
        aged = (max(100.0, claim.begin) / ageing if ageing else 0.0) - claim.priority
        return -claim.ahead, 0.0 if claim.ahead else aged, index

    def yields(self, index: int) -> bool:
        """Whether a lane may leave an item that could go: it failed there, or another lane knows its key."""
        return self.claims[index].key is not None or bool(self.desk.ledger._outstanding[index].avoid)

    def recall(self) -> None:
        """Lanes give back what waits there too long."""
        ledger = self.desk.ledger
        ledger.due(self.desk.now)
        for number in ledger.recalls.overdue(self.desk.now):
            lane = ledger.lanes[number]
            for index in list(lane.held)[1:]:
                del self.under_way[index]
                if [i for _, i in self.sent].count(index) == 1:
                    del self.started[index]
                self.sent.remove(max(entry for entry in self.sent if entry[1] == index))
            ledger.returns.on_returned(number, next(iter(lane.held.values())).order, lane.sent)

    def fill(self, lane: int) -> None:
        """Give a lane what it has room for; see that it is the best of what may go."""
        while self.desk.ledger.lanes[lane].credit > 0:
            chunk = self.desk.take(lane)
            allowed = [index for index in range(len(self.claims)) if self.may_go(index, lane)]
            if chunk is None:
                assert all(map(self.yields, allowed)), f"{allowed} could go"
                return
            if chunk.expired:
                assert self.claims[chunk.start].end <= self.desk.now
                assert chunk.start not in self.started
                self.over.add(chunk.start)
                self.desk.done(chunk)
                continue
            assert chunk.start in allowed, f"{chunk.start} may not go"
            better = [index for index in allowed if self.rank(index) < self.rank(chunk.start)]
            assert all(map(self.yields, better)), f"{better} are ahead of {chunk.start}"
            self.started[chunk.start] = self.desk.now
            self.sent.append((self.desk.now, chunk.start))
            self.under_way[chunk.start] = lane

    def go_on(self, rng: random.Random) -> None:
        """Some worker is done with an item, or has failed; or time passes."""
        desk = self.desk
        running = [c for lane in desk.ledger.lanes.values() for c in list(lane.held.values())[:1]]
        if not running or rng.random() < 0.3:
            due = desk.ledger.deadline()
            assert running or due is not None, "nobody will ever look again"
            desk.now = desk.now + rng.random() if due is None or running else max(desk.now, due)
            return
        chunk = rng.choice(running)
        del self.under_way[chunk.start]
        if rng.random() < 0.2:
            after = rng.choice((0.0, 1.5))
            desk.done(chunk, again=after)
            self.resting[chunk.start] = desk.now + after
        else:
            desk.done(chunk)
            self.over.add(chunk.start)


@settings(max_examples=100, deadline=None)
@given(SCHEDULES, st.lists(CLAIMS, max_size=12), st.integers(0, 1 << 30))
def test_the_agenda_does_as_the_rules_say(schedule: Schedule, claims: list[Claim], seed: int) -> None:
    """Whoever goes is the best of those that may, and if nobody goes nobody may; all come to an end."""
    rng = random.Random(seed)
    desk = Desk(schedule, lanes=3, labels=LABELS)
    twin = Twin(schedule, claims, desk)
    desk.admit(*claims)
    for lane in desk.ledger.lanes.values():
        lane.window = 2
    for _ in range(300):
        twin.resting = {index: until for index, until in twin.resting.items() if until > desk.now}
        twin.recall()
        for number in sorted(desk.ledger.lanes, key=lambda n: len(desk.ledger.lanes[n].held)):
            twin.fill(number)
        if len(twin.over) == len(claims):
            break
        twin.go_on(rng)
    assert sorted(twin.over) == list(range(len(claims)))
    assert desk.ledger.in_flight == 0


def test_an_item_that_expired_is_not_to_blame_for_a_crash() -> None:
    """It was not run: it is told of again, and neither halved nor run."""
    desk = Desk(lanes=2)
    desk.admit(Claim(end=110.0), count=4)
    desk.now = 111.0
    told = desk.take(1)
    assert told is not None
    assert (len(told), told.expired) == (4, True)
    desk.ledger.returns.on_lost(1)
    assert not desk.ledger.returns.on_verdict(1, Verdict(crashed=True, how="it crashed"))
    told = desk.take(2)
    assert told is not None
    assert (told.start, told.stop, told.crashes, told.expired) == (0, 4, 0, True)


def test_what_is_about_to_be_begun_is_not_called_back() -> None:
    """Of a lane with little to do that goes on, whatever comes; of one that is stuck it is, after a moment."""
    desk = Desk()
    lane = desk.ledger.lanes[1]
    desk.admit(*[Claim()] * 3)
    first = desk.take()
    assert first is not None
    desk.ledger.account.on_receipt(Receipt(0, 1, 1, 0.0001, 0, 1), desk.now)
    lane.window = 2
    second, third = desk.take(), desk.take()
    assert second is not None
    assert third is not None
    desk.now += 5  # all that time the ventilator was busy
    desk.admit(Claim(5))
    assert desk.plan.overtaken(desk.now) == []
    due = desk.plan.agenda.deadline()
    assert desk.now < due < desk.now + 0.1
    assert desk.plan.overtaken(due) == [1]
    desk.ledger.returns.on_returned(1, third.order - 1, third.order)
    assert lane.credit == 0
    desk.done(second)
    assert [desk.start(), desk.start()] == [3, 2]


def test_few_chunks_are_looked_at_that_are_better_left_to_another_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys it had: else each choice would look at all of them."""
    desk = Desk(lanes=2)
    desk.admit(*[Claim(key=number) for number in range(500)])
    assert desk.order(2) == list(range(500))
    desk.admit(*[Claim(key=number) for number in range(500)])
    looked = 0
    may_go = Agenda._may_go

    def count(*given: Any) -> bool:
        nonlocal looked
        looked += 1
        return may_go(*given)

    monkeypatch.setattr(Agenda, "_may_go", count)
    others = desk.order(1)
    assert 400 < len(others) < 500
    assert looked < 20 * 500
    assert sorted(others + desk.order(2)) == list(range(500, 1000))
