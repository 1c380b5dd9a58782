"""Chunk sizes and windows from timings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core import chunking
from zpipe.core.chunking import Chunker, Heft, window


def settled(item_seconds: float, size: int = 0, chunks: int = 400) -> Chunker:
    """A chunker that has seen chunks of its own making, each item taking the same time."""
    chunker = Chunker()
    for _ in range(chunks):
        items = chunker.size(None, 4)
        chunker.observe(items, items * item_seconds, items * size)
    return chunker


def test_the_first_chunk_is_one_item() -> None:
    """Nothing is known yet, so the first result comes as soon as can be."""
    assert Chunker().size(None, 4) == 1


def test_a_chunk_takes_the_target_time() -> None:
    """Items of one millisecond go fifty to a chunk; items longer than the target go alone."""
    assert settled(0.001).size(None, 4) == pytest.approx(chunking.TARGET / 0.001, abs=1)
    assert settled(0.2).size(None, 4) == 1


def test_light_items_are_bounded_by_count_and_heavy_ones_by_bytes() -> None:
    """No-op chunks stop growing at MAX_ITEMS, chunks of big items at MAX_BYTES."""
    assert settled(1e-8).size(None, 4) == chunking.MAX_ITEMS
    assert settled(1e-6, size=chunking.MAX_BYTES // 4).size(None, 4) == 4


def test_growth_is_capped() -> None:
    """One quick item does not make a huge chunk of the next."""
    chunker = Chunker()
    chunker.observe(1, 1e-6, 10)
    assert chunker.size(None, 4) == chunking.GROWTH


def test_items_are_taken_for_uneven_until_they_prove_even() -> None:
    """Nothing is queued behind a straggler that has not shown itself yet, nor soon after one has."""
    few = settled(0.001, chunks=6)
    assert few.size(None, 4) < settled(0.001).size(None, 4) / 4
    once = settled(0.001)
    once.observe(1, 1.0, 0)
    for _ in range(30):
        once.observe(1, 0.001, 0)
    assert once.size(None, 4) < settled(0.001).size(None, 4) / 4


def test_uneven_items_make_smaller_chunks() -> None:
    """Where single items vary wildly, little is queued behind a straggler."""
    even, uneven = settled(0.001), Chunker()
    for n in range(60):
        uneven.observe(10, 0.1 if n % 6 == 0 else 0.001, 0)
    assert uneven.size(None, 4) < even.size(None, 4) / 4


def test_the_tail_is_guided() -> None:
    """Near the end a chunk is at most what is left, shared among twice the slots."""
    chunker = settled(1e-6)
    assert chunker.size(800, 8) == 50
    assert chunker.size(16, 8) == 1
    assert chunker.size(1, 8) == 1


def test_a_fixed_size_is_fixed() -> None:
    """--chunk N is N, whatever the timings say."""
    chunker = Chunker(7)
    chunker.observe(7, 10.0, 10**9)
    assert chunker.size(3, 100) == 7


@given(st.floats(0, 1e4), st.floats(0, 1e10))
def test_a_window_is_bounded(seconds: float, size: float) -> None:
    """Ten milliseconds of work, never less than one chunk, never more than the bounds."""
    chunks = window(seconds, size)
    assert 1 <= chunks <= chunking.LANE_CHUNKS
    assert chunks * size <= max(chunking.LANE_BYTES, 2 * size)


def test_the_longer_a_chunk_the_fewer_wait() -> None:
    """Behind a chunk of ten milliseconds one waits, behind a long one none: the round trip is nothing to that."""
    assert window(0.100, 1) == 1
    assert window(0.010, 1) == 2
    assert window(0.005, 1) == 2
    assert window(0.001, 1) == 10
    assert window(0.0, 1) == chunking.LANE_CHUNKS


def test_a_least_size_holds_unless_items_are_quick() -> None:
    """Chunks have so many items, and more where more of them take no longer than the target."""
    chunker = Chunker(target=0.001, floor=0.001, least=5)
    assert chunker.size(None, 4) == 5
    chunker.observe(5, 0.5, 10)
    assert chunker.size(None, 4) == 5
    assert chunker.size(3, 4) == 5
    quick = Chunker(target=0.001, floor=0.001, least=5)
    for _ in range(40):
        quick.observe(5, 5e-6, 10)
    assert quick.size(None, 4) == 20


def test_a_lane_is_deeper_by_what_the_journal_takes() -> None:
    """More waits at a worker while a sink's receipts come late, and of long chunks none does all the same."""
    assert window(0.002, 1.0) == 5
    assert window(0.002, 1.0, 0.010) == 10
    assert (window(0.012, 1.0), window(0.012, 1.0, 0.015)) == (2, 3)
    assert (window(0.1, 1.0), window(0.1, 1.0, 0.02)) == (1, 2)
    assert window(1.0, 1.0, 0.02) == 1


def test_a_call_has_chunks_by_what_its_own_items_weigh() -> None:
    """Few items first, then as many as go into a chunk's bytes."""
    heft = Heft()
    assert (heft.most, heft.known) == (chunking.FIRST, False)
    heft.weigh(1, 28)
    assert heft.known
    assert heft.most >= chunking.MAX_ITEMS
    heft.weigh(16, 16 << 20)
    assert heft.most == chunking.MAX_BYTES >> 20
    heft.weigh(1, 1 << 30)
    assert heft.most == 1
    heft.weigh(3, 0)
    assert heft.most >= chunking.MAX_ITEMS


def test_one_heavy_item_at_an_end_of_many_has_fewer_of_them_go_together() -> None:
    """As many as would do if all were like it, or a quarter at a time, as far as those behind are light."""
    heft = Heft()
    assert heft.fitting(16_384, lambda at: 28) == 16_384
    assert heft.fitting(16_384, lambda at: 1 << 16) == chunking.MAX_BYTES >> 16
    assert heft.fitting(16_384, lambda at: 1 << 30 if at > 4095 else 28) == 4096
    assert heft.fitting(16_384, lambda at: 28 if at else 1 << 16) == chunking.MAX_BYTES >> 16
    assert heft.fitting(16_384, lambda at: 1 << 30) <= chunking.FIRST
    assert heft.fitting(chunking.FIRST, lambda at: 1 << 30) == chunking.FIRST


def test_a_pulled_item_that_is_heavy_has_few_pulled_until_one_is_light_again() -> None:
    """Whatever those weigh that went before."""
    heft = Heft()
    assert heft.wants(chunking.FIRST)
    assert not heft.wants(chunking.FIRST - 1)
    heft.look(1 << 20)
    heft.weigh(1000, 28_000)
    assert heft.most == chunking.MAX_BYTES >> 20
    assert heft.wants(1)
    heft.look(28)
    assert heft.most >= chunking.MAX_ITEMS
    assert not heft.wants(1)
