"""Lanes of workers that run many items at a time: what goes down them, and whose fault their loss is."""

from __future__ import annotations

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.ledger import Ledger
from zpipe.core.suspects import Verdict
from zpipe.core.wide import BACKLOG
from zpipe.core.wire import Receipt


def ledger(width: int, lanes: int = 1, chunk: int | None = None) -> Ledger:
    """A ledger with workers that run so many items at a time."""
    made = Ledger(Chunker(chunk))
    for lane in range(1, lanes + 1):
        made.on_ready(lane)
        made.on_wide(lane, 0, width)
    return made


def fill(made: Ledger, lane: int, size: int = 1, most: int = 1000) -> list[Chunk]:
    """Issue chunks of that size as long as there is credit."""
    issued = []
    while made.lanes[lane].credit > 0 and len(issued) < most:
        chunk = made.again(lane, 0.0) or made.issue(lane, size, "lines", [b""], 0.0)
        issued.append(chunk)
        made.check()
    return issued


def receipt(start: int, stop: int, lane: int = 1, seconds: float = 0.01) -> Receipt:
    """The sink has these."""
    return Receipt(start, stop, lane, seconds, 0, 1)


def test_credit_counts_items() -> None:
    """As many as run at a time, whatever the chunks; nothing is known of how soon there is room for more."""
    assert len(fill(ledger(8), 1)) == 8
    assert len(fill(ledger(8), 1, size=3)) == 3


def test_parts_make_room() -> None:
    """For each item that has ended another may come, though its chunk has not."""
    made = ledger(10, chunk=10)
    fill(made, 1, size=10)
    assert made.lanes[1].credit == 0
    lane = made.account.on_receipt(receipt(2, 5, seconds=0.9), 1.0)
    assert lane is made.lanes[1]
    assert lane.credit == 3
    made.check()


def test_what_waits_for_room_is_bounded() -> None:
    """A sink that says that its receipts take for ever has no source read to its end."""
    made = ledger(10)
    made.account.lag = 1e9
    fill(made, 1)
    for index in range(10):
        made.account.on_receipt(receipt(index, index + 1, seconds=0.001), 0.1)
    assert len(fill(made, 1, most=5000)) == 10 + BACKLOG


def test_quick_items_wait_there_for_room() -> None:
    """As many as end within a round trip."""
    made = ledger(10)
    fill(made, 1)
    for index in range(10):
        made.account.on_receipt(receipt(index, index + 1, seconds=0.001), 0.1)
    assert 10 < len(fill(made, 1)) <= 20


def test_what_waits_goes_to_whoever_has_room() -> None:
    """It is recalled from a lane that has more than run, for one that has fewer; what runs is not."""
    made = ledger(4, lanes=2)
    fill(made, 1)
    fill(made, 2, most=1)
    assert made.recalls.hungry(1.0) == []
    made.lanes[1].hold(late := Chunk(50, 60, "lines", [b""], 0, Chunker()))
    assert made.lanes[1].backlog == 10
    made.lanes[1].release(late)
    assert made.lanes[1].backlog == 0


def test_a_crash_of_which_nothing_is_known_makes_all_that_ran_suspects() -> None:
    """Each is run by itself; what had not begun is not suspected."""
    made = ledger(3, lanes=2)
    chunks = fill(made, 1, size=2)
    assert made.returns.on_lost(1, verdict=True) == 2
    assert made.returns.waits(1)
    made.returns.on_verdict(1, Verdict(crashed=True))
    assert [chunk.crashes for chunk in chunks] == [1, 1]
    assert len(fill(made, 2)) == 1
    assert made.lanes[2].solo
    made.check()


def test_a_crash_over_a_known_item_is_its_fault_alone() -> None:
    """The others are run again as if nothing had been, beside each other."""
    made = ledger(8, lanes=2)
    fill(made, 1)
    made.returns.on_lost(1, verdict=True)
    charged = made.returns.on_verdict(1, Verdict(crashed=True, item=5))
    assert charged is not None
    assert (charged.start, charged.crashes, charged.proven) == (5, 1, 1)
    [alone] = fill(made, 2)
    assert alone is charged
    made.account.on_receipt(receipt(5, 6, lane=2), 1.0)
    assert sorted(chunk.start for chunk in fill(made, 2, most=7)) == [0, 1, 2, 3, 4, 6, 7]
    made.check()


def test_a_worker_that_is_busy_with_an_earlier_lane_proves_nothing() -> None:
    """It may be that which ended it."""
    made = ledger(3)
    made.on_wide(1, 0, 3, busy=True)
    [chunk] = fill(made, 1, most=1)
    made.lanes[1].solo = True
    made.returns.on_lost(1, verdict=True)
    made.returns.on_verdict(1, Verdict(crashed=True))
    assert (chunk.crashes, chunk.proven) == (1, 0)
