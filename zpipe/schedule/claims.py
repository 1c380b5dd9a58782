"""What items claim of a schedule, as a person or a script puts it: as it is, by a function, or by a field of the item.

The rule: whatever is said of an item can be said in all three ways. A claim is made when the item is read: a delay
counts from then. Does not know where items come from, nor what becomes of claims.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Any, TypedDict

from zpipe.core.claim import PLAIN, Claim, Rate, Schedule
from zpipe.errors import UsageError

__all__ = ["Claims", "Wishes", "field", "labels", "rate", "schedule", "seconds"]

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

BURST = 0.1
"""Seconds' worth of a rate that may go at once after a rest, if nothing else is said: a clock is no finer by much."""


class Wishes(TypedDict, total=False):
    """The keywords of `Claims`, for those that hand them on."""

    priority: Any
    delay: Any
    eta: Any
    ttl: Any
    key: Any
    rate_key: Any
    requires: Any


def seconds(value: Any) -> float:
    """Return a span of time in seconds: a number, a timedelta, or a text such as `30s`, `500ms`. Raises ValueError."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    found = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)):
        found = float(match[1]) * UNITS[match[2] or "s"]
    if found is None or not (found >= 0 and isfinite(found)):
        raise ValueError(
            f"{value!r} is no span of time: give seconds from 0 on, or for instance 500ms, 30s, 5m, 2h or 1d"
        )
    return float(found)


def rate(value: Any, burst: float | None = None, name: str = "rate") -> Rate:
    """Return the rate that `100/s`, `30/m` or `1000/h` says; a number is items a second. Raises ValueError."""
    per_second = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|h|d))?\s*", value)):
        per_second = float(match[1]) / UNITS[match[2] or "s"]
    if not (per_second > 0 and isfinite(per_second)):
        raise ValueError(f"{name} {value!r} is no rate: give for instance 100/s, 30/m or 1000/h")
    if burst is not None and not burst >= 1:
        raise ValueError(f"a burst of {burst!r} lets nothing go: give a number from 1 on")
    return Rate(per_second, float(burst) if burst is not None else max(1.0, per_second * BURST))


def schedule(
    *,
    rate: Any = None,
    burst: float | None = None,
    max_in_flight: int | None = None,
    rate_per_key: Any = None,
    burst_per_key: float | None = None,
    max_in_flight_per_key: int | None = None,
    ageing: Any = None,
) -> Schedule | None:
    """Return what a job is held to; None if nothing is asked for. Raises ValueError."""
    for name, count in (("max_in_flight", max_in_flight), ("max_in_flight_per_key", max_in_flight_per_key)):
        if count is not None and not (isinstance(count, int) and count >= 1):
            raise ValueError(f"{name}={count!r} can't be: give a whole number from 1 on")
    for name, limit, much in (("burst", rate, burst), ("burst_per_key", rate_per_key, burst_per_key)):
        if much is not None and limit is None:
            raise ValueError(f"{name} without a rate says nothing: give the rate, too")
    aged = seconds(ageing) if ageing is not None else None
    if aged == 0:
        raise ValueError("an ageing of 0 would make all priorities the same: give seconds, more than 0")
    made = Schedule(
        _rate(rate, burst, "the rate") if rate is not None else None,
        max_in_flight,
        _rate(rate_per_key, burst_per_key, "the rate per key") if rate_per_key is not None else None,
        max_in_flight_per_key,
        aged,
    )
    return made if made != Schedule() else None


_rate = rate


def field(path: str) -> Callable[[Any], Any]:
    """Return what finds `.name`, or `.outer.inner`, in an item: None where it is not there."""
    names = [name for name in path.split(".") if name]
    if not path.startswith(".") or not names:
        raise UsageError(f"{path!r} names no field: write .name, or .outer.inner")

    def find(item: Any) -> Any:
        found = item
        for name in names:
            if isinstance(found, str | bytes | int | float | list | tuple):
                raise TypeError(
                    f"an item of type {type(found).__name__} has no field {name!r}; with --jsonl items have"
                )
            if found is None:
                return None
            found = found.get(name) if hasattr(found, "get") else getattr(found, name, None)
        return found

    return find


def labels(given: Iterable[str], name: str = "labels") -> list[str]:
    """Return what tells workers from others, as it is written: NAME, or NAME=VALUE. Raises ValueError."""
    if isinstance(given, str):
        raise ValueError(f"{name}={given!r} can't be: give a list of labels")
    listed = list(given)
    for label in listed:
        if not (isinstance(label, str) and re.fullmatch(r"[^\s,=]+(=[^\s,=]+)?", label)):
            raise ValueError(f"{name} {label!r}: write NAME or NAME=VALUE, without spaces and commas")
    return listed


class Claims:
    """What is claimed for items: each thing as it is, or a function of the item that returns it (None: nothing).

    priority: a number; higher goes first. delay: seconds to wait from when the item is read; eta: when it may begin, a
    datetime, ISO 8601 or seconds since 1970. ttl: seconds, from when it may begin, after which it is given up unless it
    was sent to a worker. key: of items with one key one at a time is run, in order. rate_key: whose budget it draws on.
    requires: labels its worker must have, one, several with commas, or a list. Raises ValueError for what makes no
    sense.
    """

    def __init__(
        self,
        *,
        priority: Any = None,
        delay: Any = None,
        eta: Any = None,
        ttl: Any = None,
        key: Any = None,
        rate_key: Any = None,
        requires: Any = None,
    ) -> None:
        given = {
            "priority": priority,
            "delay": delay,
            "eta": eta,
            "ttl": ttl,
            "key": key,
            "rate_key": rate_key,
            "requires": requires,
        }
        self._functions = {name: value for name, value in given.items() if callable(value)}
        self._fixed = {
            name: _READERS[name](value)
            for name, value in given.items()
            if value is not None and name not in self._functions
        }
        if "delay" in given and delay is not None and eta is not None:
            raise ValueError("delay and eta both say when an item may begin: give one")

    @property
    def waits(self) -> bool:
        """Whether each item waits for some time from when it is read."""
        return "delay" in self._fixed

    @property
    def varied(self) -> bool:
        """Whether one item may claim what another does not."""
        return bool(self._functions)

    def __bool__(self) -> bool:
        """Whether anything is claimed at all."""
        return bool(self._functions or self._fixed)

    def of(self, item: Any, now: float, wall: float) -> Claim:
        """Return what an item claims that is read `now`, when it is `wall` by the clock on it. Raises ValueError."""
        said = self._fixed
        if self._functions:
            said = dict(said)
            for name, function in self._functions.items():
                value = function(item)
                if value is not None:
                    said[name] = _READERS[name](value)
        if not said:
            return PLAIN
        begin = -inf
        if said.get("delay"):
            begin = now + said["delay"]
        elif "eta" in said:
            begin = now + said["eta"] - wall
        return Claim(
            said.get("priority", 0.0),
            begin,
            max(begin, now) + said["ttl"] if "ttl" in said else inf,
            said.get("key"),
            said.get("rate_key"),
            said.get("requires", frozenset()),
        )


def _number(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = inf
    if not isfinite(found):
        raise ValueError(f"priority {value!r} is no number")
    return found


def _date(value: Any) -> float:
    """Return a date as seconds since 1970; one without a zone is of this machine's."""
    try:
        if isinstance(value, str):
            text = value.strip()
            value = (
                float(text)
                if re.fullmatch(r"\d+(\.\d+)?", text)
                else datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
            )
        found = value.timestamp() if isinstance(value, datetime) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = inf
    if not isfinite(found):
        raise ValueError(f"eta {value!r} is no date: give ISO 8601, such as 2030-01-31T08:00, or seconds since 1970")
    return found


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise ValueError(
            f"a key of type {type(value).__name__} can't be told from others: give text or a number"
        ) from None
    return value


def _labels(value: Any) -> frozenset[str]:
    listed = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else list(value)
    if not all(isinstance(label, str) for label in listed):
        raise ValueError(f"requires {value!r} is no label, nor a list of labels")
    return frozenset(label for label in listed if label)


_READERS: dict[str, Callable[[Any], Any]] = {
    "priority": _number,
    "delay": seconds,
    "eta": _date,
    "ttl": seconds,
    "key": _key,
    "rate_key": _key,
    "requires": _labels,
}
