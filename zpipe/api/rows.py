"""A map's next items as a row: a chunk's worth of them after the other, each pickled by itself."""

from __future__ import annotations

from zpipe import serialize
from zpipe.api.handover import Receiver
from zpipe.api.maps import MapCall, Part
from zpipe.core.coding import INLINE_BYTES
from zpipe.core.grains import ROW_BYTES, Grains

__all__ = ["take_row"]


def take_row(call: MapCall, size: int, most: int) -> tuple[int, Grains, Receiver] | None:
    """Return how many items there are of the next chunks, `most` of `size` items; the chunks; and who gets outcomes.

    Up to the first that is large, or can't be pickled: None if that is the next one, which `MapCall.take` is for.
    """
    start, items = call.draw(size * most)
    bodies, room = Grains(), ROW_BYTES
    for at in range(0, len(items), size):
        part = [items[at]] if size == 1 else list(items[at : at + size])
        try:
            frames = serialize.dumps(part, owned=True)
        except BaseException:  # noqa: BLE001 - pickling runs the items' own code; in its turn it will be told
            break
        if len(frames) > 1 or len(frames[0]) > INLINE_BYTES:
            break
        bodies.append(frames[0])
        room -= len(frames[0])
        if room <= 0:
            break
    count = min(len(bodies) * size, len(items))
    if count < len(items):
        call.put_back(start + count, items[count:])
    return (count, bodies, Part(call, start)) if count else None
