"""What a ventilator wants of those it works with in its own process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zpipe.core import wire
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Schedule
from zpipe.core.ledger import Ledger
from zpipe.core.plan import Plan
from zpipe.core.spec import Encoding, JobSpec
from zpipe.input.sources import Batch

__all__ = ["LocalSink", "Reader", "Script", "Tasks"]


class Reader(Protocol):
    """Parks what a job's items are read from, as far as there is room."""

    frugal: bool
    """Whether it parks no more than lanes have room for, and so is to be asked again once they have taken that."""

    def read(self, now: float) -> None:
        """Park what there is."""

    def left(self) -> int | None:
        """How many items are to be read yet, if that is known."""

    def on_void(self, start: int, stop: int) -> None:
        """These, which were parked, turned out not to be wanted any more."""


class Tasks(Protocol):
    """What a job of many functions says of the items that its source gives next."""

    setup: JobSpec | None
    """What is called once in each worker, ahead of everything."""

    def current(self) -> tuple[int, Chunker] | None:
        """The number of the task that the next items are for, and what sizes their chunks; None if there are none."""

    def single(self) -> tuple[int, Chunker, Batch] | None:
        """The next item where it is to be sent alone, whatever else there is, with its task; None if there is none."""

    def spec(self, number: int) -> JobSpec:
        """The task of this number."""


class Script(Protocol):
    """A script that may want what goes next to be chosen, from any moment on."""

    schedule: Schedule | None
    """By what, once it does."""

    def read_by(
        self,
        plan: Plan,
        ledger: Ledger,
        rest: Callable[[], None],
        wake: Callable[[], None],
        void: Callable[[int, int], None],
    ) -> Reader:
        """From now on all items are parked by this plan; return what does."""


class LocalSink(Protocol):
    """A sink in the same process: a receipt from it is a function call."""

    @property
    def endpoint(self) -> str:
        """Where workers send results, announced with `*` for the host."""

    @property
    def encoding(self) -> Encoding:
        """How it wants results."""

    @property
    def letters(self) -> bool:
        """Whether it wants dead letters."""

    @property
    def joblog(self) -> bool:
        """Whether it wants lines for a job log."""

    def held(self) -> wire.Held:
        """Return what there is of the job already."""

    def on_job(self, job: str, fingerprint: dict[str, str]) -> None:
        """This is the job."""

    def on_total(self, total: int) -> None:
        """The job has `total` items."""

    def on_copied(self, start: int, stop: int) -> None:
        """Two workers run these items."""

    def on_void(self, start: int, stop: int) -> None:
        """Nobody wants the outcomes of these items any more."""

    def settle(self) -> None:
        """See to what comes of that."""

    def tell(self, results: Sequence[tuple[wire.Result, Sequence[wire.Buffer]]]) -> None:
        """These results came, from this process."""
