"""Tasks of whole numbers for jobs of many options; each notes in the file that MIXED names what it was run for."""

import asyncio
import os

import zpipe

SOURCE = [n * n % 17 for n in range(60)]


def note(name, item):
    """Note a run, in one write that nothing can tear, at the first attempt."""
    path = os.environ.get("MIXED")
    if path and zpipe.current().attempt == 1:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, f"{name} {item}\n".encode())
        os.close(fd)


def numbers():
    """The items: many of them more than once."""
    yield from SOURCE


def less(item):
    """One less; none for 5."""
    note("less", item)
    if item == 5:
        raise ValueError("no five")
    return item - 1


def both(item):
    """Two for most, none for some."""
    note("both", item)
    if item % 3:
        yield item // 2
        yield item % 4


def shy(item):
    """The same, for some at the second attempt."""
    note("shy", item)
    if item % 4 == 1 and zpipe.current().attempt == 1:
        raise OSError("not yet")
    return item


async def wait(item):
    """Twice that, later."""
    note("wait", item)
    await asyncio.sleep(0.001 * (item % 3))
    return item * 2


def urgency(item):
    """A priority."""
    return item % 5


def third(item):
    """A key."""
    return item % 3


PLAIN = {
    "less": lambda item: [] if item == 5 else [item - 1],
    "both": lambda item: [item // 2, item % 4] if item % 3 else [],
    "shy": lambda item: [item],
    "wait": lambda item: [item * 2],
}


def twin(stages):
    """What comes out of the last stage, in order, and for each stage what goes in."""
    items, fed = SOURCE, []
    for name in stages:
        fed.append(items)
        items = [output for item in items for output in PLAIN[name](item)]
    return items, fed
