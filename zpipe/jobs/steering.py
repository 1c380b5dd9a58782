"""What a person asks of a job that runs in another process: its state, a pause, its end. Knows no decision of it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from zpipe.core import wire
from zpipe.core.member import DENIALS
from zpipe.errors import UsageError, ZpipeError
from zpipe.net import link
from zpipe.net.endpoints import connectable
from zpipe.net.keys import Keys
from zpipe.net.loop import Loop
from zpipe.nodes.dialog import Dialog
from zpipe.nodes.local import jobs_here

__all__ = ["PATIENCE", "ask", "find"]

PATIENCE = 5.0
"""Seconds in which a job must answer."""


def find(job: str | None) -> dict[str, str]:
    """Return the control addresses of the jobs that are meant, by what to call each.

    `job` is an address or the pid of a job of this user on this machine; None means all of those. Raises UsageError
    if there is none.
    """
    if job is not None and not job.isdecimal():
        url = connectable(job)
        return {url: url}
    here = jobs_here()
    if job is None and here:
        return {_name(pid): url for pid, url in here.items()}
    if job is None:
        raise UsageError(
            "no job of yours runs on this machine; give the address of one elsewhere, such as tcp://head:5557"
        )
    if int(job) not in here:
        known = f"there are {', '.join(map(_name, here))}" if here else "there is none at all"
        raise UsageError(f"no job of yours runs in process {job} of this machine; {known}")
    return {_name(int(job)): here[int(job)]}


def _name(pid: int) -> str:
    """Return a process's number and what of its command line fits a line."""
    line = b""
    with contextlib.suppress(OSError):  # other systems than Linux have no such file
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    words = line.decode(errors="replace").split("\0")[1:]
    text = " ".join(words).strip().removeprefix("-m ")
    return f"{pid} ({text[:60]}{'…' if len(text) > 60 else ''})" if text else str(pid)


def ask(url: str, wish: str, patience: float = PATIENCE, *, keys: Keys | None = None) -> wire.State:
    """Ask the job at `url` for something (see `wire.Ask`); return the state that comes of it.

    Raises ZpipeError if there is no answer in `patience` seconds, or another one, or if its keys are others.
    """
    heard: list[Any] = []
    said: list[str] = []
    denied: list[str] = []
    loop, context = Loop(), link.make_context()
    dialog = Dialog(
        loop,
        context,
        url,
        heartbeat=patience,
        up=lambda: dialog.send(wire.Ask(wish)),  # type: ignore[arg-type]
        down=lambda: None,
        heard=heard.append,
        say=said.append,
        denied=denied.append,
        keys=keys,
    )
    try:
        dialog.connect()
        until = time.monotonic() + patience
        while not heard and len(denied) < DENIALS and (left := until - time.monotonic()) > 0:
            loop.turn(left)
    finally:
        dialog.close()
        context.term()
        loop.close()
    if heard and isinstance(heard[0], wire.State):
        return heard[0]
    if heard and isinstance(heard[0], wire.Refuse):
        raise ZpipeError(f"the job at {url} refused: {heard[0].reason}")
    if heard:
        raise ZpipeError(f"the job at {url} is over")
    if denied:
        raise ZpipeError(f"no answer from a job at {url}: {denied[-1]}")
    why = "; ".join(said) or "is it running there, is the port open?"
    raise ZpipeError(f"no answer from a job at {url} within {patience:g} s: {why}")
