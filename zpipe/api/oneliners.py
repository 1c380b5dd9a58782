"""Maps and folds for scripts that need just one: each call has a pipeline of its own, and sees to its end.

`zpipe.map` and its like return an iterator whose pipeline lives until the iterator is exhausted, closed or collected.
What becomes of the items then is what becomes of a `Pipeline`'s: see `Results`. All take a pipeline's `retries`,
`item_timeout`, `max_memory` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zpipe.api.calls import MISSING
from zpipe.api.pipeline import Pipeline
from zpipe.api.results import OnError, Results
from zpipe.report.progress import Snapshot

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zpipe.jobs.terms import Limits

__all__ = ["first", "imap_unordered", "map", "reduce", "starmap"]

T = TypeVar("T")

Progress = bool | Callable[[Snapshot], object]


def map(  # noqa: A001 - called as zpipe.map, in place of the built-in
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    workers: int | None = None,
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    ordered: bool = True,
    on_error: OnError = "raise",
    progress: Progress = False,
    **limits: Unpack[Limits],
) -> Results[T]:
    """Return an iterator of `fn`'s results over the items of one or several iterables, as the built-in map has it.

    workers: processes (None: one a core). progress: as of `Pipeline`. The rest, and what is raised: `Pipeline.map`'s.
    """
    return _lasting(
        workers,
        progress,
        limits,
        lambda pipe: pipe.map(
            fn,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
            on_error=on_error,
        ),
    )


def imap_unordered(
    fn: Callable[[Any], T],
    iterable: Iterable[Any],
    chunksize: int | None = None,
    *,
    workers: int | None = None,
    buffersize: int | None = None,
    on_error: OnError = "raise",
    progress: Progress = False,
    **limits: Unpack[Limits],
) -> Results[T]:
    """As `map` over one iterable, the results in the order they come."""
    return _lasting(
        workers,
        progress,
        limits,
        lambda pipe: pipe.imap_unordered(fn, iterable, chunksize, buffersize=buffersize, on_error=on_error),
    )


def starmap(
    fn: Callable[..., T],
    iterable: Iterable[tuple[Any, ...]],
    chunksize: int | None = None,
    *,
    workers: int | None = None,
    buffersize: int | None = None,
    ordered: bool = True,
    on_error: OnError = "raise",
    progress: Progress = False,
    **limits: Unpack[Limits],
) -> Results[T]:
    """As `map`, with each item the tuple of a call's arguments."""
    return _lasting(
        workers,
        progress,
        limits,
        lambda pipe: pipe.starmap(fn, iterable, chunksize, buffersize=buffersize, ordered=ordered, on_error=on_error),
    )


def reduce(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    op: Callable[[Any, Any], Any],
    initial: Any = MISSING,
    *,
    workers: int | None = None,
    ordered: bool = True,
    chunksize: int | None = None,
    on_error: OnError = "raise",
    progress: Progress = False,
    **limits: Unpack[Limits],
) -> Any:
    """Fold `fn`'s results with `op`, here and as they come; see `Pipeline.reduce`."""
    with Pipeline(workers, progress=progress, **limits) as pipe:
        return pipe.reduce(fn, items, op, initial, ordered=ordered, chunksize=chunksize, on_error=on_error)


def first(
    fn: Callable[[Any], T],
    items: Iterable[Any],
    predicate: Callable[[T], object] = bool,
    *,
    workers: int | None = None,
    default: Any = MISSING,
    ordered: bool = False,
    chunksize: int | None = None,
    progress: Progress = False,
    **limits: Unpack[Limits],
) -> T:
    """Return the first of `fn`'s results that satisfies `predicate`, once what was running has ended.

    See `Pipeline.first`.
    """
    with Pipeline(workers, progress=progress, **limits) as pipe:
        return pipe.first(fn, items, predicate, default=default, ordered=ordered, chunksize=chunksize)


def _lasting(
    workers: int | None, progress: Progress, limits: Limits, start: Callable[[Pipeline], Results[T]]
) -> Results[T]:
    """Return the results that `start` makes on a pipeline of their own, which ends when they do."""
    pipe = Pipeline(workers, progress=progress, **limits)
    try:
        results = start(pipe)
    except BaseException:
        pipe.shutdown(wait=True, cancel_futures=True)
        raise
    return _made_last(results, pipe)


def _made_last(results: Results[T], pipe: Pipeline) -> Results[T]:
    chunks = _Lasting(results, pipe)
    lasting: Any = Results.from_iterable(chunks)
    lasting._chunks = chunks
    lasting._chain = partial(_pass_on, chunks)
    return cast("Results[T]", lasting)


def _pass_on(chunks: _Lasting, _: Results[Any], *wanted: Any) -> Results[Any]:
    """Return the results of a next stage, with which the pipeline ends from then on."""
    results = chunks.results
    made = _made_last(results._chain(results, *wanted), chunks.pipe)
    chunks.passed_on = True
    return made


class _Lasting:
    """The chunks of a map, and the pipeline that ends with them."""

    def __init__(self, results: Results[Any], pipe: Pipeline) -> None:
        self.results, self.pipe = results, pipe
        self.passed_on = False

    def __iter__(self) -> _Lasting:
        return self

    def __next__(self) -> Iterator[Any]:
        try:
            return next(self.results._chunks)
        except StopIteration:
            self.pipe.shutdown(wait=True)
            raise
        except KeyboardInterrupt as error:
            self.pipe.__exit__(KeyboardInterrupt, error, None)
            raise

    def close(self) -> None:
        """Drop what has not been run, and have the pipeline end by itself."""
        if self.passed_on:
            return
        self.results.close()
        self.pipe.shutdown(wait=False, cancel_futures=True)

    def let_go(self) -> None:
        """Nobody will take results; a sized sequence that nobody took any of is still run."""
        if self.passed_on:
            return
        call = self.results._chunks.call
        if call.started or not call.sized:
            call.close()
        else:
            call.abandon()
        self.pipe.shutdown(wait=False)
