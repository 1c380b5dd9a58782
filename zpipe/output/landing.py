"""Where a job's results land: all that is said of it in one piece. Knows what there is, not when it is written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from zpipe.core.collector import Collector
from zpipe.output.outlet import Outlet, give_up_on_error
from zpipe.output.outputs import Output

if TYPE_CHECKING:
    from zpipe.output.recorder import Recorder

__all__ = ["Landing"]


class Landing(msgspec.Struct, frozen=True):
    """Results go to `output`, in the items' order if `ordered`; dead letters and lines of a job log to the other two.

    With a `recorder` a receipt is sent once what it tells of is in the journal.
    """

    output: Output
    letters: Output | None = None
    joblog: Output | None = None
    recorder: Recorder | None = None
    ordered: bool = False

    @property
    def wants_letters(self) -> bool:
        """Whether failures are to come with a line for the dead letters: a journal keeps those, too."""
        return self.letters is not None or self.recorder is not None

    @property
    def wants_joblog(self) -> bool:
        """Whether results are to come with a line for each item."""
        return self.joblog is not None

    def outlet(self) -> Outlet:
        """Return what writes all of it."""
        return Outlet(self.output, self.letters, self.joblog)

    def collector(self) -> Collector:
        """Return what decides which results count, gone on with from the journal if there is one.

        Raises OutputError.
        """
        if self.recorder is None:
            return Collector(ordered=self.ordered)
        return self.recorder.resume(self.output, ordered=self.ordered)

    def give_up_on_error(self, stack: contextlib.ExitStack) -> None:
        """Have what was written given up if the stack is unwound by an exception."""
        give_up_on_error(stack, self.output, self.letters, self.joblog)

    def close(self) -> None:
        """Let go of the journal."""
        if self.recorder is not None:
            self.recorder.close()
