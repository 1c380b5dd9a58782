"""What failed handshakes mean, and which key is next."""

from __future__ import annotations

import pytest

from zpipe.core.handshake import Fault, Handshakes, Verdict, explain


def test_a_mismatch_is_clear_at_once() -> None:
    """One side has a key and the other has none: who, and the mend for either case."""
    plain, keyed = Handshakes("URL", 0, ""), Handshakes("URL", 1, "FILE")
    assert plain.on_failed(Fault.MECHANISM) is Verdict.DENIED
    assert "URL wants a key, and there is none here" in plain.why
    assert keyed.on_failed(Fault.MECHANISM) is Verdict.DENIED
    assert "URL has no key" in keyed.why


def test_one_that_leaves_gets_another_try() -> None:
    """A connection closed once may be a ventilator's end; twice it is a no."""
    shakes = Handshakes("URL", 1, "FILE")
    assert shakes.on_failed(Fault.LEFT) is Verdict.WAIT
    shakes.on_up()
    assert shakes.on_failed(Fault.LEFT) is Verdict.WAIT
    assert shakes.on_failed(Fault.LEFT) is Verdict.DENIED
    assert "has another key than FILE" in shakes.why


def test_without_a_key_it_is_a_stranger() -> None:
    """What keeps closing the connection, or babbles, is no ventilator; that is said later than a mismatch would be."""
    shakes = Handshakes("URL", 0, "")
    assert [shakes.on_failed(Fault.LEFT) for _ in range(4)] == [Verdict.WAIT] * 3 + [Verdict.STRANGE]
    assert shakes.on_failed(Fault.GARBLED) is Verdict.STRANGE


def test_all_keys_are_tried_in_turn() -> None:
    """From the first on, each until it is refused; once all were, and each further round, it is told."""
    shakes = Handshakes("URL", 3, "FILE")
    seen = []
    for _ in range(2):
        for verdict in (Verdict.ANEW, Verdict.ANEW, Verdict.DENIED):
            seen.append(shakes.key)
            assert shakes.on_failed(Fault.DENIED) is verdict
    assert seen == [0, 1, 2] * 2
    shakes.on_failed(Fault.DENIED)
    shakes.on_up()
    assert shakes.key == 1, "what was taken stays in use"


@pytest.mark.parametrize("fault", Fault)
def test_a_link_that_fails_is_explained(fault: Fault) -> None:
    """Where the reason is known."""
    assert bool(explain(fault, keyed=True)) == (fault in (Fault.MECHANISM, Fault.LEFT))
    assert bool(explain(fault, keyed=False)) == (fault is Fault.MECHANISM)
