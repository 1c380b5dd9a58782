"""The tasks, sources, predicates and reducers that the tests' jobs are made of."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def same(item: Any) -> Any:
    """Give the item back."""
    return item


def double(item: Any) -> Any:
    """Twice the item: for text, the text twice."""
    return item * 2


def fail_on_seven(item: int) -> int:
    """Give the item back, unless it is 7."""
    if item == 7:
        raise ValueError("seven is not wanted")
    return item


def nap(item: Any) -> Any:
    """Take 5 ms."""
    time.sleep(0.005)
    return item


def slow(item: Any) -> Any:
    """Take 0.2 s."""
    time.sleep(0.2)
    return item


def noted(item: Any) -> Any:
    """Note in the file `noted` that the item was run, in one write that nothing can tear."""
    note("noted", item)
    return item


def noted_slow(item: Any) -> Any:
    """Note that the item was begun, and take 0.3 s, if there is no file `hurry`, or until it is allowed."""
    note("noted", item)
    if not Path("hurry").exists():
        time.sleep(0.3)
    return allowed(item)


def allowed(item: Any) -> Any:
    """Wait while the number in the file `most`, if there is one, is not above the item."""
    while Path("most").exists() and int(item) >= int(Path("most").read_text()):
        time.sleep(0.01)
    return item


def met(item: Any) -> int:
    """Wait until as many processes as the file `parties` says have been here; tell which one this is."""
    note("met", os.getpid())
    while len(set(Path("met").read_text().split())) < int(Path("parties").read_text()):
        time.sleep(0.01)
    return os.getpid()


def note(name: str, text: Any) -> None:
    """Append a line to a file."""
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def size(path: str) -> int:
    """The size of a file."""
    return Path(path).stat().st_size


WORDS = ["one", "two", "three"]


def three_words() -> Iterator[str]:
    """Three items."""
    yield from WORDS


def noted_count() -> Iterator[int]:
    """Count for ever, and note each number."""
    number = 0
    while True:
        note("noted", number)
        yield number
        number += 1


def chatty(item: Any) -> str:
    """Print something, and give back what stdin has."""
    print("printed by a task", flush=True)
    os.write(1, b"and past Python's own stdout\n")
    return sys.stdin.read()


def context(item: Any) -> tuple[int, int, str]:
    """What zpipe says of the item."""
    import zpipe

    now = zpipe.current()
    return now.index, now.attempt, now.worker


def fail(item: Any) -> None:
    """Fail, whatever the item is."""
    raise RuntimeError(f"no {item}")


def raise_something(item: int) -> int:
    """Raise for 1 to 4 what a task seldom raises."""
    if item == 1:
        sys.exit("a task calls sys.exit")
    if item == 2:
        return raise_something(item)
    if item == 3:
        return len(b"x" * 2**62)
    if item == 4:
        return next(iter([]))
    return item


def odd_value(item: int) -> Any:
    """Values of which some are none of JSON's own."""
    return [{"nan": float("nan"), "bytes": b"\0\xff"}, "line\none", (dt.date(2024, 1, 31), (1, 2)), None][item]


def text_of(item: int) -> Any:
    """Values as text; 4 fails."""
    if item == 4:
        raise ValueError("four")
    return ["zero", 1.5, "two\n", b"\xff\xfe"][item]


def pickled_value(item: int) -> Any:
    """Values that JSON can't carry; 3 gives one that nothing can."""
    return [{1, 2}, 1 + 2j, b"\0" * 300_000, (n for n in ())][item]


def first_is_slow(item: int) -> int:
    """0 ends once there is a file `go`."""
    if item == 0:
        wait_for("go")
    return item


def gather(so_far: list[Any], value: Any) -> list[Any]:
    """The values in a list."""
    return [*so_far, value]


def complex_sum(so_far: complex, value: int) -> complex:
    """The sum, and in its imaginary part how often it was called."""
    return so_far + value + 1j


def square_if_found(item: int) -> int | None:
    """The square of 20,000, and nothing of any other."""
    return item * item if item == 20_000 else None


def is_1(value: int) -> bool:
    """True of 1."""
    return value == 1


def is_5000(value: int) -> bool:
    """True of 5,000."""
    return value == 5000


def late_hit(item: int) -> str:
    """0 and 3 are hits; 0 waits until `go` is there."""
    note("noted", item)
    if item == 0:
        wait_for("go")
    return f"hit {item}" if item in (0, 3) else ""


def no_predicate(value: Any) -> bool:
    """Fail."""
    raise RuntimeError("a predicate that raises")


def fail_unless_mended(item: int) -> int:
    """Note the item, and fail for 0, 5, 10 and so on, unless there is a file `mended`."""
    note("noted", item)
    if item % 5 == 0 and not Path("mended").exists():
        raise ValueError("not mended")
    return item


def fail_on_seven_slowly(item: int) -> int:
    """Take 50 ms, and fail for 7."""
    time.sleep(0.05)
    return fail_on_seven(item)


def broken_source() -> Iterator[int]:
    """Three items and an exception."""
    yield from range(3)
    raise OSError("the source broke")


def noted_nap(item: Any) -> Any:
    """Note the item in `noted` and the process in `pids`, and take 5 ms, or until it is allowed."""
    note("noted", item)
    note("pids", os.getpid())
    return nap(allowed(item))


def pid(item: Any) -> int:
    """The process it runs in."""
    time.sleep(0.05)
    return os.getpid()


def pid_noted_nap(item: Any) -> Any:
    """Note the process in `pids` when it is new, and take 5 ms, or until it is allowed."""
    if os.getpid() not in _known:
        _known.add(os.getpid())
        note("pids", os.getpid())
    return nap(allowed(item))


_known: set[int] = set()


def die_once(item: int) -> tuple[int, int]:
    """Take 20 ms, kill the worker when 7 comes for the first time, and give back the item and its attempt.

    It does so once the results of the items that the worker had before are in the output.
    """
    note("noted", item)
    time.sleep(0.02)
    if item == 7 and not Path("victim").exists():
        while not _mine <= {json.loads(line)["index"] for line in whole_lines("out.partial")}:
            time.sleep(0.01)
        note("victim", os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
    _mine.add(item)
    return item, context(item)[1]


_mine: set[int] = set()


def whole_lines(name: str) -> list[str]:
    """The lines of a file so far, but for one that is being written."""
    return Path(name).read_text().rpartition("\n")[0].splitlines()


def die_at_three(item: int) -> tuple[int, int]:
    """Kill the worker whenever 3 comes, in the way of somebody else; give back the item and its attempt."""
    if item == 3:
        note("pids", os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
    return item, context(item)[1]


def wait_at_first(item: int) -> int:
    """Note the process in `pids`; item 0 waits at its first attempt until there is no file `stop`."""
    note("pids", os.getpid())
    attempt = context(item)[1]
    if item == 0 and attempt > 1:
        note("again", os.getpid())
    elif item == 0:
        note("waits", os.getpid())
        while Path("stop").exists():
            time.sleep(0.01)
    if Path("go slow").exists():
        time.sleep(0.05)
    return item


def noted_with_one_held(item: int) -> int:
    """Note the item; 1,000 waits until `go` is there."""
    note("noted", item)
    if item == 1000:
        wait_for("go")
    return item


def crash_once(item: int) -> int:
    """Take the worker down at 7, once, in the way that the file `how` says."""
    if item == 7 and not Path("crashed").exists():
        note("crashed", os.getpid())
        how = Path("how").read_text()
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGSEGV if how == "segfault" else signal.SIGKILL)
    return item


def object_at_2(item: int) -> Any:
    """Give the item back; for 2 what JSON can't hold."""
    return object() if item == 2 else item


def lock_at_2(item: int) -> Any:
    """Give the item back, but for 2 what no pickle can hold."""
    return threading.Lock() if item == 2 else item


def large_at_2(item: int) -> str:
    """A few letters; for 2 some thousand."""
    return "x" * (5000 if item == 2 else 5)


def longer_text(so_far: str, value: str) -> str:
    """The longer one."""
    return max(so_far, value, key=len)


def bad_reducer(so_far: int, value: int) -> int:
    """Fail at 100."""
    if value == 100:
        raise ValueError("no more")
    return so_far + value


def odd_source() -> Iterator[Any]:
    """Two items and one that can't be pickled."""
    yield from (0, 1)
    yield (n for n in ())


def raising_source() -> Iterator[Any]:
    """Fail before there is a first item."""
    raise RuntimeError("no items today")


def number_source() -> int:
    """No items, but a number."""
    return 3


def parent_and_pid(item: Any) -> tuple[int, int]:
    """The process it runs in, behind that one's parent; all that there are to be have one."""
    return os.getppid(), met(item)


def blocked_at_30(item: int) -> tuple[int, int]:
    """Take 2 ms; at 30, wait until there is a file `go`."""
    if item == 30:
        Path("blocked").touch()
        while not Path("go").exists():
            time.sleep(0.005)
    time.sleep(0.002)
    return item, os.getpid()


def quick_but_30(item: int) -> int:
    """Give the item back at once, but for 30: wait until there is a file `go`."""
    if item == 30:
        while not Path("go").exists():
            time.sleep(0.005)
    return item


def deadly(item: int) -> int:
    """End the worker at 5 and at 41."""
    if item in (5, 41):
        os._exit(3)
    return item


def noted_met(item: int) -> int:
    """The same as `met`, and note the item."""
    note("noted", item)
    return met(item)


def flaky(item: Any) -> int:
    """Fail at 3 and 13 on the first two attempts, at 7 always, and reject 8; ask at 9 for a second."""
    import zpipe

    index, attempt, _ = context(item)
    if index in (3, 13) and attempt < 3:
        raise ValueError("not yet")
    if index == 7:
        raise KeyError("never")
    if index == 8:
        raise zpipe.Reject("not this one")
    if index == 9 and attempt < 2:
        raise zpipe.Retry(0.05)
    return int(item)


def stuck_at_first(item: int) -> int:
    """Give the item back; with item 5 not before `go` is there, unless it has been begun before."""
    if item == 5 and first_time("begun"):
        wait_for("go")
    time.sleep(0.001)
    return item


def copy_fails(item: int) -> int:
    """Give the item back; with item 5 only once it has been begun again, which fails."""
    if item == 5:
        if not first_time("begun"):
            Path("go").touch()
            raise ValueError("the copy fails")
        wait_for("go")
        time.sleep(0.5)  # so that the failure is there first
    return item


def first_time(name: str) -> bool:
    """Whether nobody has asked this before."""
    try:
        Path(name).mkdir()
    except FileExistsError:
        return False
    return True


def wait_for(name: str) -> None:
    """Wait until there is a file."""
    while not Path(name).exists():
        time.sleep(0.01)


def noted_gate(item: int) -> int:
    """Note the item, and the process if it is the first to have one, which waits until `go` is there."""
    note("noted", item)
    if first_time("begun"):
        note("pids", os.getpid())
        wait_for("go")
    return item


def spin_on_seven(item: int) -> int:
    """Give the item back, unless it is 7, which never ends in Python code."""
    while item == 7:
        pass
    return item


def hold_on_seven(item: int) -> int:
    """Give the item back, unless it is 7: then C code holds the interpreter's lock for ever."""
    return item if item != 7 else sum(range(10**15))


def hold_once_on_seven(item: int) -> int:
    """As `hold_on_seven`, but for the first time only."""
    if item == 7 and not os.path.exists("held"):
        note("held", item)
        return hold_on_seven(item)
    return item


def hoard_on_seven(item: int) -> int:
    """Give the item back, unless it is 7: then hold more and more memory, without end."""
    hoard = []
    while item == 7:
        if len(hoard) < 100:  # it may be some time until somebody looks
            hoard.append(b"x" * 4_000_000)
        time.sleep(0.001)
    return item


def spin(item: int) -> int:
    """Never end."""
    return spin_on_seven(7)


def crash_on_seven(item: int) -> int:
    """Give the item back, unless it is 7, over which the process crashes."""
    if item == 7:
        note("crashes", item)
        os.abort()
    return item


def with_pid(item: int) -> tuple[int, int]:
    """Give the item back with the process that had it."""
    return item, os.getpid()


def noted_prio(item: dict[str, Any]) -> dict[str, Any]:
    """Note the item's priority, and when it is run if it has a delay."""
    note("noted", item["prio"])
    if item.get("wait"):
        note("delayed", time.time())
    return item


def urgency(item: str) -> float:
    """Of a number that is text, the number, if it is large."""
    return float(item) if float(item) >= 100 else 0.0


def nobody(item: Any) -> str | None:
    """Nobody has what an item with a `ttl` of next to nothing requires."""
    return "moon" if item.get("ttl") == 0.01 else None


def started_at(item: Any) -> float:
    """When it was run."""
    return time.time()


def keyed(item: dict[str, Any]) -> None:
    """Note the beginning and the end in a file of the item's own key."""
    note(f"key-{item['who']}", f"+{item['n']}")
    time.sleep(0.005)
    note(f"key-{item['who']}", f"-{item['n']}")


def keyed_all(item: int) -> None:
    """The same, of one key for all."""
    keyed({"who": "all", "n": item})


def who(item: Any) -> int:
    """Which process it was run by."""
    return os.getpid()
