"""What the tests of the embedding API let workers do. Imported by the workers as `pipeline.chores`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import zpipe

PATIENCE = 120.0
"""Seconds until a task gives up waiting; only a failing test ever waits that long."""

state: dict[str, Any] = {}
"""What an initializer has left in this worker."""

loads = 0
"""How many `Cargo` this process has unpickled."""


def double(item: Any) -> Any:
    """Twice the item."""
    return item * 2


def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give back what it was called with."""
    return args, kwargs


def nap(item: Any) -> Any:
    """Take a millisecond."""
    time.sleep(0.001)
    return item


def with_pid(item: Any) -> tuple[Any, int]:
    """Take a millisecond; give the item back with the process that had it."""
    time.sleep(0.001)
    return item, os.getpid()


def fail_on_three(item: int) -> int:
    """Give the item back, unless it is 3."""
    if item == 3:
        raise KeyError("three is not wanted")
    return item


class Hollow(Exception):
    """Is false, as a container with nothing in it."""

    def __len__(self) -> int:
        return len(self.args)


def fail_hollow(item: int) -> None:
    """Fail with an exception that is false."""
    raise Hollow


def die_on_three(item: int) -> int:
    """Give the item back, unless it is 3, which ends the process."""
    if item == 3:
        os._exit(9)
    return item


def attempt_unless_3(item: int) -> int:
    """Tell which attempt of the item this is, unless it is 3, which ends the process."""
    return zpipe.current().attempt if die_on_three(item) is not None else 0


def put_in(box: list[int]) -> list[int]:
    """Give the box back with a 1 in it."""
    box.append(1)
    return box


async def awaited_later(item: Any) -> Any:
    """Give the item back."""
    return item


def awaited(item: Any) -> Any:
    """Give back what is to be awaited, and is the item."""
    return awaited_later(item)


def late_failure() -> None:
    """Fail in a line that its traceback shows."""
    raise RuntimeError(123)  # seen in the worker's own traceback


def timed_out() -> None:
    """Raise what a timeout of the caller would."""
    raise TimeoutError("of the task itself")


def call(function: Any) -> Any:
    """Call it."""
    return function()


def leave() -> None:
    """End as scripts do."""
    raise SystemExit(4)


def note(path: str, text: Any = "") -> Any:
    """Append a line to a file in one write that nothing can tear."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)
    return text


def held(gate: str, value: Any = None) -> Any:
    """Give `value` once the file `gate` is there."""
    deadline = time.monotonic() + PATIENCE
    while not Path(gate).exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody opened {gate}")
        time.sleep(0.005)
    return value


def noted_and_held(path: str, gate: str) -> int:
    """Note this process, and give its pid once the gate is open."""
    note(path, os.getpid())
    return int(held(gate, os.getpid()))


def held_unless(gate: str, item: int) -> int:
    """Give the item back: 0 once the gate is open, any other at once."""
    return held(gate, item) if item == 0 else item


def held_and_noted_unless(gate: str, item: int) -> int:
    """As `held_unless`; and 0 notes how many items this process had done before."""
    if item == 0:
        Path(f"{gate} writing").write_text(str(state.get("done", 0)))
        Path(f"{gate} writing").rename(f"{gate} noted")
    state["done"] = state.get("done", 0) + 1
    return held_unless(gate, item)


def between(path: str, item: Any) -> Any:
    """Note that it begins, and that it ends; take a millisecond."""
    note(path, f"+{item}")
    time.sleep(0.001)
    note(path, f"-{item}")
    return item


def begun(_: Any = None) -> float:
    """Tell when it begins, by a clock that all processes share."""
    return time.monotonic()


def meet(folder: str, count: int) -> int:
    """Wait until `count` processes are in this task at once; give this one's pid."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"{os.listdir(folder)} met, not {count}")
        time.sleep(0.005)
    return os.getpid()


def remember(path: str, value: Any) -> None:
    """An initializer: note this process and keep a value for its tasks."""
    note(path, os.getpid())
    state["value"] = value


def remembered(item: Any) -> tuple[Any, Any, int]:
    """Give what the initializer kept, the item, and the process."""
    time.sleep(0.001)
    return state.get("value"), item, os.getpid()


def refuse() -> None:
    """An initializer that fails."""
    raise ValueError("no such model here")


class Cargo:
    """Something large; each process counts in `loads` how often it unpickled one."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)

    def __setstate__(self, state: dict[str, Any]) -> None:
        global loads  # noqa: PLW0603 - one count for the process
        loads += 1
        self.__dict__.update(state)


def weigh(cargo: Cargo, item: int) -> tuple[int, int, int, int]:
    """Give the item, the cargo's size, the process, and how often it has unpickled one."""
    time.sleep(0.001)
    return item, len(cargo.data), os.getpid(), loads


class Thing:
    """What can be weakly referred to."""

    def method(self) -> str:
        """Be called in a worker."""
        return "called"


def make_thing(_: Any) -> Thing:
    """Make one in the worker."""
    return Thing()


class HalfMade(Exception):
    """An exception that pickle can take apart and not put together."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_half_made() -> None:
    """Fail with it."""
    raise HalfMade("this", "that")


def _burst() -> Any:
    raise ValueError("burst when unpickled")


class Bomb:
    """Can be pickled; unpickling it fails."""

    def __reduce__(self) -> Any:
        return _burst, ()


class Deadly:
    """Can be pickled; unpickling it ends the process."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


def make_bomb() -> Bomb:
    """Return what can't be unpickled."""
    return Bomb()


def make_lock() -> Any:
    """Return what can't be pickled."""
    import threading

    return threading.Lock()


def nested(count: int) -> int:
    """Use a pipeline of its own inside a task; give the sum of `count` doubled numbers."""
    import zpipe

    with zpipe.Pipeline(workers=1) as pipe:
        return sum(pipe.map(double, range(count)))


def stuck_at_first(folder: str, item: int) -> int:
    """Give the item back; with item 5 not before there is a gate, unless it has been begun before."""
    time.sleep(0.001)
    if item == 5:
        try:
            Path(folder, "begun").mkdir()
        except FileExistsError:
            return item
        held(str(Path(folder, "gate")))
    return item


def negative(item: Any) -> Any:
    """Give an item back wrongly."""
    return item[::-1] if isinstance(item, bytes) else ~item


def late_one(item: Any) -> Any:
    """Give the items back, but after some thousand calls no longer the right ones."""
    late_one.calls = getattr(late_one, "calls", 0) + 1  # type: ignore[attr-defined]
    return item if late_one.calls < 1000 else negative(item)  # type: ignore[attr-defined]


eager: list[Any] = []
"""The pipeline that an `Eager` uses where it is unpickled."""


class Eager:
    """Submits a call as it is unpickled, where there is a pipeline to."""

    def __init__(self) -> None:
        self.call: Any = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.call = eager[0].submit(double, 5) if eager else None


def make_eager() -> Eager:
    """Return one."""
    return Eager()


def hold_on_three(item: int) -> int:
    """Give the item back, unless it is 3: then C code holds the interpreter's lock for ever."""
    return item if item != 3 else sum(range(10**15))


def hoard_on_three(item: int) -> int:
    """Give the item back, unless it is 3: then hold more and more memory, without end."""
    hoard = []
    while item == 3:
        if len(hoard) < 100:  # it may be some time until somebody looks
            hoard.append(b"x" * 4_000_000)
        time.sleep(0.001)
    return item


def fails_until(item: tuple[str, int]) -> int:
    """Give back how often this was called for the item, once that is so often."""
    path, often = item
    with Path(path).open("a") as file:
        file.write("x")
    times = Path(path).stat().st_size
    if times < often:
        raise KeyError(times)
    return times


class Unlucky(Exception):
    """An exception of the script's own."""


def unlucky_until(item: tuple[str, int]) -> int:
    """As `fails_until`, with another exception."""
    try:
        return fails_until(item)
    except KeyError as error:
        raise Unlucky(*error.args) from None
