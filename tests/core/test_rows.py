"""Rows: chunks of a fixed size travel as one, and are lost, handed back, tried again and charged each by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpipe.core import coding, wire
from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.grains import ROW, ROW_SECONDS, Grains, grains_of, results_of
from zpipe.core.lane import PATIENCE
from zpipe.core.ledger import Ledger
from zpipe.core.suspects import Verdict
from zpipe.core.wire import Receipt


def proven(seconds: float = 1e-5, chunk: int | None = 1, size: int = 10, most: int | None = None) -> Ledger:
    """A ledger with lanes 1 and 2, the first of which has done hundreds of chunks that took so long each."""
    ledger = Ledger(Chunker(chunk, most=most))
    for number in (1, 2):
        ledger.on_ready(number)
    for _ in range(200):
        made = ledger.issue(1, chunk or 1, "lines", [b"x" * size], 0.0)
        ledger.account.on_receipt(Receipt(made.start, made.stop, 1, seconds, 0, size), 0.0)
    return ledger


def row(ledger: Ledger, grains: int = 8, grain: int = 1, lane: int = 1) -> Chunk:
    """A row on a lane."""
    bodies = [bytes([n]) * grain for n in range(grains)]
    return ledger.issue(lane, grains * grain, "lines", bodies, 0.0, grain=grain)


def of(chunk: Chunk, start: int, stop: int, seconds: float = 1e-5) -> Receipt:
    """The receipt of a part of a row, counted from its start."""
    return Receipt(chunk.start + start, chunk.start + stop, chunk.lane, seconds, 0, 10)


def pending(ledger: Ledger, first: int) -> list[tuple[int, int, int, int]]:
    """What waits, as (start and stop from the item `first` on, attempts so far, items of a grain)."""
    waiting = [chunk for chunk in ledger._outstanding.values() if not chunk.lane]
    return sorted((c.start - first, c.stop - first, c.attempt, c.grain) for c in waiting)


def test_only_quick_chunks_of_a_fixed_size_are_rows() -> None:
    """As many as take a millisecond, are small, and the lane has credit for; where any of that is not known, none."""
    assert proven().row(1, Chunker(1), None) == 1, "nothing is known of how long these take"
    for ledger, many in (
        (proven(1e-5), ROW),
        (proven(ROW_SECONDS / 10), 9),
        (proven(ROW_SECONDS), 1),
        (proven(1e-5, size=10_000), 3),
        (proven(1e-5, chunk=None), 1),
        (proven(1e-5, most=50), 1),
        (proven(1e-5, chunk=100), 5),
        (proven(1e-5, chunk=1000), 1),
    ):
        found = ledger.row(1, ledger.chunker, None)
        assert found == many or (many == 9 and found in (9, 10)), (found, many)
    ledger = proven()
    assert ledger.row(1, ledger.chunker, 40) == 10, "half of what is left, for all lanes"
    assert ledger.row(2, ledger.chunker, None) == 1, "that lane has proved nothing"


def test_no_rows_are_sent_while_any_worker_runs_many_items_at_a_time() -> None:
    """They are again once the last such worker is gone, whichever went first, and however many tasks it told of."""
    for order in ((2, 3), (3, 2)):
        ledger = proven()
        ledger.on_ready(3)
        for number in (2, 3):
            ledger.on_wide(number, 0, 5)
            ledger.on_wide(number, 1, 7)
            assert ledger.row(1, ledger.chunker, None) == 1
        for number in order:
            assert ledger.row(1, ledger.chunker, None) == 1
            ledger.returns.on_lost(number)
        assert ledger.row(1, ledger.chunker, None) == ROW


def test_a_row_counts_for_as_many_chunks_as_it_has() -> None:
    """Credit and what waits on a lane are told in chunks; receipts of a part make room."""
    ledger = proven()
    lane = ledger.lanes[1]
    before = lane.credit
    chunk = row(ledger)
    assert (lane.credit, lane.backlog) == (before - 8, 7)
    assert (ledger.in_flight, ledger.chunks) == (1, 8)
    ledger.account.on_receipt(of(chunk, 0, 5), 7.0)
    assert (lane.backlog, lane.since, ledger.chunks) == (2, 7.0, 3)
    ledger.check()
    ledger.account.on_receipt(of(chunk, 5, 8), 8.0)
    assert (lane.backlog, lane.count, ledger.in_flight, ledger.chunks) == (-1, 0, 0, 0)
    assert lane.receipts == 208


def test_what_waits_in_a_row_is_called_back_when_its_first_chunk_takes_its_time() -> None:
    """Though nothing waits behind the row, and there is more to issue."""
    ledger = proven()
    row(ledger)
    assert ledger.deadline() == PATIENCE
    assert ledger.recalls.overdue(PATIENCE) == [1]


def test_what_a_lost_worker_was_at_is_its_first_chunk_without_a_receipt() -> None:
    """The others of the row are not charged with anything."""
    ledger = proven(chunk=2)
    chunk = row(ledger, 6, 2)
    first = chunk.start
    ledger.account.on_receipt(of(chunk, 0, 4), 0.0)
    assert ledger.returns.on_lost(1) == 4, "chunks, not rows"
    assert pending(ledger, first) == [(4, 6, 1, 0), (6, 12, 0, 2)]
    ledger.check()
    assert ledger.returns.on_verdict(1, Verdict(crashed=True, how="so")) is not None
    crashed = [c.start - first for c in ledger._outstanding.values() if c.crashes]
    assert crashed == [4, 5], "bisected, for it has two items"


def test_a_verdict_that_names_the_item_charges_that_one() -> None:
    """What ran before it has had its attempt, what comes behind has not."""
    ledger = proven()
    ledger.returns.limited = True
    first = row(ledger).start
    ledger.returns.on_lost(1, verdict=True)
    charged = ledger.returns.on_verdict(1, Verdict(crashed=True, item=first + 3))
    assert charged is not None
    assert (charged.start, len(charged), charged.crashes, charged.attempt) == (first + 3, 1, 1, 1)
    assert pending(ledger, first) == [(0, 1, 1, 0), (1, 3, 1, 1), (3, 4, 1, 0), (4, 8, 0, 1)]
    ledger.check()


def test_what_has_not_been_begun_is_handed_back_in_whole_chunks() -> None:
    """And shared among those who are idle."""
    ledger = proven(chunk=3)
    chunk = row(ledger, 7, 3)
    first, lane = chunk.start, ledger.lanes[1]
    lane.recall(1.0)
    assert ledger.returns.on_returned(1, chunk.order, chunk.order, first + 6)
    assert pending(ledger, first) == [(6, 15, 0, 3), (15, 21, 0, 3)]
    assert (chunk.stop - first, lane.count) == (6, 2)
    ledger.check()
    ledger.account.on_receipt(of(chunk, 0, 6), 2.0)
    assert (lane.count, lane.busy) == (0, False)


def test_a_row_is_sent_again_only_as_far_as_its_chunks_are_quick_still() -> None:
    """Each of those that turn out slow waits for a worker of its own."""
    ledger = proven()
    first = row(ledger).start
    ledger.returns.on_lost(1)
    for _ in range(20):
        ledger.chunker.observe(1, 1.0, 10)
    for n in (0, 1):
        again = ledger.again(2, 0.0)
        assert again is not None
        assert (again.start - first, len(again)) == (n, 1)
        ledger.account.on_receipt(Receipt(again.start, again.stop, 2, 1.0, 0, 1), 0.0)
    assert pending(ledger, first) == [(2, 8, 0, 1)]
    ledger.check()


def test_an_item_that_failed_is_tried_again_alone() -> None:
    """The rest of the row goes on."""
    ledger = proven(chunk=2)
    chunk = row(ledger, 4, 2)
    first = chunk.start
    word = Receipt(first + 3, first + 4, 1, 0.0, 0, 0, again=1.0, attempt=1)
    ledger.account.on_receipt(word, 0.0)
    for part in (of(chunk, 0, 3), of(chunk, 4, 8)):
        ledger.account.on_receipt(part, 0.0)
    assert not ledger._outstanding
    assert ledger.due(1.0)
    again = ledger.again(2, 1.0)
    assert again is not None
    assert (again.start - first, again.stop - first, again.skip, again.payload, again.tries) == (
        (3, 4, 1, [b"\x01\x01"], 1)
    )
    ledger.check()


@given(st.integers(1, 5), st.integers(2, 9), st.data())
def test_a_part_of_a_row_has_its_items(grain: int, grains: int, data: st.DataObject) -> None:
    """However it is cut, and whether on a chunk's edge or not, what travels is what is wanted, each item once."""
    total = grain * grains
    items = [bytes([index]) for index in range(total)]
    bodies = [b"".join(items[at : at + grain]) for at in range(0, total, grain)]
    chunk = Chunk(100, 100 + total, "lines", bodies, 0, Chunker(grain), grain)
    parts = [chunk]
    for _ in range(data.draw(st.integers(0, 4))):
        which = data.draw(st.sampled_from(parts))
        if len(which) > 1:
            parts.append(which.cut(data.draw(st.integers(which.start + 1, which.stop - 1))))
    found = {}
    for part in parts:
        told, payload = coding.decode(coding.encode(part.told(None if part.grain else memoryview(part.payload[0]))))
        split = grains_of(told) if told.grain else [(told.start, told.stop, told.skip, bytes(payload[0]))]
        for start, stop, skip, body in split:
            found.update({start + n: body[skip + n] for n in range(stop - start)})
            assert part.edge(start) == stop
        assert split[0][0] == part.start
        assert split[-1][1] == part.stop
    assert found == {100 + index: index for index in range(total)}


def test_results_of_a_row_can_be_had_one_by_one() -> None:
    """Each with its share of the time."""
    made = wire.Result("job", 7, 10, 16, 1, 0.6, grains=[b"a", b"bc", b"d"])
    result, payload = coding.decode(coding.encode(made))
    assert type(payload) is Grains
    singles = results_of(result, payload)
    assert [(one.start, one.stop, bytes(body[0]), size) for one, body, size in singles] == [
        (10, 12, b"a", 1), (12, 14, b"bc", 2), (14, 16, b"d", 1)
    ]  # fmt: skip
    assert sum(one.seconds for one, _, _ in singles) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "message",
    [
        wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"a"]),
        wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"a", b"b", b"c"]),
        wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"a", b"b"], skip=2),
        wire.Chunk(0, 4, 1, "lines", grain=2),
        wire.Chunk(0, 4, 1, "lines", grains=[b"a", b"b"]),
        wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"a", b"b"], body=memoryview(b"x")),
        wire.Result("job", 7, 0, 4, 1, 0.5, grains=[b"a", b"b", b"c"]),
        wire.Result("job", 7, 0, 4, 1, 0.5, grains=[b"a", b"b"], body=memoryview(b"x")),
        wire.Result("job", 7, 0, 4, 1, 0.5, [wire.Failure(1, "E", "no")], grains=[b"a", b"b"]),
        wire.Result("job", 7, 0, 4, 1, 0.5, hit=1, grains=[b"a", b"b"]),
        wire.Result("job", 7, 0, 4, 1, 0.5, again=1.0, grains=[b"a", b"b"]),
        wire.Result("job", 7, 0, 4, 1, 0.5, log=b"x", grains=[b"a", b"b"]),
    ],
)
def test_rows_that_are_none_are_refused(message: wire.Message) -> None:
    """A row has as many payloads as its items make chunks, and nothing else to tell of them."""
    parts = wire.Chunks([message]) if isinstance(message, wire.Chunk) else wire.Results([message])  # type: ignore[list-item]
    for sent in (message, parts):
        with pytest.raises(coding.WireError):
            coding.decode(coding.encode(sent))
    with pytest.raises(coding.WireError, match="both"):
        coding.decode([*coding.encode(wire.Chunk(0, 4, 1, "lines", grain=2, grains=[b"a", b"b"])), b"x"])
