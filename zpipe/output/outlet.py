"""All that a sink writes, as one: results, dead letters, the job log. Knows what goes where, not when."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from zpipe.core.wire import Buffer, Result
from zpipe.output.outputs import Output

__all__ = ["Outlet", "give_up_on_error"]


class Outlet:
    """`output` gets results, `letters` the dead letters among them, `joblog` a line for each of their items."""

    def __init__(self, output: Output, letters: Output | None = None, joblog: Output | None = None) -> None:
        self.output, self._letters, self._joblog = output, letters, joblog
        self._sides = [side for side in (letters, joblog) if side is not None]

    def name(self, index: int) -> str:
        """Return what to call an item in a sentence."""
        return f"item {index}"

    def write(self, result: Result, records: Sequence[Buffer]) -> None:
        """Write a result. Raises OutputError."""
        self.write_sides(result)
        self.output.write(records)

    def write_sides(self, result: Result) -> None:
        """Write what is told of a result besides its values. Raises OutputError."""
        if self._letters is not None and result.failures:
            self._letters.write([failure.letter for failure in result.failures])
        if self._joblog is not None:
            self._joblog.write([result.log])

    def flush(self) -> None:
        """Make what was written visible. Raises OutputError."""
        for made in (self.output, *self._sides):
            made.flush()

    def finish(self) -> None:
        """Make all of it stand: the job is whole. Raises OutputError."""
        for made in (*self._sides, self.output):
            made.finish()

    def abandon(self) -> str:
        """Keep what there is of a job that is not whole; say in a sentence where."""
        return "; ".join(filter(None, [made.abandon() for made in (self.output, *self._sides)]))


def give_up_on_error(stack: contextlib.ExitStack, *outputs: Output | None) -> None:
    """Have these given up if the stack is unwound by an exception."""

    def leave(kind: type[BaseException] | None, *_: object) -> bool:
        for output in outputs:
            if kind is not None and output is not None:
                output.abandon()
        return False

    stack.push(leave)
