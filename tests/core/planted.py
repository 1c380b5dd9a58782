"""Bugs to be planted in the core, each a change of a few characters: worlds that miss them would miss others."""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

from zpipe.core.account import Account
from zpipe.core.agenda import Agenda
from zpipe.core.budgets import Budgets
from zpipe.core.chunk import Chunk
from zpipe.core.collector import Collector
from zpipe.core.horizon import Horizon
from zpipe.core.intake import Intake
from zpipe.core.lane import Lane
from zpipe.core.ledger import Ledger
from zpipe.core.lifecycle import Lifecycle
from zpipe.core.pending import Pending
from zpipe.core.plan import Plan
from zpipe.core.ranges import RangeSet
from zpipe.core.returns import Returns
from zpipe.core.speculation import Speculation
from zpipe.core.suspects import Suspects

__all__ = ["BUGS", "Bug"]


@dataclass(frozen=True)
class Bug:
    """In a method, the text `old` is `new`; `scenario` is where to look for it first."""

    owner: type[Any]
    name: str
    old: str
    new: str
    scenario: str = "both"

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in place for the rest of the test."""
        module = sys.modules[self.owner.__module__]
        method = self.owner.__dict__[self.name]
        source = textwrap.dedent(inspect.getsource(getattr(method, "fget", method)))
        assert self.old in source, f"{self.owner.__name__}.{self.name} has changed: plant this bug anew"
        made: dict[str, Any] = {}
        exec(f"from __future__ import annotations\n{source.replace(self.old, self.new)}", vars(module), made)
        monkeypatch.setattr(self.owner, self.name, made[self.name])


BUGS = {
    "the dedupe lets all through": Bug(RangeSet, "overlaps", "return self._starts[", "return False and self._starts["),
    "a requeue loses the chunk": Bug(Pending, "add", "heappush(self._heap, chunk.start)", "pass", "kills"),
    "a requeue loses it from the books, too": Bug(
        Returns,
        "_pass_on",
        "self._pending.add(chunk)",
        "del self._outstanding[chunk.start]; self._account.done += len(chunk) - (chunk.got.count if chunk.got else 0)",
    ),
    "a receipt goes ahead of the decision": Bug(
        Collector,
        "on_result",
        "if result.job != self.job:",
        "self._receipt(result, size)\n    if result.job != self.job:",
        "shares",
    ),
    "a result that has a new part is receipted whole": Bug(
        Collector, "_is_settled", "if self.done.covers(start, stop):", "if True:", "shares"
    ),
    "a result that has a new part is dropped without a word": Bug(
        Collector, "_is_settled", "else:\n            self._ask(result, 0.0, void=True)", "", "all die, big chunks"
    ),
    "the first failure of two runs is the last word": Bug(
        Collector, "_may_yet_succeed", "copied is None", "True", "copies, failures"
    ),
    "of a failure that does not count nothing is said": Bug(
        Collector,
        "on_result",
        "_may_yet_succeed(result):\n        self._ask(result, 0.0, void=True)",
        "_may_yet_succeed(result):",
        "copies, failures",
    ),
    "a copy dies with the lane of its chunk": Bug(
        Speculation, "promote", "lane.adopt(chunk, copy.order)", "pass", "copies, chunks"
    ),
    "what failed in a copy is nobody's to do again": Bug(
        Speculation,
        "on_again",
        "copy.words = [*(copy.words or ()), (receipt, now)]",
        "pass",
        "copies, retries in chunks",
    ),
    "every second receipt is not sent": Bug(
        Collector, "_receipt", "self._receipts.append", "result.start % 2 and self._receipts.append", "calm"
    ),
    "a second try is wanted once only": Bug(
        Collector, "take_receipts", "if not again:", "if True:", "retries, sink cut"
    ),
    "nobody is told of chunks that come back": Bug(Lifecycle, "refill", "if lanes else []", "if False else []"),
    "the bisection forgets a half": Bug(
        Suspects,
        "add",
        "self._outstanding[rest.start] = rest",
        "pass",
        "poison in big chunks",
    ),
    "the bisection stops short": Bug(Suspects, "add", "len(chunk) > 1", "len(chunk) > 2", "poison in big chunks"),
    "an item is given up without proof": Bug(Suspects, "_is_guilty", "chunk.proven >= proof and", "", "one is deadly"),
    "an item that overruns has crashed its worker": Bug(
        Returns, "on_verdict", "if verdict.late:", "if False:", "overruns, calm"
    ),
    "what is behind an item that overruns is forgotten": Bug(
        Pending, "single_out", "self.add_new(rest)", "pass", "overruns, calm"
    ),
    "a verdict is waited for without end": Bug(Suspects, "late", "if until <= now", "if False", "overruns"),
    "what waits is written as it came": Bug(
        Collector, "_in_order", "self._waiting.pop(self._next)", "self._waiting.pop(max(self._waiting))", "ordered"
    ),
    "the hit itself is not wanted": Bug(
        Collector, "on_result", "result.hit + 1", "result.hit", "first in order, one by one"
    ),
    "part of a chunk has the items of its beginning": Bug(
        Chunk, "part", "self.skip + start", "start", "poison in big chunks"
    ),
    "a late failure is tried again twice": Bug(
        Account, "_on_word", "or chunk.attempt != receipt.attempt", "", "retries, sink cut"
    ),
    "a sink that comes back is not believed": Bug(
        Account, "on_done", "list(self._outstanding.values())", "[]", "sink cut"
    ),
    "the running chunk is handed back": Bug(
        Returns, "_hand_back", "after < chunk.order", "after <= chunk.order", "calm, one by one"
    ),
    "chunks under way are handed back": Bug(
        Returns, "_hand_back", "chunk.order <= upto", "chunk.order", "calm, one by one"
    ),
    "a key is free while its item waits for another try": Bug(
        Plan, "survey", "*ledger.retries.chunks.values(), ", "", "planned, retries"
    ),
    "nobody calls the next of a key": Bug(Agenda, "on_flight", "self._expose(key)", "key and None", "planned, calm"),
    "what was not begun stays in flight": Bug(Budgets, "on_flight", "self._job.out = job", "pass", "planned"),
    "an item goes to a worker without its label": Bug(
        Agenda, "_first", "requires <= lane.labels and", "", "planned, calm"
    ),
    "an item goes ahead of its time": Bug(Agenda, "_offer", "claim.begin > -inf and", "False and", "planned, calm"),
    "the rest of a run is forgotten": Bug(Agenda, "take", "self.put(rest)", "pass", "planned, calm"),
    "what waits for room is not called": Bug(
        Budgets, "_release", "for requires, heap in list(budget.waiting.items())", "for requires, heap in ()", "planned"
    ),
    "an item that has expired is not told of": Bug(
        Agenda, "tick", "heappush(self._doomed, start)", "pass", "planned, calm"
    ),
    "a full sink waits for what nobody runs": Bug(
        Agenda, "_gap", "default=BOUNDLESS) <", "default=0) <", "planned, in order"
    ),
    "a suspect is chosen as if it were none": Bug(
        Agenda, "is_parked", "(chunk.crashes or chunk.lane)", "chunk.lane", "planned, poison"
    ),
    "a part of a row has what is ahead of it": Bug(
        Chunk, "narrow", "first, grain = self.skip // self.grain", "first, grain = 0", "rows, calm"
    ),
    "chunks of a row that are not begun are forgotten": Bug(
        Intake, "on_recall", "else rest()", "else 0 * rest()", "rows of larger chunks"
    ),
    "the rest of a row that is too long is forgotten": Bug(
        Ledger, "again", "self._pending.add_new(found.cut(edge))", "found.cut(edge)", "rows"
    ),
    "of a lost row only what ran is run again": Bug(
        Returns, "_part_row", "parts.insert(1, parts[0].cut(edge))", "parts[0].cut(edge)", "rows"
    ),
    "a lane forgets how much of a row waits there": Bug(Lane, "weigh", "chunk.places = left", "pass", "rows"),
    "what was never issued counts": Bug(Collector, "_hold", "result.stop > self.horizon.known", "False", "forgers"),
    "a word that may be older judges": Bug(Horizon, "on_issued", "held.doubt <= self._answered", "True", "calm"),
    "a worker forgets the turn of its lane": Bug(Intake, "after", "self.taken = self.arrived = 0", "pass"),
}
