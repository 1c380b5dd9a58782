"""The collector: each outcome once, in order if asked, receipts for all, an end that is counted."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.collector import Collector
from zpipe.core.ranges import RangeSet
from zpipe.core.wire import Failure, Held, Result


def make(**options: object) -> Collector:
    """A collector that knows its job."""
    collector = Collector(**options)  # type: ignore[arg-type]
    collector.job = "job"
    return collector


def result(
    start: int, stop: int, *, hit: int | None = None, failures: tuple[int, ...] = (), job: str = "job"
) -> Result:
    """A worker's result."""
    return Result(job, 1, start, stop, 1, 0.1, [Failure(i, "E", "m") for i in failures], hit)


def take(collector: Collector, made: Result, size: int = 10) -> list[int]:
    """Give it a result; return the indices that are to be written."""
    out = collector.on_result(made, [b""], size)
    collector.check()
    return [i for written, _ in out for i in range(written.start, written.stop)]


def test_a_duplicate_is_dropped_and_receipted_again() -> None:
    """Exactly once in the output; the receipt again, since the first may have been lost."""
    collector = make()
    assert take(collector, result(0, 3)) == [0, 1, 2]
    assert len(collector.take_receipts()) == 1
    assert take(collector, result(0, 3)) == []
    assert len(collector.take_receipts()) == 1
    assert collector.duplicates == 1


def test_of_a_partial_overlap_the_rest_is_asked_for_again() -> None:
    """What is only partly new can't count, since payloads can't be parted: what is new of it is to be run again."""
    collector = make()
    take(collector, result(0, 3))
    collector.take_receipts()
    assert take(collector, result(2, 6)) == []
    (asked,) = collector.take_receipts()
    assert (asked.start, asked.stop, asked.again, asked.void) == (3, 6, 0.0, True)
    assert collector.take_receipts(again=True) == [asked]
    assert take(collector, result(3, 6)) == [3, 4, 5]
    assert len(collector.take_receipts(again=True)) == 1, "it is asked for no more"


def test_who_says_again_and_again_takes_no_memory() -> None:
    """Of each item the last few runs are remembered, whatever lanes they are said to be of."""
    collector = make()
    for lane in range(1000):
        for start in (0, 1):
            again = Result("job", lane, start, 2, 1, 0.1, again=2.5)
            assert collector.on_result(again, [b""], 1) == ()
    assert len(collector.take_receipts()) == 2000
    left = collector.take_receipts(again=True)
    assert len(left) < 10
    assert {(r.start, r.lane) for r in left} >= {(0, 999), (1, 999)}
    take(collector, result(0, 2))
    assert [r.again for r in collector.take_receipts(again=True)] == [None]


def test_what_is_asked_for_is_not_gone_through_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand items that wait for another try cost the results that come meanwhile nothing."""
    looks, covers = 0, RangeSet.covers

    def counted(self: RangeSet, start: int, stop: int) -> bool:
        nonlocal looks
        looks += 1
        return covers(self, start, stop)

    monkeypatch.setattr(RangeSet, "covers", counted)
    collector = make()
    for n in range(10_000):
        take(collector, msgspec.structs.replace(result(n, n + 1), again=60.0))
    for n in range(10_000, 12_000):
        take(collector, result(n, n + 1))
    assert looks < 40_000
    take(collector, result(0, 9_999))
    assert [r.start for r in collector.take_receipts(again=True) if r.again][-1:] == [9_999]


def test_one_failure_of_two_runs_is_not_the_last_word() -> None:
    """While a copy runs a failure does not count, however often it is heard; the other run's outcome does."""
    for second in ((), (1,)):
        collector = make()
        collector.on_copied(0, 3)
        first = result(0, 3, failures=(1,))
        assert take(collector, first) == take(collector, first) == []
        assert [receipt.void for receipt in collector.take_receipts()] == [True, True]
        other = msgspec.structs.replace(result(0, 3, failures=second), lane=2)
        assert take(collector, other) == [0, 1, 2]
        assert (collector.failed, collector.take_receipts(again=True)[0].failed) == (len(second), len(second))
        assert take(collector, first) == [], "a duplicate now"


def test_an_item_of_two_runs_fails_if_it_failed_in_both() -> None:
    """What failed in either run alone is run again; every run that does not count narrows it down."""
    collector = make()
    collector.on_copied(0, 3)
    for lane, failed in ((1, (0,)), (2, (1,))):
        assert take(collector, msgspec.structs.replace(result(0, 3, failures=failed), lane=lane)) == []
    assert take(collector, msgspec.structs.replace(result(0, 3, failures=(0, 1)), lane=3)) == [0, 1, 2]
    assert collector.failed == 2


def test_each_item_of_two_runs_has_a_first_failure() -> None:
    """Of a chunk with a copy the first item fails in one run, then the second, which was cut off it, in another."""
    collector = make()
    collector.on_copied(0, 3)
    assert take(collector, result(0, 1, failures=(0,))) == []
    assert take(collector, msgspec.structs.replace(result(1, 2, failures=(1,)), lane=2)) == []
    assert [receipt.void for receipt in collector.take_receipts()] == [True, True]
    assert take(collector, msgspec.structs.replace(result(0, 3), lane=3)) == [0, 1, 2]


def test_a_shorter_copy_does_not_end_a_longer_one() -> None:
    """An item of a chunk with a copy that is tried again may have a copy, too; the rest of that chunk still has one."""
    collector = make()
    collector.on_copied(0, 3)
    collector.on_copied(0, 1)
    assert take(collector, result(2, 3, failures=(2,))) == []


def test_failures_count_at_once_where_no_copy_runs() -> None:
    """Of other items, or of these once they are done."""
    collector = make()
    collector.on_copied(3, 6)
    assert take(collector, result(0, 3, failures=(1,))) == [0, 1, 2]
    assert take(collector, result(6, 9, failures=(7,))) == [6, 7, 8]
    collector.on_copied(0, 3)
    assert collector.failed == 2


def test_results_of_another_job_are_strays() -> None:
    """A result from an earlier job never counts."""
    collector = make()
    assert take(collector, result(0, 3, job="old")) == []
    assert (collector.strays, collector.counted, collector.take_receipts()) == (1, 0, [])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_arrival_writes_all_once(sizes: list[int], rng: random.Random, ordered: bool) -> None:
    """However results arrive, and however often, each is written once; in order if asked."""
    edges = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    results = [result(a, b) for a, b in itertools.pairwise(edges)] * 2
    rng.shuffle(results)
    collector = make(ordered=ordered)
    collector.on_total(edges[-1])
    written: list[int] = []
    for made in results:
        written += take(collector, made)
    assert sorted(written) == list(range(edges[-1]))
    assert not ordered or written == sorted(written)
    assert collector.finished
    assert collector.counted == edges[-1]


def test_the_reorder_buffer_says_when_it_is_full() -> None:
    """Bytes that wait for an earlier result are bounded by holding new chunks back."""
    collector = make(ordered=True, reorder=25)
    take(collector, result(5, 6))
    take(collector, result(6, 7))
    assert not collector.full
    take(collector, result(7, 8))
    assert collector.full
    assert take(collector, result(0, 5)) == list(range(8))
    assert not collector.full


def test_the_first_hit_ends_an_unordered_job() -> None:
    """As soon as a result satisfies, it is over: later ones are not written."""
    collector = make()
    take(collector, result(10, 20))
    assert take(collector, result(0, 4, hit=3)) == [0, 1, 2, 3]
    assert collector.finished
    assert (collector.hit, take(collector, result(20, 30))) == (3, [])


def test_in_order_the_first_hit_by_index_wins() -> None:
    """A later hit only sets a limit; an earlier one lowers it; the end waits for all before it."""
    collector = make(ordered=True)
    take(collector, result(20, 30))
    take(collector, result(10, 16, hit=15))
    assert (collector.limit, collector.finished) == (16, False)
    assert take(collector, result(0, 4, hit=3)) == [0, 1, 2, 3]
    assert (collector.limit, collector.hit, collector.finished, collector.counted) == (4, 3, True, 4)


def test_failures_count_only_when_their_item_does() -> None:
    """A failure behind the limit of an early stop is not the job's."""
    collector = make(ordered=True)
    take(collector, result(20, 30, failures=(21, 22)))
    take(collector, result(0, 3, hit=2, failures=(1,)))
    assert collector.failed == 1


def test_an_empty_job_is_finished() -> None:
    """No items at all is an end too, once it is known."""
    collector = make()
    assert not collector.finished
    collector.on_total(0)
    assert collector.finished


def test_it_goes_on_with_a_job() -> None:
    """What is done is dropped, failures add up, and the end is counted with both parts."""
    collector = Collector(job="job", done=RangeSet([(0, 4), (6, 8)]), failed=2, total=9)
    assert take(collector, result(0, 4)) == []
    assert take(collector, result(4, 6, failures=(5,))) == [4, 5]
    assert not collector.finished
    assert take(collector, result(8, 9)) == [8]
    assert (collector.finished, collector.counted, collector.failed) == (True, 9, 3)


def test_in_order_it_goes_on_where_it_was() -> None:
    """What is done and not written waits again for its turn, within the same bound."""
    collector = Collector(ordered=True, reorder=15, job="job", done=RangeSet([(0, 4), (6, 9)]), next=4)
    collector.on_kept(result(6, 8), [b""], 10)
    assert not collector.full
    collector.on_kept(result(8, 9), [b""], 10)
    assert collector.full
    assert take(collector, result(4, 6)) == [4, 5, 6, 7, 8]
    assert not collector.full


def test_a_search_that_was_over_is_over() -> None:
    """A hit ends a job that is gone on with; in order, what comes before it is still wanted."""
    assert Collector(job="job", done=RangeSet([(3, 5)]), hit=4).finished
    collector = Collector(ordered=True, job="job", done=RangeSet([(3, 5)]), hit=4, limit=5)
    collector.on_kept(result(3, 5, hit=4), [b""], 10)
    assert not collector.finished
    assert take(collector, result(0, 3)) == [0, 1, 2, 3, 4]
    assert collector.finished


def test_what_it_holds_is_what_a_ventilator_is_told() -> None:
    """Nothing while nothing is done, so that any job may begin; then the job, which no other takes the place of."""
    collector = Collector()
    collector.on_job("first", {"task": "f"})
    assert collector.held == Held()
    collector.on_job("job", {"task": "g"})
    take(collector, result(2, 5, failures=(3,)))
    assert collector.held == Held("job", {"task": "g"}, [2, 3], 1)
    collector.on_job("third", {"task": "h"})
    assert collector.held == Held("job", {"task": "g"}, [2, 3], 1)


def test_results_of_what_was_never_sent_do_not_count() -> None:
    """Where it is known how many items were sent, or how many there are at all, what lies behind is dropped."""
    collector = make()
    sent = 3
    collector.issued = lambda: sent
    assert collector.on_result(result(2, 4), [b""], 1) == ()
    assert collector.on_result(result(0, 2**63), [b""], 1) == ()
    assert (collector.strays, collector.counted, collector.take_receipts()) == (2, 0, [])
    assert collector.on_result(result(2, 3), [b""], 1)
    elsewhere = make()
    elsewhere.on_total(5)
    assert elsewhere.on_result(result(4, 6), [b""], 1) == ()
    assert elsewhere.on_result(result(4, 5), [b""], 1)
    assert (elsewhere.strays, elsewhere.counted) == (1, 1)


def test_results_of_what_was_not_sent_together_do_not_count() -> None:
    """Nobody could be given them; what was sent is waited for still."""
    collector = make()
    collector.together = lambda start, stop: start // 5 == (stop - 1) // 5
    assert take(collector, result(3, 7)) == []
    assert (collector.strays, collector.done.count, collector.take_receipts()) == (1, 0, [])
    assert take(collector, result(0, 5)) == [0, 1, 2, 3, 4]
    assert take(collector, result(0, 6)) == []
    assert (collector.strays, collector.duplicates, collector.done.count) == (1, 1, 5)


def test_the_end_is_known_from_this_ventilator_alone() -> None:
    """A source that has grown since an earlier start of the job has more items than that start told of."""
    collector = Collector(job="job", done=RangeSet([(0, 2)]), total=3)
    collector.on_job("job", {})
    assert take(collector, result(3, 4)) == [3]
    collector.on_total(4)
    assert take(collector, result(2, 3)) == [2]
    collector.on_job("job", {})
    assert collector.finished
