"""A world that went wrong, with all that is needed to see it again."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

from .faults import Fault
from .scenario import Scenario

__all__ = ["Crash"]

SHOWN = 40
"""Lines of the trace that are shown of a world that was not reduced."""


class Crash(AssertionError):
    """A broken invariant, or an exception where none may be."""

    def __init__(
        self, seed: int, scenario: Scenario, faults: Sequence[Fault], trace: Sequence[str], error: Exception
    ) -> None:
        super().__init__(seed)
        self.seed, self.scenario, self.faults, self.trace, self.error = seed, scenario, list(faults), trace, error
        self.reduced = False

    @property
    def kind(self) -> str:
        """What went wrong, without the numbers: the same bug in another world has the same."""
        where = traceback.extract_tb(self.error.__traceback__)[-1]
        return f"{type(self.error).__name__} in {where.name}: {re.sub(r'[0-9]+', '#', str(self.error))[:60]}"

    @property
    def recipe(self) -> str:
        """The expression that makes this world again."""
        faults = "".join(f"\n    {fault!r}," for fault in self.faults)
        return f"World({self.seed}, {self.scenario!r}, [{faults}\n]).run()"

    def __str__(self) -> str:
        trace = self.trace if self.reduced else self.trace[-SHOWN:]
        lines = "\n".join(trace)
        return f"seed {self.seed}, {self.scenario!r}\n{lines}\n{self.kind}\n{self.error!r}\nit is\n{self.recipe}"
