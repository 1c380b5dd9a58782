"""Hosts to run on: this one, or network namespaces with a cable each to the head's, which can be pulled.

    head 10.199.0.1 ── 10.199.N.1 ═══ cable N ═══ 10.199.N.2  host N

Every host reaches the head at 10.199.0.1. A cable has a delay and a loss where the kernel can do that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid

__all__ = ["HEAD", "Cables", "Host", "why_not"]

HEAD = "10.199.0.1"


class Host:
    """Where a process runs: `before` goes ahead of its command; `head` is how it reaches the head."""

    before: tuple[str, ...] = ()
    head = "127.0.0.1"

    def pull(self) -> None:
        """Cut it off."""

    def plug(self) -> None:
        """Connect it again."""


class _Wired(Host):
    head = HEAD

    def __init__(self, namespace: str, cable: str) -> None:
        self.before = ("ip", "netns", "exec", namespace)
        self._cable = cable

    def pull(self) -> None:
        _run(*self._set("down"))

    def plug(self) -> None:
        _run(*self._set("up"))

    def _set(self, state: str) -> tuple[str, ...]:
        return ("ip", "-n", self._cable.rpartition("-")[0] + "-head", "link", "set", self._cable, state)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def why_not() -> str:
    """Return why there can be no hosts but this one here; empty if there can."""
    if os.geteuid():
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip"
    name = f"zp{uuid.uuid4().hex[:6]}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "del", name)
    except OSError as error:
        return f"network namespaces are not to be had here: {error}"
    return ""


class Cables:
    """Namespaces for the head and `count` hosts. `unfit` says why cables have no delay and no loss, if so."""

    def __init__(self, count: int, *, delay: float = 0.0, loss: float = 0.0) -> None:
        self._name = f"zp{uuid.uuid4().hex[:6]}"
        self._made: list[str] = []
        self.unfit = ""
        try:
            self.head = self._add(f"{self._name}-head")
            _run("ip", "-n", f"{self._name}-head", "addr", "add", f"{HEAD}/32", "dev", "lo")
            self.hosts = [self._wire(n, delay, loss) for n in range(1, count + 1)]
        except OSError:
            self.close()
            raise

    def _add(self, name: str) -> _Wired:
        _run("ip", "netns", "add", name)
        self._made.append(name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
        return _Wired(name, "")

    def _wire(self, n: int, delay: float, loss: float) -> Host:
        head, there, cable = f"{self._name}-head", f"{self._name}-{n}", f"{self._name}-{n}c"
        self._add(there)
        ends = ("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", there)
        _run("ip", "-n", head, *ends)
        for where, end, last in ((head, cable, 1), (there, "eth0", 2)):
            _run("ip", "-n", where, "addr", "add", f"10.199.{n}.{last}/30", "dev", end)
            _run("ip", "-n", where, "link", "set", end, "up")
            self._worsen(where, end, delay, loss)
        _run("ip", "-n", there, "route", "add", "default", "via", f"10.199.{n}.1")
        return _Wired(there, cable)

    def _worsen(self, where: str, end: str, delay: float, loss: float) -> None:
        if self.unfit or not (delay or loss):
            return
        how = ("delay", f"{1000 * delay:g}ms", f"{500 * delay:g}ms", "loss", f"{100 * loss:g}%")
        try:
            _run("ip", "netns", "exec", where, "tc", "qdisc", "add", "dev", end, "root", "netem", *how)
        except OSError as error:
            self.unfit = str(error)

    def close(self) -> None:
        """Take it all down."""
        for name in self._made:
            subprocess.run(("ip", "netns", "del", name), capture_output=True)
