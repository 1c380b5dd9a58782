"""Items that may have to be waited for: a generator runs in a thread of its own, a bounded way ahead.

Only this file starts a thread for a source. The thread shares a deque and a few flags with the one that takes;
whoever takes never waits for the generator, and a generator that never comes back is left behind at the end.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import repeat, starmap
from pathlib import Path
from typing import Any

from zpipe.core.spec import Codec
from zpipe.errors import SourceError, TaskError, UsageError
from zpipe.input.sources import Batch, failure, length_of, pack, pass_over
from zpipe.input.walk import matches

__all__ = ["FeederSource", "callable_source", "glob_source"]

STRIDE = 65_536
"""So many items are passed over before the thread looks whether it is still wanted."""

CLOSE_SECONDS = 0.1
"""How long `close()` gives the thread to end; a blocked one is a daemon and ends with the process."""


class FeederSource:
    """Items of the iterable that `factory` returns, which may block, and so may `factory`: both run in a thread.

    At most `ahead` items wait to be taken; the thread then rests until half of them are. `name` is what messages
    call it, `codec` how they travel. Anything the iterable raises comes out of `take`, even SystemExit, which would end
    the thread unseen.
    """

    def __init__(
        self, factory: Callable[[], Iterable[Any]], name: str, ahead: int = 10_000, codec: Codec = "pickle"
    ) -> None:
        self._factory = factory
        self._codec: Codec = codec
        self._name = name
        self._ahead = max(1, ahead)
        self._queue: deque[Any] = deque()
        self._room = threading.Condition()
        self._full = False  # the thread rests, or is about to
        self._hungry = False  # the taker found nothing: what comes next has to wake it
        self._over = False  # the thread adds nothing more; set after its last item and its error
        self._error: BaseException | None = None  # set by the thread
        self._length: int | None = None
        self._skip = (
            0  # so many items the thread is to pass over; set by the taker, who keeps off the queue until it has
        )
        self._skipped = 0  # so many it has
        self._iterator: Iterator[Any] = iter(())
        self._stopped = False  # the taker wants nothing more
        self._refused = ""  # set by the taker: why not
        self._taken = 0
        self._wake: Callable[[], None] = _ignore
        self._thread = threading.Thread(target=self._run, name=f"zpipe source {name}", daemon=True)

    @property
    def exhausted(self) -> bool:
        """Whether the iterable ended and all items were taken."""
        if self._stopped:
            return not self._refused
        return self._over and not (self._queue or self._error or self._skip or self._skipped)

    @property
    def exact(self) -> bool:
        """Whether the iterable has a length, or has ended."""
        return not self._error and not self._refused and self.remaining() is not None

    def start(self, wake: Callable[[], None]) -> None:
        """Start the thread. It calls `wake` when an item, the end or an error came after `take` gave None."""
        self._wake = wake
        self._thread.start()

    def fileno(self) -> None:
        """Return None: `wake` is called."""

    def take(self, most: int) -> Batch | None:
        """Return 1 to `most` items, None if none waits. Raises SourceError when the iterable failed."""
        if self._refused:
            raise SourceError(self._refused)
        items, over = self._pop(most)
        if not items:
            if over and self._error and not self._stopped:
                raise SourceError(failure(self._name, self._taken, self._error)) from self._error
            return None
        batch, error = pack(items, self._taken, self._name, self._codec)
        if error:
            self._stop()
            self._refused = error
        if batch is None:
            raise SourceError(error)
        self._taken += batch.count
        return batch

    def skip(self, most: int) -> int:
        """Pass over 1 to `most` items; return how many, 0 if that takes a while. Raises SourceError as `take` does."""
        if self._refused:
            raise SourceError(self._refused)
        if self._skip:
            return 0
        skipped, over = self._skipped, False
        self._skipped = 0
        if not skipped:
            items, over = self._pop(most)
            skipped = len(items)
        if not skipped and over and self._error and not self._stopped:
            raise SourceError(failure(self._name, self._taken, self._error)) from self._error
        self._taken += skipped
        if not skipped and not over and most > self._ahead:
            with self._room:
                if not self._over:
                    self._skip = most
                    self._hungry = True  # the thread may have woken us since, and filled the queue, and be at rest
                    self._room.notify()
        return skipped

    def remaining(self) -> int | None:
        """Return how many items were not taken yet, None when that can't be known."""
        if self._stopped:
            return 0
        if self._over:
            return len(self._queue)
        length = self._length
        return None if length is None or length < self._taken else length - self._taken

    def close(self) -> None:
        """Tell the thread to end and let go of it: no item comes any more. Takes 0.1 s at most."""
        self._stop()
        self._refused = ""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_SECONDS)

    def _pop(self, most: int) -> tuple[list[Any], bool]:
        """Return up to `most` items, and whether there are no more behind them if there are none."""
        queue = self._queue
        if self._stopped:
            return [], True
        # The thread adds, then looks whether to wake; so here: ask to be woken, then look. And whether it is over
        # has to be known before looking, or the last items could come in between.
        if not queue:
            self._hungry = True
        over = self._over
        items = list(starmap(queue.popleft, repeat((), min(most, len(queue)))))
        if self._full and len(queue) <= self._ahead // 2:
            with self._room:
                self._room.notify()
        return items, over

    def _stop(self) -> None:
        self._stopped = True
        self._hungry = True  # so that the thread looks up at its next item
        self._queue.clear()
        with self._room:
            self._room.notify()

    def _run(self) -> None:
        try:
            iterable = self._factory()
            self._length = length_of(iterable)
            self._feed(iter(iterable))
        except BaseException as error:  # noqa: BLE001 - it is the taker's to hear of
            self._error = error
        with self._room:
            self._over = True
        self._hungry = True  # the end is news even to a taker that has not asked yet
        self._look_up()

    def _feed(self, iterator: Iterator[Any]) -> None:
        queue, add, ahead = self._queue, self._queue.append, self._ahead
        self._iterator = iterator
        for item in iterator:
            add(item)
            if (self._hungry or len(queue) >= ahead) and not self._look_up():
                if isinstance(iterator, Generator):
                    with suppress(Exception):  # nobody is left to be told
                        iterator.close()
                return

    def _look_up(self) -> bool:
        """Wake the taker if it asked for it, rest while there is no room; return whether to go on."""
        while not self._stopped:
            if self._skip:
                self._pass_over()
            if self._hungry:
                self._hungry = False
                self._wake()
            if len(self._queue) < self._ahead:
                return True
            with self._room:
                self._full = True
                self._room.wait_for(lambda: self._stopped or self._skip or len(self._queue) <= self._ahead // 2)
                self._full = False
        return False

    def _pass_over(self) -> None:
        """Let go of as many items as the taker does not want: those that wait, then those to come."""
        queue, wanted, passed = self._queue, self._skip, [min(self._skip, len(self._queue))]
        for _ in range(passed[0]):
            queue.popleft()
        try:
            while passed[0] < wanted and not self._stopped:
                before = passed[0]
                pass_over(self._iterator, min(wanted - before, STRIDE), passed)
                if passed[0] == before:
                    break
        finally:
            self._skipped, self._skip = passed[0], 0


def glob_source(pattern: str, root: str | os.PathLike[str] | None = None, codec: Codec = "pickle") -> FeederSource:
    """Return the paths of the files that match `pattern`, relative to `root` if the pattern is; `**` is any depth.

    Folders are left out, and so is what begins with a dot, unless the pattern has the dot. Paths come sorted, folder
    by folder. Raises UsageError for an empty pattern and a `root` that is no folder.
    """
    if not pattern:
        raise UsageError("an empty pattern matches no file: give one such as 'data/**/*.csv'")
    if root is not None and not Path(root).is_dir():
        raise UsageError(f"can't look for files in {os.fspath(root)}: it is not a folder: check the path")
    base = "" if root is None else os.fspath(root)

    def walk() -> Iterator[str]:
        for path in matches(pattern, base):
            if os.path.isfile(os.path.join(base, path)):  # noqa: PTH113, PTH118 - a Path per file costs more
                yield path

    return FeederSource(walk, f"the files of {pattern!r}", codec=codec)


def callable_source(spec: str, codec: Codec = "pickle") -> FeederSource:
    """Return the items of what `module:function` or `path/file.py:function` returns, or of the iterable it names.

    Raises UsageError when it can't be imported, needs arguments, or is neither callable nor iterable.
    """
    from zpipe.running.tasks import import_object

    try:
        found = import_object(spec)
    except TaskError as error:
        raise UsageError(f"can't read items from {spec}: {error}") from error
    if callable(found):
        _refuse_arguments(found, spec)
        return FeederSource(lambda: _call(found), spec, codec=codec)
    if not isinstance(found, Iterable):
        raise UsageError(
            f"can't read items from {spec}: it is of type {type(found).__name__}: name a function without arguments "
            "that returns an iterable, or an iterable"
        )
    return FeederSource(lambda: found, spec, codec=codec)


def _call(function: Callable[[], Any]) -> Iterable[Any]:
    found = function()
    if isinstance(found, Iterable):
        return found
    raise TypeError(f"it returned {type(found).__name__}, which is not iterable; return or yield the items")


def _refuse_arguments(function: Callable[..., Any], spec: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables written in C don't tell
        return
    try:
        signature.bind()
    except TypeError as error:
        raise UsageError(
            f"can't read items from {spec}: it is called without arguments, but {error}: give them defaults, or wrap "
            "it in a function that has none"
        ) from None


def _ignore() -> None:
    pass
