"""Where items come from: what a source is, and items that are in memory already.

A source hands out items in batches, never blocks, and does no work per item in Python if that can be avoided.
It knows nothing of chunks, workers or sockets: whoever asks decides how many items it wants.
Items that come from files are in `zpipe.input.lines`, items that have to be waited for in `zpipe.input.feeder`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Any, Protocol

import msgspec

from zpipe import data
from zpipe.core.claim import Claim
from zpipe.core.spec import Codec, ItemKind
from zpipe.core.wire import Buffer
from zpipe.errors import SourceError, UsageError
from zpipe.running.traces import trace_text
from zpipe.serialize import dumps

__all__ = ["Batch", "IterSource", "Source", "failure", "length_of", "pack", "parse_range", "pass_over"]

MAX_ITEMS = 2**63 - 1
"""A job of more items can't be counted on the wire."""

TRACEBACK_LINES = 6


class Batch(msgspec.Struct, frozen=True, gc=False):
    """`count` items (1 or more) as the payload frames of a message, carried as `kind` says.

    pickle: a pickled sequence of items. msgpack: one frame, a list of them. lines, json: one frame, the items joined by
    the source's separator. The frames hold `skip` items ahead of them.
    """

    count: int
    kind: ItemKind
    frames: Sequence[Buffer]
    skip: int = 0
    claim: Claim | None = None
    """What all of them claim, where there is a schedule."""
    size: int = 0
    """Bytes that they take, where there are no frames yet."""


class Source(Protocol):
    """What the ventilator reads items from. All but the `wake` it was given is called in the ventilator's thread."""

    @property
    def exhausted(self) -> bool:
        """Whether no item will ever come any more: all were taken, or the source was closed."""

    @property
    def exact(self) -> bool:
        """Whether `remaining()` is exact."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; called once. Any thread may call `wake` later, to say that a `take` that gave None now gives more."""

    def fileno(self) -> int | None:
        """Return the descriptor to wait on for reading while `take` gives None; None if there is none to wait on."""

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` items, or None when there is none now (`exhausted` says whether there ever will be).

        Raises SourceError when the source failed, once all items before the failure were taken, and each time after.
        """

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` items; return how many, 0 where `take` gives None. Raises SourceError as it does."""

    def remaining(self) -> int | None:
        """Return how many items were not taken yet, as far as known: `exact` says whether it is an estimate."""

    def close(self) -> None:
        """Let go of threads and files. May be called more than once, and never waits for a source that is blocked."""


class IterSource:
    """Items of an iterable that never blocks: a list, a range, a quick generator.

    Sequences are sliced, so a `range` is never spelled out; what has a length has an exact `remaining()`.
    `name` is what messages call it, `codec` how they travel. Raises UsageError for what can't be iterated.
    """

    def __init__(self, iterable: Iterable[Any], name: str, codec: Codec = "pickle") -> None:
        self._name = name
        self._codec: Codec = codec
        self._length = length_of(iterable)
        self._sequence = _sliceable(iterable)
        self._iterator = _iterate(iterable, name)
        self._taken = 0
        self._ended = False
        self._error = ""
        self._cause: BaseException | None = None

    @property
    def exhausted(self) -> bool:
        """Whether all items were taken."""
        return self._ended and not self._error

    @property
    def exact(self) -> bool:
        """Whether the iterable has a length, or its end was seen."""
        return not self._error and self.remaining() is not None

    def start(self, wake: Callable[[], None]) -> None:  # noqa: ARG002 - nothing is waited for
        """See whether there is anything at all. `wake` is not needed: `take` gives None only at the end."""
        if self.remaining() == 0:
            self._next(0)

    def fileno(self) -> None:
        """Return None: there is nothing to wait on."""

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` items, None at the end. Raises SourceError when the iterable failed."""
        if not self._ended:
            items = self._next(most)
            if items:
                batch, error = pack(items, self._taken, self._name, self._codec)
                if error:
                    self._ended, self._error, self._cause = True, error, None
                if batch is not None:
                    self._taken += batch.count
                    return batch
        if self._error:
            raise SourceError(self._error) from self._cause
        return None

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` items; return how many, 0 at the end. Raises SourceError when the iterable failed."""
        skipped = 0 if self._ended else self._pass(most)
        self._taken += skipped
        if not skipped and self._error:
            raise SourceError(self._error) from self._cause
        return skipped

    def remaining(self) -> int | None:
        """Return how many items were not taken yet, None when that can't be known."""
        if self._ended:
            return 0
        length = length_of(self._sequence) if self._sequence is not None else self._length
        return None if length is None or length < self._taken else length - self._taken

    def close(self) -> None:
        """Let go of the iterable: no item comes any more."""
        self._ended, self._error = True, ""
        self._sequence, self._iterator = None, iter(())

    def _next(self, most: int) -> Sequence[Any]:
        items: list[Any] = []
        try:
            if self._sequence is not None:
                part = self._sequence[self._taken : self._taken + most]
                self._ended = not part or self._taken + len(part) >= len(self._sequence)
                return part if type(part) in (range, list, tuple) else list(part)
            items.extend(islice(self._iterator, most))  # keeps what came before an exception
            self._ended = len(items) < most
            if self._taken + len(items) == self._length and not self._ended:
                self._look_behind_the_last()
        except Exception as error:  # noqa: BLE001 - whatever the user's iterable raises
            self._ended = True
            self._error = failure(self._name, self._taken + len(items), error)
            self._cause = error
        return items

    def _pass(self, most: int) -> int:
        passed = [0]
        try:
            if self._sequence is not None:
                length = len(self._sequence)
                self._ended = self._taken + most >= length
                return min(most, length - self._taken)
            pass_over(self._iterator, most, passed)
            self._ended = passed[0] < most
            if self._taken + passed[0] == self._length and not self._ended:
                self._look_behind_the_last()
        except Exception as error:  # noqa: BLE001 - whatever the user's iterable raises
            self._ended = True
            self._error = failure(self._name, self._taken + passed[0], error)
            self._cause = error
        return passed[0]

    def _look_behind_the_last(self) -> None:
        """See whether the length was right, so that the end is known with the last item."""
        more = list(islice(self._iterator, 1))
        self._ended = not more
        self._iterator = chain(more, self._iterator)


def pass_over(iterator: Iterator[Any], most: int, passed: list[int]) -> None:
    """Take up to `most` items and drop them, at C speed; add how many to `passed[0]`, whatever the iterator raises."""
    counter = count()
    try:
        deque(zip(islice(iterator, most), counter, strict=False), maxlen=0)
    finally:
        passed[0] += next(counter)


def pack(items: Sequence[Any], first: int, name: str, codec: Codec = "pickle") -> tuple[Batch | None, str]:
    """Return `items` (1 or more, the first of them is item `first` of source `name`) as a batch, and no error.

    If one of them can't be carried: the batch of those before it (None if it is the first) and what is wrong with it.
    """
    try:
        return Batch(len(items), codec, _frames(items, codec)), ""
    except Exception as error:  # noqa: BLE001 - pickling runs the items' own methods
        reason = error
    doing, done = (
        ("pickling it", "pickled") if codec == "pickle" else (f"writing it as {data.TITLES[codec]}", "written")
    )
    for place, item in enumerate(items):
        try:
            _frame(item, codec)
        except Exception as error:  # noqa: BLE001, PERF203 - only once a batch has failed
            batch = pack(items[:place], first, name, codec)[0] if place else None
            return batch, (
                f"{name}: item {first + place}, of type {_type_name(item)}, can't be sent to a worker, because "
                f"{doing} failed: {_brief(error)}. Let the source give something plain in its place (a path, "
                "a key, a tuple of values) and make the object of it in the task"
            )
    return None, (
        f"{name}: items {first} to {first + len(items) - 1} can't be sent to a worker: each can be {done}, but not "
        f"all together: {_brief(reason)}. Make the items smaller, or ask for smaller chunks"
    )


def _frames(items: Sequence[Any], codec: Codec) -> list[Buffer]:
    if codec == "json":
        return [data.dump_lines(items)]
    return _frame(items if codec == "pickle" else list(items), codec)


def _frame(item: Any, codec: Codec) -> list[Buffer]:
    return dumps(item) if codec == "pickle" else [data.dump(item, codec)]


def failure(name: str, index: int, error: BaseException) -> str:
    """Return what to tell the user when source `name` raised `error` where its item `index` should have come."""
    trace = trace_text(error).splitlines()
    said = (
        f"{name} failed at item {index}: {_brief(error)}. The items before it were taken: mend the source and run the "
        "job again. It failed here:"
    )
    return "\n    ".join([said, *trace[-TRACEBACK_LINES:]])


def length_of(iterable: Any) -> int | None:
    """Return the length an iterable claims to have, None if it has none."""
    if not hasattr(type(iterable), "__len__"):
        return None
    try:
        return len(iterable)
    except OverflowError:
        raise UsageError(
            f"a source of more than {MAX_ITEMS} items can't be counted: split it into several jobs"
        ) from None
    except Exception:  # noqa: BLE001 - some iterables have a __len__ that says by raising that they don't know
        return None


def parse_range(text: str) -> range:
    """Return the range that `START:STOP`, `START:STOP:STEP` or `STOP` asks for, which may be empty.

    Raises UsageError for anything else, a step of zero, and more items than can be counted.
    """
    try:
        numbers = [int(part) for part in text.split(":")]
        if len(numbers) > 3:
            raise ValueError
        found = range(*numbers)
    except ValueError:
        raise UsageError(
            f"the range {text!r} is not START:STOP[:STEP] in whole numbers with a step other than 0: "
            "write for instance 0:1000, 0:1_000_000:10 or 10:0:-1"
        ) from None
    length_of(found)
    return found


def _sliceable(iterable: Any) -> Sequence[Any] | None:
    """Return the iterable if slices of it can be taken, else None."""
    if not isinstance(iterable, Sequence):
        return None
    try:
        iterable[:0]
    except Exception:  # noqa: BLE001 - a deque, for one, is a Sequence without slices
        return None
    return iterable


def _iterate(iterable: Any, name: str) -> Iterator[Any]:
    try:
        return iter(iterable)
    except TypeError:
        raise UsageError(
            f"{name}: items can't be taken from a {_type_name(iterable)}, which is not iterable: give a list, a "
            "range, a generator or the like"
        ) from None


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _brief(error: BaseException) -> str:
    return f"{_type_name(error)}: {error}" if str(error) else _type_name(error)
