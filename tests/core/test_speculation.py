"""Speculation: which chunks are copied, where to, and what becomes of either run."""

from __future__ import annotations

from typing import Any

import pytest

from zpipe.core import wire
from zpipe.core.actions import Fill, Inform, Reply
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.director import Director
from zpipe.core.ledger import Ledger
from zpipe.core.policy import Policy
from zpipe.core.ranges import RangeSet
from zpipe.core.seat import Wants
from zpipe.core.speculation import LEAST, SHARE, SLOW
from zpipe.core.suspects import Verdict
from zpipe.core.wire import Receipt

USUAL = 1.0
"""Seconds that an item of these ledgers usually takes."""
LATE = 100.0 + SLOW * USUAL


def make(*lanes: int, wanted: bool = True, chunk: int = 1) -> Ledger:
    """A ledger with these lanes ready, each of which has done a chunk in the usual time."""
    ledger = Ledger(Chunker(chunk), speculate=wanted)
    for number in lanes:
        ledger.on_ready(number)
        ledger.account.on_receipt(receipt(issue(ledger, number, chunk, 98.0), seconds=USUAL * chunk), 99.0)
    ledger.recalls.dry = True
    return ledger


def issue(ledger: Ledger, lane: int, count: int = 1, now: float = 100.0) -> Chunk:
    """Issue the next items to a lane."""
    chunk = ledger.issue(lane, count, "lines", [b"x" * count], now)
    ledger.recalls.dry = True
    return chunk


def receipt(chunk: Chunk, lane: int = 0, seconds: float = USUAL, **more: Any) -> Receipt:
    """The sink's receipt of a whole chunk, by default from its own lane."""
    return Receipt(chunk.start, chunk.stop, lane or chunk.lane, seconds, 0, 10, **more)


def copied(chunk: int = 1) -> tuple[Ledger, Chunk, Chunk]:
    """A ledger of two lanes, a slow chunk on the first and its copy on the second."""
    ledger = make(1, 2, chunk=chunk)
    slow = issue(ledger, 1, chunk)
    ledger.lanes[1].shared = True
    assert ledger.speculate(LATE + 10) == {2: slow}
    copy = ledger.again(2, LATE + 10)
    assert copy is not None
    ledger.check()
    return ledger, slow, copy


def test_a_slow_chunk_is_copied_once_to_an_idle_worker() -> None:
    """After twice the usual time, not before; with the same items on the same attempt; and never a second time."""
    ledger = make(1, 2, 3)
    slow = issue(ledger, 1)
    assert ledger.speculate(LATE - 0.01) == {}
    assert ledger.deadline() == LATE
    (lane,) = ledger.speculate(LATE)
    assert lane in (2, 3)
    assert ledger.waiting
    copy = ledger.again(lane, LATE)
    assert copy is not None
    assert (copy.start, copy.stop, copy.attempt, copy.payload) == (slow.start, slow.stop, 1, slow.payload)
    assert ledger.lanes[lane].credit == 0
    assert slow.lane == 1
    assert ledger.speculate(LATE + 100) == {}
    assert ledger.again(lane, LATE) is None
    ledger.check()


def test_nothing_is_copied_unless_it_is_wanted() -> None:
    """It is for those who say that their task may run twice."""
    ledger = make(1, 2, wanted=False)
    issue(ledger, 1)
    assert ledger.speculate(LATE + 100) == {}


@pytest.mark.parametrize("why", ["pending", "busy", "alone", "unknown", "suspect", "leaving", "slow worker"])
def test_what_is_not_copied(why: str) -> None:
    """Nothing while there is other work, or nobody idle who is quick; nor what may be what ends workers."""
    ledger = make(1, 2, 3)
    slow = issue(ledger, 1)
    ledger.returns.on_lost(3)
    if why == "pending":
        ledger.on_ready(4)
        issue(ledger, 4)
        ledger.returns.on_lost(4)
    elif why == "busy":
        issue(ledger, 2, now=LATE)
    elif why == "alone":
        ledger.returns.on_lost(2)
    elif why == "unknown":
        slow.chunker = Chunker(1)
    elif why == "suspect":
        slow.crashes = 1
    elif why == "leaving":
        ledger.returns.on_leave(2, 1)
    else:
        ledger.lanes[2].typical = 4 * USUAL
        ledger.on_ready(4)
        ledger.lanes[4].typical = USUAL
        issue(ledger, 4, now=LATE)
    assert ledger.speculate(LATE) == {}


def test_a_chunk_is_slow_by_its_number_of_items_and_never_at_once() -> None:
    """A long chunk has long; what takes no time is not worth a copy."""
    ledger = make(1, 2, chunk=4)
    issue(ledger, 1, 4)
    ledger.lanes[1].shared = True
    assert ledger.speculate(100.0 + SLOW * 3 * USUAL) == {}
    assert ledger.speculate(100.0 + SLOW * 4 * USUAL) != {}
    ledger = make(1, 2)
    quick = issue(ledger, 1)
    quick.chunker = Chunker(1)
    quick.chunker.observe(1000, 0.001, 1)
    assert ledger.speculate(100.0 + LEAST * 0.99) == {}
    assert ledger.speculate(100.0 + LEAST) != {}


def test_items_are_asked_for_before_they_are_copied() -> None:
    """What has not been started is recalled; a worker that does not answer is taken not to hear."""
    ledger = make(1, 2, chunk=4)
    chunk = issue(ledger, 1, 4)
    assert ledger.speculate(200.0) == {}
    assert ledger.recalls.hungry(200.0) == [1]
    assert ledger.speculate(200.1) == {}, "the answer is on its way"
    assert ledger.speculate(201.0) == {2: chunk}


def test_the_longest_first_and_not_too_many() -> None:
    """One copy for four workers; what has run longest has the longest to go."""
    ledger = make(*range(1, 2 * SHARE + 1))
    slow = {number: issue(ledger, number, now=110.0 - number) for number in (1, 3, 2)}
    planned = ledger.speculate(200.0)
    assert list(planned.values()) == [slow[3], slow[2]]
    assert ledger.speculate(200.0) == {}, "those planned count"
    for number in planned:
        ledger.again(number, 200.0)
    assert ledger.speculate(201.0) == {}, "and those that run"
    ledger.account.on_receipt(receipt(slow[3]), 202.0)
    assert list(ledger.speculate(202.0).values()) == [slow[1]]


def test_the_first_result_wins() -> None:
    """Whichever it is: its lane is free, the other has nothing else until it has been heard of."""
    for winner, loser in ((1, 2), (2, 1)):
        ledger, slow, _ = copied()
        ledger.on_exhausted()
        assert ledger.account.on_receipt(receipt(slow, winner), 200.0) is ledger.lanes[winner]
        ledger.check()
        assert ledger.finished, "the job does not wait for the one that has lost"
        assert ledger.lanes[winner].credit > 0
        assert ledger.lanes[loser].credit == 0
        assert ledger.speculation.won == (winner == 2)
        assert ledger.account.on_receipt(receipt(slow, loser), 300.0) is ledger.lanes[loser]
        assert ledger.lanes[loser].credit > 0
        assert ledger.account.done == ledger.next


@pytest.mark.parametrize("winner", [1, 2])
def test_a_loser_is_asked_to_leave_what_it_has_not_begun(winner: int) -> None:
    """A chunk of several items is cut short; what was cut off is nobody's any more."""
    ledger, slow, _ = copied(chunk=4)
    loser = 3 - winner
    ledger.account.on_receipt(receipt(slow, winner), 200.0)
    assert ledger.speculation.take_losers(200.0) == [loser]
    assert ledger.speculation.take_losers(200.0) == []
    ledger.returns.on_returned(loser, after=2, upto=2, cut=slow.start + 2)
    assert not ledger.waiting
    assert (
        ledger.account.on_receipt(Receipt(slow.start, slow.start + 2, loser, 1.0, 0, 1), 201.0) is ledger.lanes[loser]
    )
    ledger.check()


@pytest.mark.parametrize("crashed", [True, False])
def test_a_copy_that_dies_is_charged_to_nobody(crashed: bool) -> None:
    """The first run goes on, and there is no other copy."""
    ledger, slow, _ = copied()
    assert ledger.returns.on_lost(2) == 0
    assert ledger.returns.on_verdict(2, Verdict(crashed)) is None
    assert (slow.crashes, slow.losses, slow.attempt, slow.lane) == (0, 0, 1, 1)
    ledger.on_ready(3)
    assert ledger.speculate(900.0) == {}
    ledger.check()


def test_a_copy_takes_the_place_of_a_run_that_dies() -> None:
    """It need not be run a third time, and the job goes on; a later crash of it is no longer a copy's."""
    ledger, slow, _ = copied()
    assert ledger.returns.on_lost(1) == 0
    assert not ledger.waiting
    assert slow.lane == 2
    ledger.check()
    ledger.returns.on_lost(2)
    assert ledger.returns.on_verdict(2, Verdict(True)) is slow
    ledger.on_ready(3)
    assert ledger.again(3, 300.0) is slow


def test_a_loser_that_dies_is_charged_to_nobody() -> None:
    """What it ran is done."""
    ledger, slow, _ = copied()
    ledger.account.on_receipt(receipt(slow, 2), 200.0)
    assert ledger.returns.on_lost(1) == 0
    assert ledger.returns.on_verdict(1, Verdict(True)) is None
    assert (slow.crashes, slow.losses) == (0, 0)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("word", [{"again": 1.0}, {"again": 0.0, "void": True}])
def test_a_run_that_fails_leaves_it_to_the_other(number: int, word: dict[str, Any]) -> None:
    """It is not tried again while the other runs; that is then the only one, whose failure is the chunk's."""
    ledger, slow, _ = copied()
    other = 3 - number
    assert ledger.account.on_receipt(receipt(slow, number, attempt=1, **word), 200.0) is ledger.lanes[number]
    assert (ledger.retries.count, ledger.waiting, slow.lane, slow.twin) == (0, False, other, 0)
    ledger.check()
    ledger.account.on_receipt(receipt(slow, other, attempt=1, again=1.0), 201.0)
    assert ledger.retries.count == 1


def test_a_copy_whose_result_is_dropped_holds_its_lane_no_more() -> None:
    """The sink says so of the items that were new, which need not be the last ones; the first run goes on."""
    ledger, slow, _ = copied(chunk=4)
    ledger.account.on_receipt(Receipt(slow.start + 2, slow.stop, 9, 1.0, 0, 1), 200.0)
    word = Receipt(slow.start, slow.start + 2, 2, 0.0, 0, 0, 0.0, 1, void=True)
    assert ledger.account.on_receipt(word, 201.0) is ledger.lanes[2]
    assert (slow.lane, slow.twin, ledger.waiting) == (1, 0, False)
    assert ledger.account.on_receipt(word, 202.0) is None, "a word heard twice changes nothing"
    ledger.check()


@pytest.mark.parametrize("number", [1, 2])
def test_items_of_a_longer_chunk_that_fail(number: int) -> None:
    """Those of the first run are tried again as ever; those of the copy are the first run's to do."""
    ledger, slow, _ = copied(chunk=4)
    word = Receipt(slow.start, slow.start + 1, number, 0.0, 0, 0, 1.0, 1)
    assert ledger.account.on_receipt(word, 200.0) is None
    assert ledger.retries.count == (number == 1)
    assert (
        ledger.account.on_receipt(Receipt(slow.start + 1, slow.stop, number, 1.0, 0, 1), 201.0) is ledger.lanes[number]
    )
    assert (slow.twin, slow.lane) == (0, 1)
    ledger.check()


@pytest.mark.parametrize("how", ["the first run dies", "a part of it is dropped", "it hands its items back"])
def test_what_failed_in_a_copy_counts_if_that_is_the_only_run_left(how: str) -> None:
    """It is tried again as if that had been the first run: it was told only once."""
    ledger, slow, _ = copied(chunk=4)
    first, second = (Receipt(slow.start + n, slow.start + n + 1, 2, 0.0, 0, 0, 1.0, 1) for n in (0, 1))
    ledger.account.on_receipt(first, 200.0)
    ledger.account.on_receipt(second, 201.0)
    ledger.account.on_receipt(
        Receipt(slow.start + 1, slow.start + 2, 1, 1.0, 0, 1), 202.0
    )  # this one the first run did
    if how == "the first run dies":
        ledger.returns.on_lost(1)
    elif how == "it hands its items back":
        ledger.returns.on_leave(1, taken=1)
    else:
        ledger.account.on_receipt(Receipt(slow.start + 2, slow.start + 3, 1, 0.0, 0, 0, 0.0, 1, void=True), 203.0)
    assert (slow.lane, slow.twin, ledger.retries.count) == (2, 0, 1)
    assert ledger.account.on_receipt(Receipt(slow.start + 2, slow.stop, 2, 1.0, 0, 1), 204.0) is ledger.lanes[2]
    ledger.check()
    assert ledger.due(204.0)
    retry = ledger.again(2, 206.0)
    assert retry is not None
    assert (retry.start, retry.stop, retry.tries, retry.avoid) == (slow.start, slow.start + 1, 1, 2)


def test_what_failed_in_a_copy_that_goes_is_the_first_runs_to_do() -> None:
    """Whatever becomes of that one later."""
    ledger, slow, _ = copied(chunk=4)
    ledger.account.on_receipt(Receipt(slow.start, slow.start + 1, 2, 0.0, 0, 0, 1.0, 1), 200.0)
    ledger.returns.on_lost(2)
    assert (slow.lane, slow.twin, ledger.retries.count) == (1, 0, 0)
    ledger.returns.on_lost(1)
    ledger.on_ready(3)
    whole = ledger.again(3, 210.0)
    assert whole is slow
    assert (whole.tries, whole.got) == (0, None)


def test_a_copy_hands_back_items_that_are_tried_again_already() -> None:
    """They failed in the first run, and have a chunk of their own: they were taken out of the books."""
    ledger, slow, _ = copied(chunk=4)
    ledger.account.on_receipt(Receipt(slow.start + 1, slow.start + 2, 1, 0.0, 0, 0, 0.0, 1), 200.0)
    ledger.returns.on_lost(1)
    ledger.on_ready(3)
    assert ledger.due(200.0)
    retry = ledger.again(3, 201.0)
    assert retry is not None
    assert retry.start == slow.start + 1
    ledger.lanes[2].recall(201.0)
    ledger.returns.on_returned(2, after=slow.order, upto=slow.order, cut=slow.start + 1)
    ledger.check()
    assert (slow.stop, retry.lane, ledger.lanes[3].held) == (slow.start + 1, 3, {retry.start: retry})
    rest = ledger.again(3, 202.0)
    assert rest is not None
    assert (rest.start, rest.stop) == (slow.start + 2, slow.start + 4)


def test_a_copy_that_never_left_may_be_made_again() -> None:
    """Neither a refused send nor a worker that leaves before it has begun is the chunk's one copy."""
    ledger, slow, copy = copied()
    ledger.on_refused(copy)
    assert (ledger.lanes[2].sent, slow.copied, ledger.speculation.copies) == (1, False, 0)
    assert ledger.speculate(300.0) == {2: slow}
    ledger.again(2, 300.0)
    ledger.returns.on_leave(2, taken=1)
    assert (slow.twin, slow.copied) == (0, False)
    ledger.check()


def test_words_that_were_lost_hold_no_lane_for_ever() -> None:
    """A sink that comes back says what it has; with a limit nothing behind it is heard of."""
    ledger, slow, _ = copied()
    ledger.account.on_done(RangeSet([(0, slow.stop)]))
    assert all(lane.credit > 0 for lane in ledger.lanes.values())
    ledger, slow, _ = copied()
    ledger.account.on_limit(slow.start)
    assert all(not lane.busy for lane in ledger.lanes.values())
    ledger.check()


def director(local: Wants | None) -> tuple[Director, Chunk]:
    """A director of two workers, with a slow chunk on the first one's lane."""
    versions = wire.Versions(1, "0.1", "3.11", "3.1")
    ledger = Ledger(Chunker(1), speculate=True)
    made = Director("job", Policy(versions, speculate=True), ledger, local)
    if local is None:
        made.on_message(b"s", wire.SinkJoin(versions, "s", 1, "host", 1, "tcp://sink:1", "json"), 0.0)
        made.on_linked(1)
        made.on_message(b"s", wire.Ready(1), 0.0)
    for n in (1, 2):
        made.on_message(b"w%d" % n, wire.Join(versions, f"w{n}", 1, "host", n, n), 0.0)
        made.on_linked(n + (local is None))
        made.on_message(b"w%d" % n, wire.Ready(n + (local is None)), 0.0)
    for lane in ledger.lanes:
        ledger.account.on_receipt(receipt(issue(ledger, lane, now=98.0)), 99.0)
    return made, issue(ledger, next(iter(ledger.lanes)))


def test_the_sink_hears_of_a_copy_before_it_is_sent() -> None:
    """One of this process by an action, another by a message, and again when that comes back."""
    made, slow = director(Wants("ipc://results", "json"))
    word = wire.Copied("job", slow.start, slow.stop)
    assert made.on_hungry(LATE) == [Inform(word), Fill([2])]
    made, slow = director(None)
    assert made.on_hungry(100.5) == []
    assert made.deadline() == LATE
    assert made.on_tick(LATE) == [Reply(b"s", word), Fill([3])]
    made.ledger.again(3, LATE)
    made.on_link_lost(1)
    versions = made.policy.versions
    again = wire.SinkJoin(
        versions, "s", 2, "host", 1, "tcp://sink:1", "json", wire.Held("job", {}, RangeSet([(0, slow.start)]).runs)
    )
    made.on_message(b"s", again, LATE)
    assert Reply(b"s", word) in made.on_message(b"s", wire.Ready(4), LATE)
