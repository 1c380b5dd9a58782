"""When what failed is tried again: at its own time."""

from __future__ import annotations

from zpipe.core.again import CHOOSY
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.ledger import Ledger
from zpipe.core.wire import Receipt


def failed(chunk: Chunk, again: float) -> Receipt:
    """What the sink says of a chunk that failed, to be tried again in so many seconds."""
    return Receipt(chunk.start, chunk.stop, chunk.lane, 0.0, 0, 0, again, chunk.attempt)


def test_a_later_try_is_not_hastened_by_an_earlier_one() -> None:
    """When an earlier one need wait for another worker no longer, the item may be waiting for its next one already."""
    ledger = Ledger(Chunker(1))
    ledger.on_ready(1)
    ledger.account.on_receipt(failed(ledger.issue(1, 1, "lines", [b"x"], 0.0), 0.0), 0.0)
    assert ledger.due(0.0)
    second = ledger.again(1, 0.0)
    assert second is not None
    ledger.account.on_receipt(failed(second, 10.0), 0.5)
    ledger.due(CHOOSY)
    assert ledger.again(1, CHOOSY) is None
    assert ledger.deadline() == 10.5
    assert ledger.due(10.5)
    assert ledger.again(1, 10.5) is not None
