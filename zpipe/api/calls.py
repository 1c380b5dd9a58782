"""The maps and folds of a script, by whatever name: all of them are one map, whose results are taken in some way.

The rule: whoever has `start_map` has all of these. Knows no pipeline. What takes time to load is left for the first
call: a pipeline's workers are started ahead of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from zpipe.api.maps import MapCall
    from zpipe.api.results import OnError, Results
    from zpipe.core.spec import Call

__all__ = ["MISSING", "Calls"]

T = TypeVar("T")

MISSING: Any = object()
"""Stands for an argument that was not given."""


class Calls(ABC):
    """What can be asked of whoever begins maps: it has a `start_map`."""

    @abstractmethod
    def start_map(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        call: Call = "one",
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        pull: bool = True,
        kind: Callable[..., MapCall] | None = None,
    ) -> MapCall:
        """Begin a map and return its state."""

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        on_error: OnError = "raise",
    ) -> Results[T]:
        """Return an iterator of `fn`'s results over the items of one or several iterables, as the built-in map has it.

        Lists, tuples and ranges run to their end whether somebody iterates or not. Items of anything else are pulled
        by whoever iterates, some way ahead: `buffersize` items at most beyond those whose results were taken, else as
        many as keep the workers busy. So an endless iterable is fine, and memory is bounded either way.

        timeout: seconds from now in which results must come, else `concurrent.futures.TimeoutError` is raised.
        chunksize: items sent together, or more of them if those take less than a millisecond (None: as many as the
        pipeline finds best). ordered: in the items' order, or as they come. on_error: "raise" an item's exception at
        its place (iteration may go on), "skip" it, or "collect": it comes as a value. Raises as `submit` does.
        """
        if not iterables:
            return self._start(fn, [], "one", timeout, chunksize, buffersize, ordered, on_error)
        if len(iterables) == 1:
            return self._start(fn, iterables[0], "one", timeout, chunksize, buffersize, ordered, on_error)
        if all(type(iterable) in (list, tuple, range) for iterable in iterables):
            from zpipe.api.zipped import Zipped

            items: Iterable[Any] = Zipped(cast("tuple[list[Any], ...]", iterables))
        else:
            items = zip(*iterables, strict=False)
        return self._start(fn, items, "star", timeout, chunksize, buffersize, ordered, on_error)

    def imap(
        self,
        fn: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        on_error: OnError = "raise",
    ) -> Results[T]:
        """As `map` over one iterable; multiprocessing.Pool has it under this name."""
        return self._start(fn, iterable, "one", None, chunksize, buffersize, True, on_error)

    def imap_unordered(
        self,
        fn: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        on_error: OnError = "raise",
    ) -> Results[T]:
        """As `map` over one iterable, the results in the order they come."""
        return self._start(fn, iterable, "one", None, chunksize, buffersize, False, on_error)

    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[tuple[Any, ...]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        on_error: OnError = "raise",
    ) -> Results[T]:
        """As `map`, with each item the tuple of a call's arguments."""
        return self._start(fn, iterable, "star", timeout, chunksize, buffersize, ordered, on_error)

    def reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        op: Callable[[Any, Any], Any],
        initial: Any = MISSING,
        *,
        ordered: bool = True,
        chunksize: int | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Fold `fn`'s results with `op`, here and as they come: `functools.reduce(op, map(fn, items), initial)`.

        In the items' order, unless `ordered` is False, which suits an `op` that does not care. No list of all results
        is ever made. Raises TypeError if there is no result and no `initial`, else as `map` does.
        """
        with self._start(fn, items, "one", None, chunksize, None, ordered, on_error) as results:
            return reduce(op, results) if initial is MISSING else reduce(op, results, initial)

    def first(
        self,
        fn: Callable[[Any], T],
        items: Iterable[Any],
        predicate: Callable[[T], object] = bool,
        *,
        default: Any = MISSING,
        ordered: bool = False,
        chunksize: int | None = None,
    ) -> T:
        """Return the first of `fn`'s results that satisfies `predicate`, and drop everything that is still queued.

        The first that comes, or with `ordered` the first in the items' order. The predicate runs in the workers.
        Raises LookupError if none does and there is no `default`, and the exception of an item that fails before.
        """
        from zpipe.running.probing import probe

        with self._start(
            partial(probe, fn, predicate), items, "one", None, chunksize, None, ordered, "raise"
        ) as results:
            for found in chain.from_iterable(results):
                return cast("T", found)
        if default is MISSING:
            raise LookupError("no result satisfies the predicate; give a default to have that instead")
        return cast("T", default)

    def _start(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        call: Call,
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
        on_error: OnError,
    ) -> Results[Any]:
        from zpipe.api.results import Results, check_on_error

        check_on_error(on_error)
        made = self.start_map(fn, items, call, chunksize=chunksize, buffersize=buffersize, ordered=ordered)
        return Results.of(made, on_error, timeout, self._stage(), ordered=ordered)

    def _stage(self) -> Callable[..., MapCall]:
        """What begins the next stage, over the results of a map."""
        return self.start_map
