"""Whose items go next, and under which numbers outputs go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.ranges import RangeSet
from zpipe.core.stages import BELT_BYTES, BELT_ITEMS, Belt, Stage, Stages


def three(*, most: int = 0, ordered: bool = False, wanted: int = 1) -> Stages:
    """Three stages, the last with `most` chunks at a time."""
    made = [Stage(1, 0, lambda: wanted), Stage(2, 0, lambda: wanted), Stage(3, most, lambda: wanted)]
    return Stages(made, ordered=ordered, slots=lambda: 2)


class TestBelt:
    """Between two stages."""

    @given(st.permutations(range(8)), st.lists(st.integers(0, 3), min_size=8, max_size=8), st.booleans())
    def test_numbers(self, order: list[int], counts: list[int], ordered: bool) -> None:
        """In the order in which outputs come or, in an order, of the items they came of; each number once."""
        belt = Belt(ordered=ordered)
        found: list[bytes] = []
        outputs = {item: [b"%d.%d" % (item, k) for k in range(counts[item])] for item in order}
        numbered = []
        for item in order:
            numbered += belt.put(item, item + 1, outputs[item])
            belt.check()
            while belt.at < belt.next:
                found += belt.take(2)
                belt.check()
        wanted = [one for item in (range(8) if ordered else order) for one in outputs[item]]
        assert found == wanted
        assert [found[first : first + len(outs)] for _, _, first, outs in numbered] == [o for *_, o in numbered]
        assert belt.empty

    @given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sets(st.integers(0, 23)), st.integers(1, 5))
    def test_what_is_done_is_passed_over(self, counts: list[int], done: set[int], most: int) -> None:
        """Whether it is still there, or was taken away with all of its row."""
        belt, at = Belt(), 0
        total = belt.next = sum(counts)
        for count in counts:
            if not set(range(at, at + count)) <= done:
                belt.restore(at, [b"%d" % n for n in range(at, at + count)])
            at += count
        found = []
        while belt.at < total:
            if belt.at in done:
                assert belt.skip(1) == 1
            else:
                room = next((n for n in range(belt.at, total) if n in done), total) - belt.at
                found += belt.take(min(most, room))
            belt.check()
        assert found == [b"%d" % n for n in range(total) if n not in done]
        assert belt.empty
        assert belt.skip(3) == 0


class TestOrder:
    """Which stage is next."""

    def test_the_last_goes_first(self) -> None:
        """What waits nearest to the end; the source's only when nothing waits."""
        stages = three()
        assert stages.choose() is stages.stages[0]
        stages.on_taken(stages.stages[0], 2)
        stages.belts[0].put(0, 1, [b"a"])
        assert stages.choose() is stages.stages[1]
        stages.belts[1].put(0, 1, [b"b"])
        assert stages.choose() is stages.stages[2]
        stages.dry = True
        stages.belts[1].take(1)
        stages.belts[0].take(1)
        assert stages.choose() is None

    def test_a_stage_with_so_many_workers(self) -> None:
        """Has no more chunks out; others go on meanwhile, until too much waits for it."""
        stages = three(most=1)
        last = stages.stages[2]
        stages.belts[1].put(0, 1, [b"x"] * 3)
        assert stages.choose() is last
        stages.belts[1].take(1)
        stages.on_taken(last, 1)
        stages.check()
        stages.belts[0].put(0, 1, [b"y"])
        assert stages.choose() is stages.stages[1]
        stages.belts[1].put(1, 2, [b"x"] * BELT_ITEMS)
        assert stages.choose() is stages.stages[0]
        stages.belts[0].put(1, 2, [b"x"] * BELT_ITEMS)
        assert stages.choose() is None

    def test_what_is_large_fills_it_too(self) -> None:
        """The bound is one of bytes as well, and what is on its way counts."""
        stages = three(most=1)
        stages.stages[2].chunks = stages.stages[2].out = 1
        stages.belts[1].put(0, 1, [b"x" * BELT_BYTES])
        assert stages.is_full(1)
        assert not stages.is_full(0)
        stages.on_taken(stages.stages[0], BELT_ITEMS - 1)
        assert stages.room(stages.stages[0], 100) == 1
        stages.on_taken(stages.stages[0], 1)
        assert stages.is_full(0)

    def test_large_chunks_have_room(self) -> None:
        """Where workers take many at a time, as many may wait."""
        stages = three(wanted=10_000)
        stages.on_taken(stages.stages[0], BELT_ITEMS)
        assert stages.room(stages.stages[0], 10_000) == 10_000

    def test_a_gap_is_filled_though_there_is_no_room(self) -> None:
        """When a job is gone on with, what waits in order may be waiting for just this."""
        stages = three(ordered=True)
        stages.belts[0].put(1, 2, [b"x" * BELT_BYTES])
        assert stages.choose() is None
        stages.stages[0].resume(RangeSet([(1, 2)]), 0)
        assert stages.choose() is stages.stages[0]
        assert stages.room(stages.stages[0], 10) == 1

    def test_what_brims_is_taken_first(self) -> None:
        """Whatever is on its way; not while what waits is behind something that is."""
        stages = three(ordered=True)
        belt = stages.belts[0]
        stages.on_taken(stages.stages[0], 10 * BELT_ITEMS)
        belt.put(1, 2, [b""] * BELT_ITEMS)
        assert stages.brimming() == []
        belt.put(0, 1, [])
        assert stages.brimming() == [1]
        assert stages.choose() is stages.stages[1]
        assert stages.choose(but=[2]) is None
        belt.take(1)
        assert stages.brimming() == []
        belt.put(2, 3, [b"x" * BELT_BYTES])
        assert stages.brimming() == [1]

    def test_the_end(self) -> None:
        """Comes when the source has ended, nothing waits, and nothing is out; what is left is known before."""
        stages = three()
        first, second, _ = stages.stages
        stages.on_taken(first, 1)
        stages.over = True
        assert stages.left(second) is None
        first.chunks = 0
        stages.belts[0].put(0, 1, [b"x", b"y"])
        stages.on_outcome(first, 1, 0)
        assert stages.left(second) == 2
        stages.belts[0].take(2)
        stages.on_taken(second, 2)
        assert not stages.finished
        second.chunks = 0
        stages.on_outcome(second, 2, 2)
        assert stages.finished
        stages.check()
