"""What a job waits for, in words for a person, with the line that mends it. Decides nothing."""

from __future__ import annotations

from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Lifecycle, Phase
from zpipe.core.roster import Roster
from zpipe.core.seat import Seat

__all__ = ["awaited"]


def awaited(url: str, life: Lifecycle, sink: Seat, roster: Roster, ledger: Ledger, *, expect: int, joined: int) -> str:
    """Return what the job at this address waits for, as a sentence; empty when it does not wait for a node.

    Work starts with so many workers as it is to `expect`; so many have `joined` so far.
    """
    if life.over:
        return ""
    if not sink.taken:
        return sink.missing()
    if life.phase is Phase.CLOSING:
        return "all results are in; waiting for the sink to finish its output"
    if life.paused:
        return f"paused; to go on: zpipe unpause {url}"
    workers = len(ledger.lanes)
    linking = sum(not node.ready and not node.sink for node in roster)
    if linking and not workers:
        results = sink.wants.endpoint if sink.wants is not None else ""
        one, many = "1 worker has joined but can't reach its lane", "workers have joined but can't reach their lanes"
        return f"{one if linking == 1 else f'{linking} {many}'}, or the sink at {results}"
    if not workers:
        have = "no worker has joined yet" if not joined else "all workers are gone"
        return f"{have}; start one with: zpipe worker {url}"
    if not life.begun:
        return f"{workers} of the {expect} expected workers are here; start more with: zpipe worker {url}"
    unmet = ledger.plan.agenda.unmet() if ledger.plan is not None else []
    if unmet:
        labels = " ".join(f"--label {label}" for label in unmet[0].split(", "))
        return f"waiting for a worker with label {' and one with '.join(unmet)}: zpipe worker {url} {labels}"
    return ""
