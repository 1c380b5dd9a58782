"""What goes through the door to pickle: the frames there are, what comes out, what is never sent as it is."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import zmq

from zpipe import serialize
from zpipe.core.wire import Buffer

SOME = serialize.OUT_OF_BAND
MUCH = max(serialize.LARGE, serialize.WORTH_A_LOOK)

SCRIPT = """
import enum, pickle, subprocess, sys
from dataclasses import dataclass
from zpipe import serialize

hits = 0

@dataclass(frozen=True)
class Point:
    x: int
    def hit(self):
        global hits
        hits += 1
        return self.x

class Color(enum.Enum):
    RED = 1

class Odd(Exception):
    pass

def double(x):
    return 2 * x

WORKER = '''
import pickle, sys
from zpipe import serialize
items = serialize.loads(pickle.load(sys.stdin.buffer))
point, color, odd, double = items
assert type(point).__module__ == "__main__" and point.hit() == 7
made = [point, type(point)(double(4)), color, odd]
pickle.dump([bytes(frame) for frame in serialize.dumps(made)], sys.stdout.buffer)
'''

frames = serialize.dumps([Point(7), Color.RED, Odd("no"), double])
done = subprocess.run([sys.executable, "-c", WORKER], input=pickle.dumps([bytes(f) for f in frames]),
                      stdout=subprocess.PIPE, check=True)
method = Point.hit
back, made, color, odd = serialize.loads(pickle.loads(done.stdout))
assert type(back) is type(made) is Point and (back, made) == (Point(7), Point(8))
assert color is Color.RED and type(odd) is Odd
assert Point.hit is method and back.hit() == 7 and hits == 1
"""


class Slotted:
    """A value that plain pickle carries, in a module that can be imported."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock


def carried(value: Any, owned: bool = False) -> Any:
    """What `value` is on the other side, where frames are writable memory of their own."""
    return serialize.loads(arrived(serialize.dumps(value, owned=owned)))


def arrived(frames: Sequence[Buffer]) -> list[Buffer]:
    """The frames as they are received."""
    return [bytes(frames[0]), *(memoryview(bytearray(frame)) for frame in frames[1:])]


@pytest.mark.parametrize("value", [None, 7, "text", [1, 2.5, "x"], {"a": (b"", bytearray(b"x"))}, list(range(1000))])
def test_plain_data_is_one_plain_pickle(value: Any) -> None:
    """Nothing is added to what pickle makes of plain data."""
    assert serialize.dumps(value) == [pickle.dumps(value, protocol=5)]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_frames_of_their_own(kind: type) -> None:
    """As the value, as an item, in an item's tuple, in a task's arguments, and each comes out as its own type."""
    large, small = kind(b"x" * serialize.LARGE), kind(b"y")
    for value in (
        large,
        [small, large],
        (large, 1),
        [("name", large)],
        [((large, small), {"k": 1})],
        [[], small, large],
    ):
        frames = serialize.dumps(value)
        assert len(frames) == 2
        assert len(frames[0]) < 1000
        assert carried(value) == value
    assert type(carried(large)) is kind
    assert type(carried([((large,), {})])[0][0][0]) is kind


def test_the_memory_of_large_bytes_is_not_copied() -> None:
    """The frame is a view of the very object."""
    large = bytearray(MUCH)
    frame = serialize.dumps([large])[1]
    large[0] = 7
    assert frame[0] == 7


def test_bytes_behind_many_small_items_are_found() -> None:
    """The first item being small does not hide a large one."""
    frames = serialize.dumps([*range(100), b"x" * 10 * MUCH])
    assert len(frames) == 2


def test_one_object_in_many_places_travels_once() -> None:
    """Large bytes that occur ten times are one frame, and one object again."""
    large = b"x" * MUCH
    assert len(serialize.dumps([large] * 10)) == 2
    assert len(set(map(id, carried([large] * 10)))) == 1


def test_what_is_sent_is_not_changed() -> None:
    """The caller's list still holds its own bytes."""
    items = [(b"x" * MUCH, 1)]
    before = items[0]
    serialize.dumps(items)
    assert items[0] is before


def test_memoryviews_travel() -> None:
    """Contiguous bytes come as a memoryview, out of band; anything else as bytes."""
    view = memoryview(bytearray(b"ab" * SOME))
    frames = serialize.dumps([view])
    assert len(frames) == 2
    assert carried([view]) == [view]
    assert type(carried([view])[0]) is memoryview
    assert carried([view[::2], view.cast("H")]) == [b"a" * SOME, bytes(view)]


def test_what_main_defines_goes_and_comes_home() -> None:
    """Classes, enums, exceptions and functions of a script: there by value, back as the script's own.

    A class that comes home keeps its own methods, with the script's own globals.
    """
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=300)


def test_what_plain_pickle_refuses_goes_by_value() -> None:
    """A lambda, and an instance of a local class."""

    class Local:
        x = 3

    made, function = carried([Local(), lambda: 4])
    assert (made.x, function()) == (3, 4)


def test_what_nothing_can_pickle_raises() -> None:
    """The error is pickle's own."""
    with pytest.raises(TypeError, match="cannot pickle"):
        serialize.dumps([Slotted(threading.Lock())])


def test_a_text_that_says_main_is_plain_data() -> None:
    """The name alone sends nothing through cloudpickle."""
    source = 'if __name__ == "__main__": ...'
    assert serialize.dumps([source]) == [pickle.dumps([source], protocol=5)]


def test_a_function_is_one_bytes_object() -> None:
    """dump_function and load_function carry closures with what they hold."""
    held = bytearray(b"x" * MUCH)
    data = serialize.dump_function(lambda: len(held))
    assert type(data) is bytes
    assert serialize.load_function(memoryview(data))() == MUCH


def test_owned_memory_may_be_sent_as_it_is() -> None:
    """`owned` marks every buffer read-only, and it comes out writable all the same."""
    large = bytearray(MUCH)
    frame = serialize.dumps([large], owned=True)[1]
    assert isinstance(frame, memoryview)
    assert frame.readonly
    assert not serialize.dumps([large])[1].readonly  # type: ignore[union-attr]
    assert type(carried([large], owned=True)[0]) is bytearray


def test_memory_nobody_else_holds_is_released() -> None:
    """A bytearray that only the frame holds may be sent as it is; one that is held, however, must be copied."""
    values = [bytearray(MUCH), bytearray(MUCH)]
    held = values[1]
    frames = serialize.dumps(values)
    serialize.release(frames)
    assert [frame.readonly for frame in frames[1:]] == [False, False]  # type: ignore[union-attr]
    values.clear()
    serialize.release(frames)
    assert [frame.readonly for frame in frames[1:]] == [True, False]  # type: ignore[union-attr]
    del held


class TestArrays:
    """NumPy's arrays."""

    @pytest.fixture
    def np(self) -> Any:
        """NumPy, if this Python has it."""
        return pytest.importorskip("numpy", reason="tells how NumPy's arrays travel")

    def shapes(self, np: Any) -> dict[str, Any]:
        """An array of each layout, each of 8 × SOME bytes."""
        flat = np.arange(SOME, dtype=float)
        return {
            "flat": flat,
            "Fortran": np.asfortranarray(flat.reshape(64, -1)),
            "transposed": flat.reshape(8, 8, -1).T,
            "contiguous view": np.arange(2 * SOME, dtype=float)[SOME:],
            "structured": np.zeros(SOME, dtype=[("a", "i4"), ("b", "f4")]),
            "strided": np.arange(2 * SOME, dtype=float)[::2],
            "0-d": np.array(3.5),
            "empty": np.zeros((0, 3)),
            "objects": np.array([1, "x", None], dtype=object),
            "masked": np.ma.masked_array(flat, mask=flat > 5),
        }

    def test_every_layout_comes_out_equal_and_writable(self, np: Any) -> None:
        """With dtype, shape and class; contiguous ones out of band."""
        for name, array in self.shapes(np).items():
            frames = serialize.dumps([array, 1])
            there, _ = serialize.loads(arrived(frames))
            assert (type(there), there.dtype, there.shape) == (type(array), array.dtype, array.shape), name
            assert (there == array).all(), name
            assert there.flags.writeable, name
            if name not in {"strided", "0-d", "empty", "objects", "masked"}:
                assert len(frames) == 2, name

    def test_read_only_comes_out_read_only(self, np: Any) -> None:
        """The pickle tells, whatever the received memory allows."""
        array = np.arange(SOME)
        array.setflags(write=False)
        assert not carried([array])[0].flags.writeable

    def test_small_arrays_stay_inside(self, np: Any) -> None:
        """A frame of its own would cost more than the copy."""
        assert len(serialize.dumps([np.zeros(4), np.zeros(9)])) == 1

    def test_many_small_ones_share_a_frame(self, np: Any) -> None:
        """And each that comes out is writable, and has memory of its own."""
        arrays = [np.full(SOME, n, dtype=np.int32) for n in range(20)]
        frames = serialize.dumps(arrays)
        assert len(frames) == 2
        for n, array in enumerate(serialize.loads(arrived(frames))):
            assert (array == n).all()
            assert array.flags.writeable
            assert memoryview(array.base).nbytes == array.nbytes

    def test_plain_ones_are_pickled_in_fewer_steps(self, np: Any) -> None:
        """Once one was seen; and what comes out is what NumPy's own pickle gives."""
        serialize.dumps([np.zeros(SOME)])
        for kind in ("?", "i2", ">i4", "u8", "f4", "c16", "M8[s]", "S8", "U3", [("a", "i4"), ("b", "O")]):
            for shape in ((SOME,), (2, SOME), (2, 3, SOME), (SOME, 0)):
                array = np.zeros(shape, dtype=kind)
                for one in (array, array.T, array[1:], array.view(np.recarray)):
                    there, own = carried([one])[0], pickle.loads(pickle.dumps(one, protocol=5))
                    assert (type(there), there.dtype, there.shape) == (type(own), own.dtype, own.shape)
                    assert there.flags.writeable
                    assert there.tobytes() == own.tobytes() or kind[1:] == [("b", "O")]

    def test_a_read_only_view_of_changing_memory_is_copied(self, np: Any) -> None:
        """Read-only for the viewer does not mean that nobody changes it."""
        array = np.zeros(MUCH, dtype=np.uint8)
        view = array[:]
        view.setflags(write=False)
        frame = serialize.dumps([view])[1]
        array[0] = 1
        assert frame[0] == 0

    def test_a_result_nobody_holds_is_released(self, np: Any) -> None:
        """Fresh arrays, Fortran ones, and views of what is gone, may be sent as they are."""
        make = {
            "fresh": lambda: np.zeros(MUCH, dtype=np.uint8),
            "Fortran": lambda: np.asfortranarray(np.zeros((64, MUCH // 64))),
            "view": lambda: np.zeros(2 * MUCH, dtype=np.uint8)[MUCH:],
            "reshaped": lambda: np.arange(MUCH).reshape(64, -1),
        }
        for name, call in make.items():
            values = [call()]
            frames = serialize.dumps(values)
            values.clear()
            serialize.release(frames)
            assert frames[1].readonly, name  # type: ignore[union-attr]

    def test_an_item_handed_back_is_released_too(self, np: Any) -> None:
        """It lies in the message it came in, which the worker's own list of frames does not change."""
        context: Any = zmq.Context()
        one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        try:
            one.bind("inproc://items")
            other.connect("inproc://items")
            one.send_multipart(serialize.dumps([np.zeros(MUCH), np.ones(MUCH)]))
            received = [frame.buffer for frame in other.recv_multipart(copy=False)]
            items = serialize.loads(received)
            kept = items[1]
            frames = serialize.dumps(items)
            items.clear()
            serialize.release(frames)
            assert [frame.readonly for frame in frames[1:]] == [True, False]  # type: ignore[union-attr]
            assert kept.flags.writeable
        finally:
            context.destroy(linger=0)

    def test_a_result_somebody_holds_is_not(self, np: Any) -> None:
        """Neither by itself, nor by a view of it, its base, a memoryview, a weak reference, or foreign memory."""
        kept: list[Any] = []
        memory = bytearray(MUCH)

        def keep(what: Any, value: Any) -> Any:
            kept.append(what)
            return value

        def fresh() -> Any:
            return np.zeros(MUCH, dtype=np.uint8)

        values = {
            "itself": keep(a := fresh(), a),
            "a view of it": keep((a := fresh())[5:], a),
            "its base": keep(a := fresh(), a[:]),
            "its base, Fortran": keep(a := np.zeros((64, MUCH // 64), order="F"), a.T),
            "a memoryview": keep(memoryview(a := fresh()), a),
            "a weak reference": keep(weakref.ref(a := fresh()), a),
            "foreign memory": np.frombuffer(memory, dtype=np.uint8),
        }
        del a
        for name in list(values):
            chunk = [values.pop(name)]
            frames = serialize.dumps(chunk)
            chunk.clear()
            serialize.release(frames)
            assert not frames[1].readonly, name  # type: ignore[union-attr]
        assert len(kept) == 6


def test_arrow_travels() -> None:
    """Arrays, tables and buffers, large ones out of band."""
    pa = pytest.importorskip("pyarrow", reason="tells how Arrow's buffers travel")
    array = pa.array(range(SOME))
    table = pa.table({"n": array, "s": [str(n) for n in range(SOME)]})
    for value in (array, table, pa.py_buffer(b"x" * SOME), array[5:]):
        assert len(serialize.dumps([value])) > 1
        assert carried([value]) == [value]
