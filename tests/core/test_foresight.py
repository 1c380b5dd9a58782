"""How far ahead of the results that were taken items are pulled."""

from __future__ import annotations

from zpipe.core.chunking import Chunker
from zpipe.core.foresight import AHEAD, AHEAD_ITEMS, DEEP, TOGETHER, TURN, Foresight


def looked(foresight: Foresight, size: int, slots: int, chunker: Chunker | None = None) -> Foresight:
    """Return it after a look."""
    foresight.look(size, lambda: slots, chunker or Chunker())
    return foresight


def test_a_bound_is_kept() -> None:
    """No more are pulled than it allows beyond what was returned, and no result waits for another to be taken."""
    foresight = looked(Foresight(3), 100, 8)
    assert foresight.room(0, 0) == 3
    assert foresight.room(0, 3, begun=True) == 0
    assert foresight.room(5, 7) == 1
    assert foresight.few == 0


def test_a_first_item_is_pulled_before_anything_is_known() -> None:
    """Whoever has not looked yet finds that there is room."""
    assert Foresight(None).room(0, 0) == Foresight(1).room(0, 0) == 1


def test_pulling_begins_when_it_is_worth_it() -> None:
    """A quarter of what is pulled ahead has been returned then; once begun, all there is room for is pulled."""
    foresight = looked(Foresight(None), 1, 2)
    assert foresight.room(0, 0) == AHEAD
    assert foresight.room(AHEAD // 4 - 1, AHEAD) == 0
    assert foresight.room(AHEAD // 4 - 1, AHEAD, begun=True) == AHEAD // 4 - 1
    assert foresight.room(AHEAD // 4, AHEAD) == AHEAD // 4


def test_all_workers_have_chunks_ahead() -> None:
    """However large those are, and however many items each runs at a time."""
    assert looked(Foresight(None), 1000, 8).room(0, 0) >= 1000 * 8 * 2
    assert looked(Foresight(None, 500), 1, 4).room(0, 0) >= 4000
    assert looked(Foresight(None), 1, 0).room(0, 0) == AHEAD


def test_quick_items_are_pulled_far_ahead() -> None:
    """As many as the workers do in a moment, but no more than so many; and more of their results go together."""
    chunker = Chunker(1)
    for _ in range(10):
        chunker.observe(1, 1e-3, 10)
    slow = looked(Foresight(None), 1, 20, chunker)
    assert AHEAD < slow.room(0, 0) <= 201
    assert 0 < slow.few < TOGETHER
    for _ in range(100):
        chunker.observe(1, 1e-7, 10)
    quick = looked(Foresight(None), 1, 20, chunker)
    assert quick.room(0, 0) == AHEAD_ITEMS
    assert quick.few == TOGETHER


def test_chunks_that_are_over_in_no_time_are_pulled_further_ahead() -> None:
    """Workers are not to run dry while another thread has the interpreter; slow or heavy items need no more."""

    def chunks(seconds: float, size: int) -> int:
        chunker = Chunker()
        chunker.observe(1000, 1000 * seconds, 1000 * size)
        return looked(Foresight(None), 1000, 2, chunker).room(0, 0) // 1000

    assert chunks(1e-7, 5) == chunks(1e-3, 5) + 2 * DEEP
    assert chunks(TURN / 3500, 5) == chunks(1e-3, 5) + 2 * 3
    assert chunks(1e-7, 10_000) == chunks(1e-3, 5)


def test_whole_chunks_are_pulled() -> None:
    """What room there is beyond them stays, but for a bound, which may be less than a chunk."""
    foresight = looked(Foresight(None), 1000, 2)
    ahead = foresight.room(0, 0)
    assert ahead % 1000 == 0
    assert foresight.room(700, ahead, begun=True) == 0
    assert foresight.room(2700, ahead, begun=True) == 2000
    assert foresight.room(0, ahead + 1, begun=True) == 0
    assert looked(Foresight(2500), 1000, 2).room(0, 0) == 2500
