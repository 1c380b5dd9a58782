"""A world whose job goes by a schedule: what its items claim, and how its ventilator fills lanes by that."""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING

from zpipe.core.chunk import Chunk
from zpipe.core.claim import PLAIN, Claim, Rate, Schedule

if TYPE_CHECKING:
    from .engine import World
    from .ventilator import Vent

__all__ = ["AHEAD", "check_choice", "claim_of", "fill_by_plan", "labels_of", "schedule_of"]

AHEAD = 16
"""Items that are read ahead: few, so that reading goes on all the time."""


def schedule_of(world: World) -> Schedule:
    """What the job is held to: some of it."""
    rng = random.Random(f"schedule {world.seed}")
    return Schedule(
        rate=rng.choice((None, None, Rate(20.0, 3.0))),
        max_in_flight=rng.choice((None, None, 3)),
        key_rate=rng.choice((None, Rate(10.0, 2.0))),
        key_max_in_flight=rng.choice((None, 2)),
        ageing=rng.choice((None, 1.0)),
    )


def labels_of(slot: int) -> list[str]:
    """What the workers of a slot can be asked for."""
    return ["gpu=1"] if slot == 0 else []


def claim_of(world: World, index: int, now: float) -> Claim:
    """What an item claims when it is read at this time. One of which something is expected does not expire."""
    rng, s = random.Random(f"claim {world.seed} {index}"), world.scenario
    lasting = {*range(index, index + 4)} & {*s.poison, *s.flaky, *s.overruns, *s.hits, *s.unlucky}
    return Claim(
        priority=rng.choice((0.0, 0.0, 1.0, 5.0)),
        begin=now + rng.random() * 3 if rng.random() < 0.15 else -inf,
        end=now + 0.2 + rng.random() * 10 if rng.random() < 0.15 and not lasting else inf,
        key=rng.choice((None, None, "a", "b", "c")),
        rate_key=rng.choice((None, "x", "y")),
        requires=rng.choice((frozenset(), frozenset(), frozenset({"gpu"}))),
    )


def fill_by_plan(vent: Vent) -> None:
    """Read ahead, and fill every lane that is linked."""
    ledger, plan, s = vent.director.ledger, vent.director.ledger.plan, vent.world.scenario
    assert plan is not None
    while not vent.director.lifecycle.paused and vent.director.lifecycle.may_issue:
        vent.skip()
        left = None if s.endless else s.items - ledger.next
        room = min(plan.room(AHEAD), vent.world.random.randint(1, 4))
        count = room if left is None else min(room, left)
        if not count:
            break
        claim = claim_of(vent.world, ledger.next, vent.now)
        plan.admit(count, "lines", [vent.world.payload(ledger.next, count)], vent.now, claim, count)
        vent.look()
    plan.survey(None if s.endless else s.items - ledger.next)
    again, hungry = True, False
    while again:
        again = False
        for number in sorted(ledger.lanes, key=lambda n: len(ledger.lanes[n].held)):
            if not vent.may_fill(number) or ledger.lanes[number].credit <= 0:
                continue
            chunk = ledger.again(number, vent.now)
            if chunk is None:
                hungry = True
                continue
            check_choice(vent, chunk)
            again = vent.send(chunk, number) or again
    if hungry:
        vent.perform(vent.director.on_hungry(vent.now))
    vent.perform(vent.director.on_pressed(vent.now))


def check_choice(vent: Vent, chunk: Chunk) -> None:
    """Assert that a chunk that was just given to a lane may run there now."""
    ledger, claim = vent.director.ledger, chunk.claim or PLAIN
    assert ledger.plan is not None
    if chunk.doom:
        assert not chunk.expired or (claim.end <= vent.now and chunk.attempt == 1)
        return
    assert claim.requires <= ledger.lanes[chunk.lane].labels, "its worker lacks a label"
    assert claim.begin <= vent.now or chunk.attempt > 1, "it is too early"
    undone = [*ledger._outstanding.values(), *ledger.retries.chunks.values()]
    if claim.key is not None:
        same = [other for other in undone if (other.claim or PLAIN).key == claim.key and other.start < chunk.start]
        assert all(other.doom for other in same), f"{chunk.start} is ahead of others of its key"
    held = [other for lane in ledger.lanes.values() for other in lane.held.values() if not other.doom]
    most = ledger.plan.schedule.max_in_flight
    if most is not None and not chunk.crashes:
        out = sum(len(other) - (other.got.count if other.got is not None else 0) for other in held)
        assert out <= most, f"{out} items are in flight"
