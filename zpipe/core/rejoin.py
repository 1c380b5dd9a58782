"""What a ventilator makes of a sink that joins: whose job goes on, or why none can.

    the sink has               the ventilator
    nothing, or our job        goes on, unless items were receipted that the sink does not have
    another job, as ours       has done nothing yet: it goes on with that job
    another job                has had a sink: the sink is refused; has had none: it gives way, the sink waits

A receipt is sent for what the sink would still have after its death, if it has a journal. So one that comes back has
all that was receipted, and perhaps more; without a journal it comes back with nothing.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from zpipe.core.fingerprint import differences
from zpipe.core.wire import Held

__all__ = ["Meeting", "Outcome", "meet"]


class Outcome(Enum):
    """What becomes of sink and ventilator."""

    GO_ON = "they go on with the ventilator's job"
    ADOPT = "they go on with the job the sink has"
    REFUSE = "the sink is refused"
    GIVE_WAY = "the ventilator ends, its command is wrong; the sink and the workers wait for another"
    BEGIN_ANEW = "the ventilator ends; started anew it goes on with what the sink has"
    FAIL = "the job fails, and the sink is of no use to it"


class Meeting(msgspec.Struct, frozen=True):
    """How it comes out, and why if that is not well."""

    outcome: Outcome
    why: str = ""


def meet(held: Held, job: str, fingerprint: dict[str, str], *, met: bool, done: int) -> Meeting:
    """Say what becomes of a sink that joins the ventilator of a job, `done` items of which were receipted.

    `met`: it has had a sink before.
    """
    count = sum(held.done[1::2])
    if held.job in ("", job):
        if count >= done:
            return Meeting(Outcome.GO_ON)
        if not held.job:
            lost = f"the sink was started anew, and the {done:,} results its first process had are gone"
            return Meeting(Outcome.FAIL, f"{lost}; start the job anew, with --journal FILE at the sink to survive that")
        lost = f"the sink's journal has {count:,} items, and {done:,} were receipted: it is not the newest"
        return Meeting(Outcome.BEGIN_ANEW, f"{lost}; give the same command again, and the job goes on from there")
    differing = differences(held.fingerprint, fingerprint) if held.fingerprint and fingerprint else "its ids differ"
    if not differing and not done:
        return Meeting(Outcome.ADOPT)
    if not differing:
        lost = f"the sink with {done:,} results is gone, and this one has {count:,} of an earlier start of the same job"
        return Meeting(Outcome.BEGIN_ANEW, f"{lost}; give the same command again, and the job goes on from there")
    if met:
        return Meeting(Outcome.REFUSE, f"it has results of another job ({differing}); start a fresh sink for this one")
    return Meeting(
        Outcome.GIVE_WAY,
        f"it has {count:,} items of another job: {differing}. To go on with that job, give its command; to begin "
        "this one, stop that sink and start another, without its journal",
    )
