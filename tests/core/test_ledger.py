"""The ledger: every chunk is in one place, credit follows the window, lost work goes to others."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from zpipe.core import again as retrying
from zpipe.core.account import Account
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.ledger import Ledger
from zpipe.core.ranges import RangeSet
from zpipe.core.recall import AT_ONCE
from zpipe.core.suspects import HEARING, KILLS, Verdict
from zpipe.core.wire import Receipt


def make(*lanes: int, chunk: int | None = 1) -> Ledger:
    """A ledger with these lanes ready."""
    ledger = Ledger(Chunker(chunk))
    for number in lanes:
        ledger.on_ready(number)
    return ledger


def issue(ledger: Ledger, lane: int, count: int = 1, now: float = 0.0) -> Chunk:
    """Issue the next items to a lane."""
    return ledger.issue(lane, count, "lines", [b"x" * count], now)


def receipt(chunk: Chunk, lane: int | None = None, seconds: float = 1.0, failed: int = 0) -> Receipt:
    """The sink's receipt of a whole chunk."""
    return Receipt(chunk.start, chunk.stop, chunk.lane if lane is None else lane, seconds, failed, 10)


def test_credit_is_the_window_less_what_is_held() -> None:
    """A lane that holds its window has no credit until a receipt comes."""
    ledger = make(1)
    chunk = issue(ledger, 1)
    assert ledger.lanes[1].credit == 0
    assert ledger.account.on_receipt(receipt(chunk), 0.0) is ledger.lanes[1]
    assert ledger.lanes[1].credit == 1
    assert ledger.account.done == 1


def test_a_window_grows_only_as_the_lane_proves_quick() -> None:
    """Quick chunks deepen the window one by one; one straggler does not make it shallow again, many do."""
    ledger = make(1)
    for n in range(1, 6):
        ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=1e-6), 0.0)
        assert ledger.lanes[1].window == 1 + n
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=10.0), 0.0)
    assert ledger.lanes[1].window == 7
    for _ in range(200):
        ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=10.0), 0.0)
    assert ledger.lanes[1].window == 1


def laden(seconds: float = 0.020) -> Ledger:
    """A ledger whose first lane, of two, holds two chunks, the first since 100 s."""
    ledger = make(1, 2)
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=seconds), 99.0)
    issue(ledger, 1, now=100.0)
    issue(ledger, 1, now=100.001)
    return ledger


@pytest.mark.parametrize(("usual", "due"), [(0.0001, 0.005), (0.002, 0.012), (0.020, 0.070), (0.050, 0.100)])
def test_what_waits_behind_a_straggler_is_recalled(usual: float, due: float) -> None:
    """A chunk that runs far longer than is usual on its lane has the one behind it recalled, once."""
    ledger = laden(usual)
    due += 100.0
    assert ledger.deadline() == due
    assert ledger.recalls.overdue(due - 0.001) == []
    assert ledger.recalls.overdue(due) == [1]
    assert ledger.lanes[1].credit == 0, "nothing goes down a lane whose answer is awaited"
    assert ledger.recalls.overdue(200.0) == []
    assert ledger.deadline() is None


def test_lanes_that_are_all_late_are_recalled_a_few_at_a_time() -> None:
    """With a thousand lanes late it is the ventilator that is: recalling all of them would be what keeps it busy."""
    ledger = make(*range(1, 3 * AT_ONCE + 1))
    for lane in ledger.lanes:
        ledger.account.on_receipt(receipt(issue(ledger, lane), seconds=0.02), 99.0)
    for number in (1, 2):
        for lane in ledger.lanes:
            issue(ledger, lane, now=100.0 + lane / 1000 + number / 100_000)
    late = [ledger.recalls.overdue(now) for now in (102.0, 102.0, 103.0, 104.0, 105.0)]
    first = list(range(1, AT_ONCE + 1))
    assert late == [first, [], [n + AT_ONCE for n in first], [n + 2 * AT_ONCE for n in first], []]


def test_what_a_worker_returns_goes_to_others() -> None:
    """Chunks not started are another's, on the same attempt; none waits there till the straggler is done."""
    ledger = laden()
    ledger.recalls.overdue(101.0)
    running, waiting = ledger.lanes[1].held.values()
    assert ledger.returns.on_returned(1, after=2, upto=3) == 1
    assert ledger.lanes[1].credit == 0
    assert ledger.again(2, 101.0) is waiting
    assert waiting.attempt == 1
    ledger.account.on_receipt(receipt(running), 102.0)
    assert ledger.lanes[1].credit > 1
    ledger.check()


def test_a_worker_with_nothing_to_do_has_others_recalled() -> None:
    """With nothing left to issue, what waits is recalled for the idle worker, unless waiting is quicker."""
    assert laden().recalls.hungry(101.0) == [1]
    assert laden(seconds=1e-5).recalls.hungry(101.0) == []
    ledger = laden()
    issue(ledger, 2)
    assert ledger.recalls.hungry(101.0) == [], "nobody is idle"


def test_one_worker_alone_is_not_recalled() -> None:
    """There is nobody else to run what waits."""
    ledger = laden()
    ledger.returns.on_lost(2)
    assert ledger.recalls.overdue(200.0) == []


def test_whoever_comes_gets_what_waits_behind_a_straggler() -> None:
    """However quick the lane has been, and long after there was nobody to recall it for."""
    ledger = make(1)
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=1e-5), 99.0)
    issue(ledger, 1, now=100.0)
    issue(ledger, 1, now=100.0)
    assert ledger.recalls.overdue(101.0) == []
    assert ledger.deadline() is None
    ledger.on_ready(2)
    due = ledger.deadline()
    assert due is not None
    assert due <= 101.0
    assert ledger.recalls.overdue(101.0) == [1]
    assert ledger.returns.on_returned(1, after=2, upto=3) == 1
    assert ledger.again(2, 101.0) is not None


def test_what_was_under_way_when_a_worker_answered_is_asked_for_again() -> None:
    """It waits behind the straggler as well as what was there; not sooner than it could have come."""
    ledger = laden()
    ledger.recalls.overdue(101.0)
    assert ledger.returns.on_returned(1, after=2, upto=2) == 0
    due = ledger.deadline()
    assert due is not None
    assert 101.0 < due < 101.1
    assert ledger.recalls.overdue(due) == [1]
    assert ledger.returns.on_returned(1, after=2, upto=3) == 1
    assert ledger.deadline() is None
    ledger.check()


def test_who_was_not_asked_for_items_of_what_it_runs_may_still_have_some() -> None:
    """While there was enough for all, only what waited behind it was recalled; when there is not, its items are."""
    ledger = make(1, 2)
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=0.020), 99.0)
    running, _ = issue(ledger, 1, count=10, now=100.0), issue(ledger, 1, now=100.0)
    ledger.recalls.overdue(101.0)
    assert ledger.returns.on_returned(1, after=2, upto=3) == 1
    waiting = ledger.again(2, 101.0)
    assert waiting is not None
    ledger.account.on_receipt(receipt(waiting), 101.1)
    assert ledger.recalls.hungry(101.1) == [1]
    assert ledger.returns.on_returned(1, after=2, upto=3, cut=running.start + 4) == 1
    assert ledger.recalls.hungry(101.2) == [1], "those that were left are shared out, too"
    ledger.returns.on_returned(1, after=2, upto=3)
    assert ledger.recalls.hungry(101.3) == [], "it has no more"
    ledger.check()


def test_an_answer_nobody_asked_for_is_ignored() -> None:
    """A returned chunk counts once."""
    ledger = laden()
    assert ledger.returns.on_returned(1, 0, 10) == 0
    ledger.recalls.overdue(101.0)
    ledger.returns.on_returned(1, 2, 3)
    assert ledger.returns.on_returned(1, 0, 10) == 0
    assert len(ledger.lanes[1].held) == 1
    ledger.check()


def test_only_the_lost_lanes_chunks_go_to_others() -> None:
    """A dead worker's chunks are pending again, in order, the one it ran with the next attempt; nobody else's are."""
    ledger = make(1, 2, 3)
    first, other, second = issue(ledger, 1), issue(ledger, 2), issue(ledger, 1)
    assert ledger.returns.on_lost(1) == 2
    assert (ledger.again(3, 0.0), ledger.again(3, 0.0), ledger.again(3, 0.0)) == (first, second, None)
    assert (first.attempt, second.attempt, other.attempt) == (2, 1, 1)
    assert other.lane == 2
    ledger.check()


def test_whose_fault_a_loss_was_is_kept_apart() -> None:
    """Only the chunk that was running is charged, as a loss, and as a crash once the verdict says so."""
    ledger = make(1)
    running, queued = issue(ledger, 1), issue(ledger, 1)
    ledger.returns.on_lost(1)
    assert (running.losses, running.crashes) == (1, 0)
    assert ledger.returns.on_verdict(1, Verdict(True)) is running
    assert (running.losses, running.crashes) == (0, 1)
    assert (queued.losses, queued.crashes) == (0, 0)
    assert ledger.returns.on_verdict(1, Verdict(True)) is None, "a verdict counts once"


def test_a_verdict_from_outside_charges_nobody() -> None:
    """A worker killed from outside is a loss, not a crash."""
    ledger = make(1)
    chunk = issue(ledger, 1)
    ledger.returns.on_lost(1)
    assert ledger.returns.on_verdict(1, Verdict(False)) is None
    assert (chunk.losses, chunk.crashes) == (1, 0)


def test_a_leaving_worker_hands_back_what_it_has_not_taken() -> None:
    """Chunks behind the last one taken go to others on the same attempt; the taken ones await their receipts."""
    ledger = make(1, 2)
    taken, back = issue(ledger, 1), issue(ledger, 1)
    assert ledger.returns.on_leave(1, taken=1) == 1
    assert ledger.lanes[1].credit == 0
    assert ledger.again(2, 0.0) is back
    assert back.attempt == 1
    assert list(ledger.lanes[1].held) == [taken.start]


def test_a_leaving_worker_hands_back_items_of_its_chunk() -> None:
    """Those it has not started are others', on the same attempt; the chunk ends before them."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1, 10)
    assert ledger.returns.on_leave(1, taken=1, cut=4) == 1
    assert (chunk.start, chunk.stop) == (0, 4)
    pieces = [ledger.again(2, 0.0), ledger.again(2, 0.0)]
    assert [(piece.start, piece.stop, piece.attempt) for piece in pieces if piece] == [(4, 7, 1), (7, 10, 1)]
    assert ledger.account.on_receipt(receipt(chunk), 0.0) is ledger.lanes[1]
    ledger.check()


def test_a_late_receipt_from_a_lost_lane_counts() -> None:
    """A result that outlived its worker saves the second run, wherever the chunk is by then."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1)
    ledger.returns.on_lost(1)
    ledger.account.on_receipt(receipt(chunk, lane=1), 0.0)
    assert ledger.again(2, 0.0) is None
    held = issue(ledger, 2)
    assert ledger.account.on_receipt(receipt(held, lane=1), 0.0) is ledger.lanes[2], (
        "the lane that holds it has credit again"
    )
    ledger.check()


def test_a_second_receipt_changes_nothing() -> None:
    """Receipts may be doubled."""
    ledger = make(1)
    chunk = issue(ledger, 1)
    again = receipt(chunk)
    ledger.account.on_receipt(again, 0.0)
    assert ledger.account.on_receipt(again, 0.0) is None
    assert ledger.account.done == 1


def test_a_refused_send_costs_nothing() -> None:
    """A chunk the lane would not take is pending, on the same attempt."""
    ledger = make(1)
    chunk = issue(ledger, 1)
    ledger.on_refused(chunk)
    assert ledger.lanes[1].credit == 1
    assert ledger.again(1, 0.0) is chunk
    assert chunk.attempt == 1
    ledger.check()


def test_nothing_new_while_the_sink_is_full_but_the_gap_is_filled() -> None:
    """With the reorder buffer at its bound only requeued chunks go out."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1)
    ledger.full = True
    ledger.returns.on_lost(1)
    assert ledger.wanted(None) == 0
    assert ledger.again(2, 0.0) is chunk


def test_a_limit_drops_what_lies_behind_it() -> None:
    """After a hit in input order, chunks behind it are forgotten, wherever they are."""
    ledger = make(1, 2)
    before, hit, behind = (issue(ledger, 1, 10) for _ in range(3))
    ledger.account.on_limit(15)
    assert behind.start not in ledger.lanes[1].held
    assert ledger.account.on_receipt(Receipt(10, 15, 1, 0.1, 0, 1), 0.0) is not None, "the truncated chunk is whole"
    assert not ledger.finished
    ledger.account.on_receipt(receipt(before), 0.0)
    assert ledger.finished
    assert hit.start not in ledger.lanes[1].held


def test_finished_is_counted() -> None:
    """The end is every receipt after the source's end, not silence."""
    ledger = make(1)
    chunk = issue(ledger, 1)
    assert not ledger.finished
    ledger.on_exhausted()
    assert not ledger.finished
    ledger.account.on_receipt(receipt(chunk), 0.0)
    assert ledger.finished


def test_what_is_done_before_it_is_issued_is_passed_over() -> None:
    """Seeded ranges are skipped in the source, and no chunk reaches into one, whatever its size."""
    ledger = make(1, chunk=10)
    ledger.account.on_done(RangeSet([(0, 5), (8, 9), (20, 40)]))
    ledger.check()
    assert (ledger.account.done, ledger.skippable) == (26, 5)
    ledger.on_skipped(5)
    assert (ledger.skippable, ledger.wanted(None)) == (0, 3)
    ledger.account.on_receipt(receipt(issue(ledger, 1, 3)), 0.0)
    assert (ledger.skippable, ledger.wanted(None)) == (1, 0)
    ledger.on_skipped(1)
    ledger.account.on_receipt(receipt(issue(ledger, 1, ledger.wanted(None))), 0.0)
    assert ledger.next == 19
    ledger.account.on_receipt(receipt(issue(ledger, 1, ledger.wanted(None))), 0.0)
    ledger.on_skipped(ledger.skippable)
    ledger.check()
    assert (ledger.next, ledger.account.done, ledger.account.ahead.count, ledger.wanted(None)) == (40, 40, 0, 10)


def test_a_late_receipt_of_what_was_not_issued_yet_counts() -> None:
    """A worker of an earlier ventilator delivers late: partly what is in flight, partly what is to come."""
    ledger = make(1, chunk=10)
    chunk = issue(ledger, 1, 10)
    ledger.account.on_receipt(Receipt(5, 15, 99, 1.0, 1, 10), 0.0)
    ledger.check()
    assert (ledger.account.done, ledger.account.failed, ledger.account.ahead.count, ledger.in_flight) == (10, 1, 5, 1)
    assert ledger.skippable == 5
    ledger.on_skipped(5)
    ledger.account.on_receipt(Receipt(0, 5, 1, 0.0, 0, 0, 0.0, chunk.attempt, void=True), 0.0)
    assert ledger.due(0.0)
    again = ledger.again(1, 0.0)
    assert again is not None
    assert (again.start, again.stop, again.tries) == (0, 5, 0)
    assert ledger.retries.count == 0
    ledger.account.on_receipt(receipt(again), 0.0)
    ledger.check()
    assert (ledger.account.done, ledger.next) == (15, 15)


def test_of_a_pending_chunk_only_what_is_not_done_is_sent() -> None:
    """A part that came late from a lost lane is not run again, for its outcome could not be told from the rest."""
    ledger = make(1, 2, chunk=10)
    issue(ledger, 1, 10)
    ledger.returns.on_lost(1)
    ledger.account.on_receipt(Receipt(3, 6, 1, 1.0, 0, 10), 0.0)
    sent = [ledger.again(2, 0.0) for _ in range(2)]
    assert [(c.start, c.stop) for c in sent if c is not None] == [(0, 3), (6, 10)]
    assert ledger.again(2, 0.0) is None
    ledger.check()


@pytest.mark.parametrize(("most", "size"), [(3, 1 << 40), (1 << 40, 3 * 1000)])
def test_nothing_new_while_too_much_waits_for_another_try(
    most: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast items fail and however long they wait, what is held of them is bounded; then it goes on."""
    monkeypatch.setattr(retrying, "MOST", most)
    monkeypatch.setattr(retrying, "MOST_BYTES", size)
    ledger = make(1)
    for n in range(3):
        assert ledger.open
        assert ledger.wanted(None) == 1
        chunk = ledger.issue(1, 1, "pickle", [b"x" * 1000], 0.0)
        assert ledger.account.on_receipt(again(chunk, n, n + 1, 10.0 + n), 0.0) is ledger.lanes[1]
        ledger.check()
    assert not ledger.open
    assert ledger.wanted(None) == 0
    assert ledger.deadline() == 10.0
    assert ledger.due(10.0)
    assert ledger.open
    found = ledger.again(1, 11.5)
    assert found is not None
    assert ledger.wanted(None) == 1
    ledger.account.on_receipt(receipt(found), 12.0)
    ledger.check()
    ledger.account.on_limit(0)
    ledger.check()
    assert not ledger.retries.chunks


def test_parts_of_a_chunk_cost_the_same_whatever_else_is_outstanding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk with many failures is receipted in many parts, and none of them is looked for among all the others."""
    ledger, looks, wanted = make(1), 0, Account._wanted_of

    def counted(self: Account, chunk: Chunk) -> int:
        nonlocal looks
        looks += 1
        return wanted(self, chunk)

    for _ in range(1000):
        ledger.set_aside(1, ("lines", [b"x"]))
    chunk = issue(ledger, 1, 300)
    monkeypatch.setattr(Account, "_wanted_of", counted)
    for start in range(1000, 1300, 2):
        ledger.account.on_receipt(again(chunk, start, start + 1), 1.0)
        ledger.account.on_receipt(Receipt(start + 1, start + 2, 1, 0.1, 0, 1), 1.0)
    assert looks < 3000
    ledger.check()
    assert (ledger.account.done, ledger.retries.count, ledger.in_flight) == (150, 150, 1000)


def test_what_is_done_is_not_tried_again() -> None:
    """Of items that wait for their next try only those are tried that are not done meanwhile."""
    ledger = make(1, chunk=10)
    chunk = issue(ledger, 1, 10)
    ledger.account.on_receipt(Receipt(2, 6, 1, 0.0, 0, 0, 5.0, chunk.attempt), 0.0)
    ledger.account.on_done(RangeSet([(0, 3), (5, 10)]))
    ledger.check()
    assert (ledger.account.done, ledger.in_flight) == (8, 0)
    assert ledger.due(5.0)
    again = ledger.again(1, 10.0)
    assert again is not None
    assert (again.start, again.stop) == (3, 5)
    ledger.account.on_receipt(receipt(again), 10.0)
    ledger.on_exhausted()
    assert ledger.finished


def test_a_full_sink_may_have_what_fills_its_gaps() -> None:
    """What is next comes before something that waits for it: to hold it back would be to wait for ever."""
    ledger = make(1, chunk=10)
    ledger.account.on_done(RangeSet([(4, 100)]))
    ledger.full = True
    assert ledger.wanted(None) == 4
    issue(ledger, 1, 4)
    assert ledger.wanted(None) == 0
    ledger.on_skipped(ledger.skippable)
    assert ledger.wanted(None) == 0


def test_a_limit_that_a_sink_brings_is_not_yet_reached() -> None:
    """A search that was found to end at an item goes on to there, and is finished only then."""
    ledger = make(1, chunk=10)
    ledger.account.on_limit(13)
    assert not ledger.finished
    first = issue(ledger, 1, ledger.wanted(None))
    ledger.account.on_receipt(receipt(first), 0.0)
    assert ledger.wanted(None) == 3
    ledger.account.on_receipt(receipt(issue(ledger, 1, 3)), 0.0)
    assert ledger.wanted(None) == 0
    assert ledger.finished


class LedgerMachine(RuleBasedStateMachine):
    """Any order of events keeps every chunk in one place, and everything can still be finished."""

    lanes = Bundle("lanes")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Chunker(3))
        self.numbers = 0
        self.sent: list[tuple[int, int, int]] = []

    @rule(target=lanes)
    def ready(self) -> int:
        self.numbers += 1
        self.ledger.on_ready(self.numbers)
        return self.numbers

    @rule(lane=lanes)
    def fill(self, lane: int) -> None:
        if lane not in self.ledger.lanes or self.ledger.lanes[lane].credit <= 0:
            return
        chunk = self.ledger.again(lane, 0.0) or issue(self.ledger, lane, self.ledger.wanted(None))
        self.sent.append((chunk.start, chunk.stop, lane))

    @rule(lane=consumes(lanes), limited=st.booleans(), late=st.booleans(), item=st.none() | st.integers(0, 40))
    def lose(self, lane: int, limited: bool, late: bool, item: int | None) -> None:
        self.ledger.returns.limited = limited
        self.ledger.returns.on_lost(lane, verdict=True)
        self.ledger.check()
        if lane % 3:
            self.ledger.returns.on_verdict(lane, Verdict(lane % 2 == 0, item, late, "so"))

    @rule()
    def hear(self) -> None:
        self.ledger.due(0.0)
        self.ledger.due(HEARING)

    @rule(lane=lanes, taken=st.integers(0, 4))
    def leave(self, lane: int, taken: int) -> None:
        self.ledger.returns.on_leave(lane, taken)

    @rule(after=st.integers(0, 4), upto=st.integers(0, 6))
    def recall(self, after: int, upto: int) -> None:
        for number in [*self.ledger.recalls.overdue(1e9), *self.ledger.recalls.hungry(1e9)]:
            self.ledger.returns.on_returned(number, after, upto)

    @rule(pick=st.integers(0, 1000), seconds=st.floats(1e-6, 1))
    def receive(self, pick: int, seconds: float) -> None:
        if self.sent:
            start, stop, lane = self.sent[pick % len(self.sent)]
            self.ledger.account.on_receipt(Receipt(start, stop, lane, seconds, 0, 10), 0.0)

    @invariant()
    def sound(self) -> None:
        self.ledger.check()

    def teardown(self) -> None:
        self.ledger.on_exhausted()
        self.numbers += 1
        self.hear()
        self.ledger.on_ready(self.numbers)
        for number in [n for n in self.ledger.lanes if n != self.numbers]:
            self.ledger.returns.on_lost(number)
        while (chunk := self.ledger.again(self.numbers, 0.0)) is not None:
            self.ledger.account.on_receipt(receipt(chunk), 0.0)
        assert self.ledger.finished
        assert self.ledger.account.done == self.ledger.next


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def again(chunk: Chunk, start: int, stop: int, seconds: float = 5.0) -> Receipt:
    """The sink's word that this attempt of these items failed, and another is wanted."""
    return Receipt(start, stop, chunk.lane, 0.0, 0, 0, seconds, chunk.attempt)


def ranges(ledger: Ledger, lane: int) -> list[tuple[int, int, bool]]:
    """What is pending, as a lane gets it one by one: start, stop and whether that is only told."""
    found = []
    while (chunk := ledger.again(lane, 0.0)) is not None:
        found.append((chunk.start, chunk.stop, chunk.late))
        ledger.account.on_receipt(receipt(chunk), 0.0)
    return found


def test_an_item_that_ran_too_long_is_charged_and_its_chunk_is_free() -> None:
    """It is cut out and only told of; what is around it, and what waited behind, runs again as if nothing had been."""
    ledger = make(1, 2)
    ledger.returns.limited = True
    issue(ledger, 1, 16)
    issue(ledger, 1, 4)
    assert ledger.returns.on_lost(1, verdict=True) == 2
    assert ledger.returns.waits(1)
    assert ledger.again(2, 0.0) is None, "whose fault it was may be heard soon"
    ledger.check()
    charged = ledger.returns.on_verdict(1, Verdict(False, 5, True, "it ran for 9 s"))
    assert charged is not None
    assert (charged.start, charged.stop, charged.crashes) == (5, 6, 0)
    assert (charged.doom, charged.late) == ("it ran for 9 s", True)
    ledger.check()
    first = ledger.again(2, 0.0)
    assert (first.start, first.stop, first.tries, first.crashes, first.doom) == (0, 5, 0, 0, "")
    told = ledger.again(2, 0.0)
    assert (told.start, told.attempt, told.tries, told.late) == (5, 1, 0, True), "to tell of it is no attempt"
    ledger.account.on_receipt(again(told, 5, 6, 1.0), 0.0)
    ledger.account.on_receipt(receipt(first), 0.0)
    assert ranges(ledger, 2) == [(6, 16, False), (16, 20, False)]
    ledger.due(1.0)
    retry = ledger.again(2, 3.0)
    assert (retry.start, retry.stop, retry.attempt, retry.tries, retry.late, retry.doom) == (5, 6, 2, 1, False, "")


def test_a_verdict_that_does_not_come_is_not_waited_for_long() -> None:
    """After some seconds the chunks go to others; what is heard then still counts for what is pending."""
    ledger = make(1, 2)
    ledger.returns.limited = True
    issue(ledger, 1, 8)
    ledger.returns.on_lost(1, verdict=True)
    assert ledger.deadline() == 0.0
    assert not ledger.due(10.0)
    assert ledger.deadline() == 10.0 + HEARING
    assert ledger.due(10.0 + HEARING)
    assert not ledger.returns.waits(1)
    ledger.returns.on_verdict(1, Verdict(False, 7, True, "so"))
    assert ranges(ledger, 2) == [(0, 7, False), (7, 8, True)]
    ledger.on_exhausted()
    assert ledger.finished


def test_a_verdict_on_what_has_been_done_meanwhile_charges_nobody() -> None:
    """The result was on its way when the worker was killed."""
    ledger = make(1, 2)
    ledger.returns.limited = True
    chunk = issue(ledger, 1, 4)
    ledger.returns.on_lost(1, verdict=True)
    ledger.account.on_receipt(receipt(chunk), 0.0)
    assert ledger.returns.on_verdict(1, Verdict(False, 2, True, "so")) is None
    assert ledger.again(2, 0.0) is None
    ledger.check()


def test_a_chunk_is_halved_where_an_item_is_tried_again_already() -> None:
    """That one has a chunk of its own, which was taken out of the books; the halves are of what else there is."""
    ledger = make(1, 2, 3)
    ledger.returns.limited = True
    chunk = issue(ledger, 1, 8)
    ledger.account.on_receipt(again(chunk, 4, 5, 0.0), 0.0)
    ledger.due(1.0)
    retry = ledger.again(2, 1.0)
    assert (retry.start, retry.stop) == (4, 5)
    ledger.returns.on_lost(1, verdict=True)
    ledger.returns.on_verdict(1, Verdict(crashed=True))
    ledger.check()
    assert ledger.lanes[2].held == {4: retry}
    ledger.account.on_receipt(receipt(retry), 2.0)
    found = []
    while (suspect := ledger.again(3, 2.0)) is not None:
        found.append((suspect.start, suspect.stop))
        ledger.account.on_receipt(receipt(suspect), 2.0)
    assert found == [(0, 2), (2, 4), (5, 6), (6, 8)]


def test_of_what_is_to_be_tried_again_a_part_may_be_done() -> None:
    """A sink that comes back says again what it asked for; what it has got meanwhile it has said before."""
    ledger = make(1)
    chunk = issue(ledger, 1, 8)
    ledger.account.on_done(RangeSet([(3, 4)]))
    ledger.account.on_receipt(Receipt(2, 6, 1, 0.0, 0, 0, 0.0, 1, void=True), 0.0)
    ledger.account.on_receipt(Receipt(0, 2, 1, 1.0, 0, 2), 0.0)
    ledger.account.on_receipt(Receipt(6, 8, 1, 1.0, 0, 2), 0.0)
    ledger.check()
    assert chunk.got is not None
    ledger.due(0.0)
    assert ranges(ledger, 1) == [(2, 3, False), (4, 6, False)]


def test_who_is_known_to_have_crashed_its_workers_is_not_looked_for() -> None:
    """An item that workers ended over is given up after as many of them as the job allows, its chunk never halved."""
    ledger = Ledger(Chunker(16), 2)
    ledger.returns.limited = True
    ledger.on_ready(1)
    issue(ledger, 1, 16)
    for lane in (1, 2):
        ledger.returns.on_lost(lane, verdict=True)
        ledger.returns.on_verdict(lane, Verdict(True, 9, False, "it used 3 GB of memory"))
        ledger.on_ready(lane + 1)
        suspect = ledger.again(lane + 1, 0.0)
        assert (suspect.start, suspect.stop, suspect.crashes) == (9, 10, lane)
    assert suspect.doom == "it was given up: 2 workers ended while they ran it; the last one: it used 3 GB of memory"
    assert suspect.attempt == 2
    ledger.account.on_receipt(receipt(suspect), 0.0)
    assert ranges(ledger, 3) == [(0, 9, False), (10, 16, False)]


def test_an_item_that_failed_is_tried_again_when_it_is_time_elsewhere() -> None:
    """Only that item, after its delay, on another lane while there is one; the rest of its chunk counts."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1, 5)
    ledger.account.on_receipt(Receipt(0, 2, 1, 0.1, 0, 1), 10.0)
    ledger.account.on_receipt(again(chunk, 2, 3), 10.0)
    assert ledger.account.on_receipt(Receipt(3, 5, 1, 0.1, 0, 1), 10.0) is ledger.lanes[1]
    ledger.on_exhausted()
    assert (ledger.account.done, ledger.retries.count, ledger.finished) == (4, 1, False)
    assert ledger.deadline() == 15.0
    assert not ledger.due(14.9)
    assert ledger.due(15.0)
    assert ledger.again(1, 15.0) is None, "it failed there"
    retry = ledger.again(2, 15.0)
    assert retry is not None
    assert (retry.start, retry.stop, retry.skip, retry.tries, retry.attempt) == (2, 3, 2, 1, 2)
    assert retry.payload is chunk.payload
    ledger.account.on_receipt(receipt(retry), 16.0)
    assert ledger.finished
    ledger.check()


def test_an_only_worker_tries_again_itself() -> None:
    """With no other lane, or when the others have been busy for long, the item goes where it failed."""
    for lanes in ((1,), (1, 2)):
        ledger = make(*lanes)
        chunk = issue(ledger, 1)
        ledger.account.on_receipt(again(chunk, 0, 1, 1.0), 0.0)
        ledger.due(1.0)
        late = 1.0 if len(lanes) == 1 else 2.5
        assert ledger.due(late) is (len(lanes) > 1)
        assert ledger.again(1, late) is not None


def test_only_the_attempt_that_failed_asks_for_another() -> None:
    """A doubled word, or one of an attempt that is no longer the chunk's, changes nothing."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1)
    word = again(chunk, 0, 1)
    ledger.account.on_receipt(word, 0.0)
    ledger.account.on_receipt(word, 0.0)
    assert ledger.retries.count == 1
    other = issue(ledger, 1)
    stale = again(other, 1, 2)
    ledger.returns.on_lost(1)
    ledger.again(2, 0.0)
    ledger.account.on_receipt(stale, 0.0)
    assert ledger.retries.count == 1
    ledger.check()


def test_a_lane_that_was_quick_is_not_flooded_with_slow_chunks() -> None:
    """What is in flight takes ten milliseconds by its own timings, whatever the lane did before; unknown, it is two."""
    for seconds, most in ((None, 2), (0.004, 3), (0.050, 2)):
        ledger = make(1)
        for _ in range(40):
            ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=1e-6), 0.0)
        assert ledger.lanes[1].credit > 30
        other = Chunker(1)
        if seconds is not None:
            other.observe(1, seconds, 1)
        while ledger.lanes[1].credit > 0:
            ledger.issue(1, 1, "lines", [b"x"], 0.0, 1, other)
        assert len(ledger.lanes[1].held) == most


def test_what_is_left_of_a_result_that_was_dropped_runs_again() -> None:
    """A part came from another lane, so the sink drops the whole: it asks for the rest, which is pending."""
    ledger = make(1, 2, chunk=10)
    issue(ledger, 1, 10)
    ledger.returns.on_lost(1)
    assert ledger.again(2, 1.0) is not None
    assert ledger.account.on_receipt(Receipt(0, 5, 1, 1.0, 0, 5), 2.0) is None
    assert not ledger.waiting
    assert ledger.account.on_receipt(Receipt(5, 10, 2, 0.0, 0, 0, 0.0, 2, True), 3.0) is ledger.lanes[2]
    assert ledger.due(3.0)
    ledger.check()
    rest = ledger.again(2, 3.0)
    assert rest is not None
    assert (rest.start, rest.stop, rest.skip, rest.tries) == (5, 10, 5, 0)
    assert ledger.account.done == 5


def test_what_lies_behind_the_limit_is_not_run_again() -> None:
    """Of a lost chunk that the limit is in only what is wanted is pending."""
    ledger = make(1, chunk=10)
    issue(ledger, 1, 10)
    ledger.account.on_limit(7)
    ledger.account.on_receipt(Receipt(2, 7, 1, 1.0, 0, 5), 1.0)
    ledger.returns.on_lost(1)
    ledger.on_ready(2)
    rest = ledger.again(2, 1.0)
    assert rest is not None
    assert (rest.start, rest.stop) == (0, 2)
    assert ledger.again(2, 1.0) is None


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1e9, 1e308, 5e-324])
def test_a_timing_that_can_not_be_is_not_believed(seconds: float) -> None:
    """A worker's clock was set while a chunk ran: the sizes of chunks and windows stay as they were."""
    ledger = make(1, chunk=None)
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=0.001), 0.0)
    before = ledger.wanted(None), ledger.chunker.cost(1), ledger.lanes[1].typical, ledger.lanes[1].window
    ledger.account.on_receipt(receipt(issue(ledger, 1), seconds=seconds), 0.0)
    assert (ledger.wanted(None), ledger.chunker.cost(1), ledger.lanes[1].typical, ledger.lanes[1].window) == before
    assert ledger.account.done == 2


def test_a_chunk_that_unknown_hands_kill_again_and_again_is_to_blame() -> None:
    """A few times are chance; then it is halved, and what is killed alone, three times more, is given up, alone."""
    ledger, killed = make(1), Verdict(how="killed by SIGKILL", killed=True)
    issue(ledger, 1, 4)
    runs: Counter[tuple[int, int]] = Counter()
    for lane in range(1, 60):
        chunk = next(iter(ledger.lanes[lane].held.values()), None) or ledger.again(lane, 0.0)
        if chunk is None:
            break
        runs[chunk.start, chunk.stop] += 1
        if chunk.start <= 2 < chunk.stop and not chunk.doom:
            ledger.returns.on_lost(lane)
            ledger.returns.on_verdict(lane, killed)
        else:
            assert bool(chunk.doom) == (chunk.start == 2), chunk.doom
            ledger.account.on_receipt(receipt(chunk), 0.0)
        ledger.check()
        ledger.on_ready(lane + 1)
    ledger.on_exhausted()
    assert ledger.finished
    assert runs[0, 4] == KILLS + 1
    assert (runs[0, 2], runs[2, 4], runs[3, 4]) == (1, 1, 1)
    assert runs[2, 3] == 3 + 1, "three runs that prove it, and one that tells of it"


def test_chunks_that_a_lost_worker_can_not_have_come_to_have_had_no_attempt() -> None:
    """In a job with limits its supervisor knows which item it was at: what is behind that was not begun."""
    ledger = make(1, 2)
    ledger.returns.limited = True
    ledger.lanes[1].window = 9
    for _ in range(3):
        issue(ledger, 1, 4)
    ledger.returns.on_lost(1, verdict=True)
    ledger.returns.on_verdict(1, Verdict(True, 5, how="killed by SIGSEGV"))
    attempts = {}
    for _ in range(9):
        chunk = ledger.again(2, 0.0)
        if chunk is not None:
            attempts[chunk.start, chunk.stop] = chunk.attempt
            ledger.account.on_receipt(receipt(chunk), 0.0)
    assert attempts == {(0, 4): 2, (4, 5): 2, (5, 6): 2, (6, 8): 1, (8, 12): 1}


def test_an_item_to_be_tried_again_waits_for_its_chunk_and_no_longer() -> None:
    """While the rest of that runs it has the same place in the books: nobody looks again before that is in."""
    ledger = make(1, 2)
    chunk = issue(ledger, 1, 4)
    ledger.account.on_receipt(again(chunk, 0, 1, 1.0), 0.0)
    assert ledger.deadline() == 1.0
    assert not ledger.due(1.0)
    assert ledger.deadline() is None, "time has no more to do with it"
    ledger.account.on_receipt(Receipt(1, 4, 1, 0.1, 0, 10), 5.0)
    assert ledger.deadline() == 0.0
    assert ledger.due(5.0)
    retry = ledger.again(2, 5.0)
    assert (retry.start, retry.stop, retry.tries) == (0, 1, 1)


def test_results_of_a_worker_that_has_not_their_chunk_are_counted() -> None:
    """They count, as the item's outcome is as good as any; how many there were is told."""
    ledger = make(1, 2)
    late, own = issue(ledger, 1), issue(ledger, 2)
    ledger.returns.on_lost(1)
    assert ledger.again(2, 0.0) is None or ledger.lanes[2].held
    ledger.account.on_receipt(Receipt(late.start, late.stop, 1, 0.1, 0, 10), 0.0)
    ledger.account.on_receipt(receipt(own), 0.0)
    assert (ledger.account.done, ledger.account.unowned) == (2, 1)
    ledger.account.on_receipt(Receipt(late.start, late.stop, 7, 0.1, 0, 10), 0.0)
    assert (ledger.account.done, ledger.account.unowned) == (2, 1), "what is done already is a duplicate"
