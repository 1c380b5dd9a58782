"""A pipeline as seen by calls that claim something: when, where and after what their items may run.

The rule: whatever is said of items is a value, for all of them, or a function, which is called with the arguments that
an item's own function is called with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zpipe.api.calls import Calls
from zpipe.api.claimed import Claimed
from zpipe.api.futures import PipelineFuture
from zpipe.api.maps import MapCall
from zpipe.core.spec import Call
from zpipe.schedule.claims import Claims

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zpipe.api.pipeline import Pipeline
    from zpipe.schedule.claims import Wishes

__all__ = ["Options"]

T = TypeVar("T")


class Options(Calls):
    """What `Pipeline.options` returns: the pipeline's calls, whose items claim what was `wished`."""

    def __init__(self, pipe: Pipeline, **wished: Unpack[Wishes]) -> None:
        self._pipe, self._wished = pipe, wished
        self._claims: dict[Call, Claims] = {call: Claims(**_told(wished, call)) for call in _CALLS}
        if not self._claims["one"]:
            return
        schedule = pipe._engine.follow()
        if wished.get("rate_key") is not None and schedule.key_rate is None and schedule.key_max_in_flight is None:
            raise ValueError("rate_key says whose limits hold: give the pipeline rate_per_key or max_in_flight_per_key")

    def options(self, **wishes: Unpack[Wishes]) -> Options:
        """Return the same with these wishes besides, or in place of those of the same name; see `Pipeline.options`."""
        wished: Wishes = {**self._wished, **wishes}
        return Options(self._pipe, **wished)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have `fn(*args, **kwargs)` called in a worker, when it is its turn; else as `Pipeline.submit`.

        A delay counts from now, and so does a time to live. A call that expires raises `zpipe.errors.Expired`.
        """
        if not self._claims["one"]:
            return self._pipe.submit(fn, *args, **kwargs)
        engine = self._pipe._engine
        future: PipelineFuture[T] = PipelineFuture()
        future.hand = engine.helm
        call: Call = "full" if kwargs else "star"
        item: Any = (args, kwargs) if kwargs else args
        try:
            future.since = time.monotonic()
            future.claim = self._claims[call].of(item, future.since, time.time())
            refused = None
        except Exception as error:  # noqa: BLE001 - the script's own functions
            refused = error
        with engine.lock:
            engine.check()
            try:
                if refused is not None:
                    raise refused
                engine.check_function(fn)
                function = engine.functions.find(fn, call)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - pickling runs the user's own code
                future.set_running_or_notify_cancel()
                future.set_exception(error)
                return future
            engine.book(function, item, future)
        engine.dispatch()
        return future

    def start_map(self, fn: Callable[..., Any], items: Iterable[Any], call: Call = "one", **more: Any) -> MapCall:
        """As `Pipeline.start_map`."""
        claims = self._claims[call]
        return self._pipe.start_map(fn, items, call, claimed=Claimed(claims) if claims else None, **more)

    def _stage(self) -> Callable[..., MapCall]:
        priority = self._wished.get("priority")
        if priority is None or callable(priority):
            return self._pipe.start_map
        return Options(self._pipe, priority=priority).start_map


_CALLS: tuple[Call, ...] = ("one", "star", "full")


def _told(wished: Wishes, call: Call) -> Wishes:
    """Return the wishes with functions that are called with an item as it travels."""
    told: dict[str, Any] = {
        name: partial(_SPREAD[call], value) if callable(value) and call != "one" else value
        for name, value in wished.items()
    }
    return told  # type: ignore[return-value]


def _star(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return function(*args)


def _full(function: Callable[..., Any], item: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    return function(*item[0], **item[1])


_SPREAD: dict[Call, Callable[..., Any]] = {"star": _star, "full": _full}
