"""What is set aside, what is run, and who gets whose outcome."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.chunking import Chunker
from zpipe.core.ledger import Ledger
from zpipe.core.sieve import Loaded, Sieve
from zpipe.core.wire import Receipt


class Cut:
    """Payloads that tell nothing."""

    def __call__(self, start: int, stop: int) -> Any:
        return "lines", [b"x" * (stop - start)]

    def skip(self, start: int) -> int:
        return 0


def made(kinds: str, known: dict[bytes, bytes] | None = None, most: int = 100) -> tuple[Ledger, Sieve]:
    """A sieve with an item for each letter; a dot is like no other."""
    ledger = Ledger(Chunker(4))
    ledger.on_ready(1)
    sieve = Sieve(ledger, most)
    digests = [None if kind == "." else kind.encode() for kind in kinds]
    sieve.load(Loaded(list(kinds), digests, Cut(), stored=known))
    return ledger, sieve


def issue(ledger: Ledger, sieve: Sieve, most: int = 4) -> tuple[int, int] | None:
    """Issue what comes next, and return its range."""
    taken = sieve.take(most)
    if taken is None:
        return None
    chunk = ledger.issue(1, *taken, 0.0)
    return chunk.start, chunk.stop


def receipted(ledger: Ledger, sieve: Sieve, start: int, stop: int, *kept: bytes, lane: int = 1) -> None:
    """The sink has these."""
    receipt = Receipt(start, stop, lane, 0.1, 0, 1, kept=list(kept))
    ledger.account.on_receipt(receipt, 1.0)
    sieve.on_receipts([receipt])
    sieve.check()
    ledger.check()


def test_who_is_like_another_follows() -> None:
    """A chunk ends before it, and it is told what became of the other."""
    ledger, sieve = made("abacb")
    assert issue(ledger, sieve) == (0, 2)
    assert issue(ledger, sieve) is None
    assert sieve.set_aside(10) == 1
    assert issue(ledger, sieve) == (3, 4)
    assert sieve.set_aside(10) == 1
    receipted(ledger, sieve, 0, 2, b"va", b"eb")
    assert [(answer.chunk.start, answer.outcomes) for answer in sieve.answers] == [(2, [b"va"]), (4, [b"eb"])]
    assert [(found.digest, found.outcome) for found in sieve.found] == [(b"a", b"va"), (b"b", b"eb")]
    while sieve.answers:
        sieve.on_told(sieve.answers.popleft())
    receipted(ledger, sieve, 2, 3, lane=0)
    receipted(ledger, sieve, 3, 4, b"vc")
    receipted(ledger, sieve, 4, 5, lane=0)
    ledger.on_exhausted()
    assert ledger.finished
    assert (sieve.hits, sieve.repeats) == (0, 2)


def test_without_an_outcome_the_next_one_is_run() -> None:
    """And the others follow that."""
    ledger, sieve = made("aaa")
    assert issue(ledger, sieve) == (0, 1)
    assert sieve.set_aside(10) == 2
    receipted(ledger, sieve, 0, 1, b"")
    assert not sieve.answers
    chunk = ledger.again(1, 1.0)
    assert chunk is not None
    assert (chunk.start, chunk.stop) == (1, 2)
    receipted(ledger, sieve, 1, 2, b"va")
    assert [answer.chunk.start for answer in sieve.answers] == [2]


def test_what_is_known_is_told_together() -> None:
    """Up to the first that is to be run; what can't be told is run after all."""
    ledger, sieve = made("abx.a", {b"a": b"va", b"b": b"vb"})
    assert sieve.set_aside(10) == 2
    answer = sieve.answers.popleft()
    assert (answer.outcomes, sieve.hits) == ([b"va", b"vb"], 2)
    assert issue(ledger, sieve) == (2, 4)
    sieve.on_refused(answer)
    assert sieve.hits == 0
    chunk = ledger.again(1, 1.0)
    assert chunk is not None
    assert (chunk.start, chunk.stop, chunk.payload) == (0, 2, [b"xx"])
    ledger.check()


def test_what_can_not_be_told_is_found_anew() -> None:
    """Those like it wait for that, which is to be stored in the other's place."""
    ledger, sieve = made("abab", {b"a": b"bad"})
    assert sieve.set_aside(1) == 1
    sieve.on_refused(sieve.answers.popleft())
    sieve.check()
    assert (sieve.hits, sieve.repeats) == (0, 0)
    assert issue(ledger, sieve) == (1, 2)
    assert sieve.set_aside(10) == 2
    assert not sieve.answers
    chunk = ledger.again(1, 1.0)
    assert chunk is not None
    assert (chunk.start, chunk.stop) == (0, 1)
    receipted(ledger, sieve, 0, 1, b"va")
    assert [(found.digest, found.mark, found.outcome) for found in sieve.found] == [(b"a", b"a", b"va")]
    assert [(answer.chunk.start, answer.outcomes) for answer in sieve.answers] == [(2, [b"va"])]


def test_no_more_is_set_aside_than_may_be() -> None:
    """Receipts make room."""
    ledger, sieve = made("a" * 10, {b"a": b"va"}, most=4)
    assert sieve.set_aside(10) == 4
    assert sieve.set_aside(10) == 0
    sieve.on_told(sieve.answers.popleft())
    receipted(ledger, sieve, 0, 4, lane=0)
    assert sieve.set_aside(10) == 4


def test_what_was_told_is_told_again_after_a_cut() -> None:
    """Unless a sink that joins has it."""
    _, sieve = made("aa", {b"a": b"va"})
    sieve.set_aside(1)
    sieve.set_aside(1)
    while sieve.answers:
        sieve.on_told(sieve.answers.popleft())
    sieve.on_held([(0, 1)])
    sieve.tell_again()
    assert [answer.chunk.start for answer in sieve.answers] == [1]
    sieve.check()


@given(st.text("abc.", max_size=40), st.integers(1, 6), st.integers(1, 5))
def test_each_kind_is_run_once(kinds: str, most: int, room: int) -> None:
    """Whatever the chunks, and however little may be set aside; each item has one outcome."""
    ledger, sieve = made(kinds, most=room)
    run: list[int] = []
    while not (ledger.next == len(kinds) and not ledger.in_flight):
        sieve.set_aside(3)
        issued = issue(ledger, sieve, most)
        if issued is not None:
            run += range(*issued)
            receipted(ledger, sieve, *issued, *(b"v" + kinds[index].encode() for index in range(*issued)))
        while sieve.answers:
            answer = sieve.answers.popleft()
            for index, outcome in enumerate(answer.outcomes, answer.chunk.start):
                assert outcome == b"v" + kinds[index].encode()
            sieve.on_told(answer)
            receipted(ledger, sieve, answer.chunk.start, answer.chunk.stop, lane=0)
    firsts = [index for index, kind in enumerate(kinds) if kind == "." or kinds.index(kind) == index]
    assert run == firsts


@given(st.text("abc.", max_size=40), st.sets(st.sampled_from("abc")), st.integers(1, 6), st.integers(1, 5))
def test_each_kind_is_run_once_though_what_was_stored_is_bad(kinds: str, bad: set[str], most: int, room: int) -> None:
    """What comes of the first that could not be told is what others get, unless they were told it together."""
    ledger, sieve = made(kinds, {kind.encode(): b"bad" for kind in bad}, most=room)
    done: list[int] = []
    while not (ledger.next == len(kinds) and not ledger.in_flight):
        sieve.set_aside(3)
        chunk = ledger.again(1, 1.0)
        issued = (chunk.start, chunk.stop) if chunk is not None else issue(ledger, sieve, most)
        if issued is not None:
            done += range(*issued)
            receipted(ledger, sieve, *issued, *(b"v" + kinds[index].encode() for index in range(*issued)))
        while sieve.answers:
            answer = sieve.answers.popleft()
            if b"bad" in answer.outcomes:
                sieve.on_refused(answer)
                sieve.check()
                continue
            done += range(answer.chunk.start, answer.chunk.stop)
            sieve.on_told(answer)
            receipted(ledger, sieve, answer.chunk.start, answer.chunk.stop, lane=0)
    assert sorted(done) == list(range(len(kinds)))
    assert {found.outcome for found in sieve.found} == {b"v" + kind.encode() for kind in set(kinds) - {"."}}
