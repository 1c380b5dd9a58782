"""What goes wrong in a world, and when: a plan drawn from a seed, so that its parts can be left out one by one."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .network import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import World
    from .scenario import Scenario

__all__ = ["Fault", "inflict", "plan"]

SINK = -1
VENTILATOR = -2
STEPS = 500
"""About as many steps as a world takes: half of all mishaps happen right after one, the others at a time."""


@dataclass(frozen=True)
class Fault:
    """A mishap: `at` seconds, or after so many steps. `who` is a slot, SINK or VENTILATOR.

    `span`: seconds until it is over (restarted, healed, woken). `link`: which of its connections, counted round.
    `told`: which ends of a cut connection learn of it at once. `group`: who is on the one side of a partition.
    """

    kind: str
    at: float = 0.0
    step: int = 0
    who: int = 0
    span: float = 0.0
    link: int = 0
    told: tuple[bool, bool] = (True, True)
    crashed: bool = False
    group: tuple[int, ...] = ()

    def __repr__(self) -> str:
        given = [f"{f.name}={v!r}" for f in fields(self)[1:] if (v := getattr(self, f.name)) != f.default]
        return f"Fault({', '.join([repr(self.kind), *given])})"


def plan(seed: int, s: Scenario) -> list[Fault]:
    """Draw the mishaps of a world."""
    rng = random.Random(f"mishaps {seed}")
    made = []

    def add(kind: str, who: int, span: float = 0.0, group: tuple[int, ...] = ()) -> None:
        at, step = round(rng.random() * s.chaos, 4), 0
        if rng.random() < 0.5:
            at, step = 0.0, rng.randint(1, STEPS)
        told = (rng.random() < 0.6, rng.random() < 0.6)
        made.append(Fault(kind, at, step, who, round(span, 4), rng.randrange(6), told, rng.random() < 0.5, group))

    def worker() -> int:
        return rng.randrange(s.workers)

    def split() -> None:
        people = [VENTILATOR, SINK, *range(s.workers)]
        group = tuple(sorted(rng.sample(people, rng.randint(1, len(people) - 1))))
        add("split", 0, rng.choice((1.0, 5.0, 2 * HEARTBEAT)) * rng.random(), group)

    def freeze() -> None:
        add("freeze", rng.randrange(VENTILATOR, s.workers), rng.choice((0.1, 5.0, 2.5 * HEARTBEAT)) * rng.random())

    mishaps = [
        (s.kills, lambda: add("kill", worker(), rng.random())),
        (s.cuts, lambda: add("cut", worker())),
        (s.sink_cuts, lambda: add("cut", SINK)),
        (s.mutes, lambda: add("mute", rng.randrange(SINK, s.workers))),
        (s.terms, lambda: add("term", worker(), 1.0 + rng.random())),
        (s.splits, split),
        (s.freezes, freeze),
        (s.sink_freezes, lambda: add("freeze", SINK, 5.0 * rng.random())),
        (s.sink_dies, lambda: add("sink dies", SINK, rng.random())),
        (s.ventilator_dies, lambda: add("ventilator dies", VENTILATOR, rng.choice((0.1, 2.0)) * rng.random())),
        (s.disk_full, lambda: add("disk full", SINK)),
    ]
    for count, happen in mishaps:
        for _ in range(count):
            happen()
    return made


def inflict(world: World, fault: Fault) -> None:
    """Let it happen now, if there is still somebody whom it can happen to."""
    if world.vent.end is None or fault.kind in ("cut", "mute", "split", "freeze"):
        world.tell(str(fault))
        KINDS[fault.kind](world, fault)


def _kill(world: World, fault: Fault) -> None:
    worker = world.worker(fault.who)
    if worker is None:
        return
    if (fault.crashed or world.scenario.suicides) and worker.stop - worker.start == 1:
        world.accused.append(worker.start)
    worker.vanish((True, all(fault.told)))
    # One more than these, and an item may be given up that merely takes long, or was in one chunk with poison.
    crashed = fault.crashed and world.accidents < (0 if world.scenario.poison else 2)
    world.accidents += crashed
    world.at(world.now + fault.span, lambda: world.restart(worker, crashed))


def _term(world: World, fault: Fault) -> None:
    worker = world.worker(fault.who)
    if worker is not None:
        worker.terminate()
        world.at(world.now + fault.span, lambda: world.restart(worker))


def _cut(world: World, fault: Fault) -> None:
    connections = world.connections(fault.who)
    if connections:
        connections[fault.link % len(connections)].cut(fault.told)


def _mute(world: World, fault: Fault) -> None:
    connections = world.connections(fault.who)
    if connections:
        connections[fault.link % len(connections)].silence(int(fault.crashed))


def _split(world: World, fault: Fault) -> None:
    world.network_split(fault.group, fault.span)


def _freeze(world: World, fault: Fault) -> None:
    world.freeze(fault.who, fault.span)


def _sink_dies(world: World, fault: Fault) -> None:
    if world.sink.alive:
        world.sink.vanish((True, True))
        world.at(world.now + fault.span, world.new_sink)


def _ventilator_dies(world: World, fault: Fault) -> None:
    if world.vent.alive:
        world.vent.vanish()
        world.at(world.now + fault.span, world.new_ventilator)


def _disk_full(world: World, fault: Fault) -> None:
    world.full = True


KINDS: dict[str, Callable[[World, Fault], None]] = {
    "kill": _kill,
    "term": _term,
    "cut": _cut,
    "mute": _mute,
    "split": _split,
    "freeze": _freeze,
    "sink dies": _sink_dies,
    "disk full": _disk_full,
    "ventilator dies": _ventilator_dies,
}
