"""Faults of peers: told once each, few a minute, remembered in bounded memory."""

from __future__ import annotations

from zpipe.core.complaints import Complaints


def test_each_peer_is_told_of_once() -> None:
    """Once for each kind of fault, however long it goes on."""
    log = Complaints()
    told = [log.on_fault(who, kind, f"{who} {kind}", now * 100.0) for now in range(3) for who in "ab" for kind in "xy"]
    assert list(filter(None, told)) == ["a x", "a y", "b x", "b y"]
    assert log.count == 12


def test_somebody_unknown_is_told_of_if_nobody_was() -> None:
    """A peer whose address is not known may be one that was told of."""
    log = Complaints()
    assert log.on_fault("", "x", "somebody", 0.0)
    assert not log.on_fault("", "x", "somebody", 1.0)
    assert log.on_fault("a", "x", "a", 2.0)
    assert not log.on_fault("", "x", "somebody", 3.0)
    assert log.on_fault("", "y", "somebody", 4.0)


def test_a_flood_of_peers_is_no_flood_of_words() -> None:
    """So many lines a minute; what was left out is counted in the next one, and memory is bounded."""
    log = Complaints(most=3, span=60.0, remembered=10)
    told = [log.on_fault(f"peer {n}", "x", f"{n}", n * 0.01) for n in range(5000)]
    assert list(filter(None, told)) == ["0", "1", "2"]
    assert log.on_fault("late", "x", "late", 100.0) == "late (4,997 more like this were not told of)"
    for n in range(100):
        log.on_fault(f"slow {n}", "x", "slow", 1000.0 + 30 * n)
    assert len(log._known) <= 10


def test_what_may_be_harmless_is_told_when_it_goes_on() -> None:
    """Only after so many times of the same peer, and once."""
    log = Complaints(remembered=5)
    told = [log.on_fault(who, "left", who, 0.0, after=3) for _ in range(6) for who in ("a", "b")]
    assert [n for n, text in enumerate(told) if text] == [4, 5]
    for n in range(100):
        log.on_fault(f"{n}", "left", "", 0.0, after=3)
    assert len(log._often) <= 6
