"""Stages of the tests' jobs: copied into the folder of each test."""

import os
import signal
import time

import zpipe


def parse(line):
    """None to three numbers for a line; no line that 50 divides is one."""
    number = int(line)
    if number % 50 == 0:
        raise ValueError(f"no {number}")
    for k in range(number % 4):
        yield number * 10 + k


def enrich(number):
    """The number with its remainder by 7; none that 13 divides has one."""
    if number % 13 == 0:
        raise KeyError(number)
    return {"number": number, "rest": number % 7}


def store(row):
    """One text for a row."""
    return f"{row['rest']}:{row['number']}"


def rest(row):
    """What a row is grouped by."""
    return row["rest"]


def number(row):
    """What is added up of a row."""
    return row["number"]


def add(so_far, row):
    """Add a row up."""
    return so_far + row["number"]


def twin(count):
    """What all stages make of the lines 0 to `count`, in order."""
    texts = []
    for line in range(count):
        if line % 50:
            numbers = [line * 10 + k for k in range(line % 4)]
            texts += [store(enrich(one)) for one in numbers if one % 13]
    return texts


def dies(key):
    """End this process the first time that there is this key."""
    try:
        os.close(os.open(f"died-{key}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_parse(line):
    """The same, over killed workers."""
    if int(line) == 20:
        dies("parse")
    yield from parse(line)


def deadly_enrich(number):
    """The same, over killed workers."""
    if number == 701:
        dies("enrich")
    return enrich(number)


def deadly_store(row):
    """The same, over killed workers."""
    if row["number"] == 1101:
        dies("store")
    return store(row)


def _most():
    with open("most") as file:
        return int(file.read() or 0)


def _stored():
    return os.path.getsize("stored") if os.path.exists("stored") else 0


def noted(row):
    """Note that the row was stored, once the notes are fewer bytes than the file `most` says."""
    until = time.monotonic() + 60.0
    while _stored() >= _most() and time.monotonic() < until:
        time.sleep(0.01)
    with open("stored", "a") as file:
        file.write(f"{row['number']}\n")
    return store(row)


def fails_once(number):
    """Fail at the first try."""
    if zpipe.current().attempt == 1:
        raise OSError("not yet")
    return number


def endless():
    """Numbers without an end; notes how many were asked for."""
    n = 0
    while True:
        n += 1
        if n % 1000 == 1:
            with open("asked.new", "w") as file:
                file.write(str(n))
            os.replace("asked.new", "asked")
        yield n


def slow(number):
    """Take long."""
    time.sleep(0.005)
    return number


def stuck(number):
    """Take a minute over 5."""
    if number == 5:
        time.sleep(60)
    return number


def where(number):
    """Tell the item's place in its stage, and wait until there is a file, if there is to be one."""
    return [zpipe.current().index, number]
