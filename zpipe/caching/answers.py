"""Makes of outcomes that are known what a worker would have sent of them.

The rule: nothing is run but what `--until` calls. This file does not know where outcomes are known from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from zpipe.core.sieve import Answer
from zpipe.core.spec import JobSpec, TaskSpec
from zpipe.running import keepsakes, outcomes, records
from zpipe.running.reading import Unread
from zpipe.running.runner import Outcome, Runner

__all__ = ["Teller", "Untellable", "told_whole"]


class Untellable(Exception):
    """An outcome that is known can't be made use of here: its item has to be run."""


class Teller(Runner):
    """Tells of items of a job what is known already. Raises TaskError for an `--until` that can't be loaded here."""

    def __init__(self, spec: JobSpec, job: str) -> None:
        self._values: Iterator[Any] = iter(())
        super().__init__(msgspec.structs.replace(spec, retries=0, keep=0), job=job)
        self._codec = spec.codec

    def _load(self, task: TaskSpec) -> Callable[..., Any]:  # noqa: ARG002 - it is not run
        return lambda *_: next(self._values)

    def tell(self, answer: Answer, shift: int = 0) -> list[Outcome]:
        """Return what became of the items of an answer, whose numbers are shown so much higher. Raises Untellable."""
        values: list[Any] = []
        errors: Unread = deque()
        try:
            for position, kept in enumerate(answer.outcomes):
                value, error = keepsakes.load(kept, self._codec)
                if error is not None:
                    errors.append((position, error))
                else:
                    values.append(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - unpickling runs whatever a class has for it
            raise Untellable(f"{type(error).__name__}: {error}") from None
        self._values, self._again = iter(values), {}
        self._flat, self._untried = any(kept[:1] == keepsakes.FLAT for kept in answer.outcomes), False
        items = answer.items
        told = self._run(records.Batch(answer.chunk.start + shift, items), iter(items), errors)
        if any(outcome.again is not None for outcome in told):
            raise Untellable("--until asked for another try")
        return told


def told_whole(answer: Answer) -> list[Outcome]:
    """Return the outcomes of an answer where a script is to have them as they are. Raises Untellable."""
    start = answer.chunk.start
    try:
        frames, failures = outcomes.join(answer.outcomes, start)
    except ValueError as error:
        raise Untellable(str(error)) from None
    return [Outcome(start, answer.chunk.stop, frames, failures)]
