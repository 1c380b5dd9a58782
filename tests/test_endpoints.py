"""Addresses as people type them: completed, refused with a mend, and told to others so that they can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from zpipe.errors import UsageError
from zpipe.net import endpoints


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("tcp://head:6000", "tcp://head:6000"),
        ("tcp://head", "tcp://head:5557"),
        ("head", "tcp://head:5557"),
        ("head:6000", "tcp://head:6000"),
        ("127.0.0.1", "tcp://127.0.0.1:5557"),
        ("tcp://[::1]:6000", "tcp://[::1]:6000"),
        ("ipc:///tmp/x", "ipc:///tmp/x"),
    ],
)
def test_an_address_is_completed(typed: str, full: str) -> None:
    """Scheme and port may be left out."""
    assert endpoints.connectable(typed) == full


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("http://head:80", "scheme"),
        ("tcp://", "no address"),
        ("tcp://head:http", "port must be a number"),
        ("tcp://head:99999", "port must be a number"),
        ("tcp://head:5557/path", "no address"),
        ("ipc://", "no path"),
        ("ipc:///" + "x" * 120, "shorter folder"),
        ("tcp://0.0.0.0:5557", "name a host"),
        ("tcp://*:5557", "name a host"),
        ("tcp://head:0", "port 0"),
    ],
)
def test_what_cant_be_connected_to_is_refused(typed: str, why: str) -> None:
    """Each with its reason."""
    with pytest.raises(UsageError, match=why):
        endpoints.connectable(typed)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]"])
def test_loopback_may_be_bound(host: str) -> None:
    """No keys are needed where only this host can connect."""
    assert endpoints.bindable(f"tcp://{host}:6000") == f"tcp://{host}:6000"


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.1", "[::]", "head.example", "127.0.0.1.example"])
def test_anything_else_needs_to_be_called_insecure(host: str) -> None:
    """Binding for the network is refused, and the refusal names both ways out; --insecure by name allows it."""
    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:6000, or add --insecure"):
        endpoints.bindable(f"tcp://{host}:6000")
    assert endpoints.bindable(f"tcp://{host}:6000", insecure=True).endswith(":6000")


def test_an_ipc_socket_needs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is missing is named."""
    monkeypatch.chdir(tmp_path)  # a full path may be longer than a socket's can be
    (tmp_path / "here").mkdir()
    assert endpoints.bindable("ipc://here/control") == "ipc://here/control"
    with pytest.raises(UsageError, match="no folder"):
        endpoints.bindable("ipc://missing/control")


@pytest.mark.parametrize("via", ["tcp://head:5557", "tcp://10.1.2.3:5557", "tcp://[::1]:5557"])
def test_a_lane_is_where_the_ventilator_was_reached(via: str) -> None:
    """What is announced with `*` gets the host the joiner used, whatever the ventilator calls itself."""
    announced = endpoints.announce("tcp://0.0.0.0:6001")
    assert endpoints.resolve(announced, via) == via.rpartition(":")[0] + ":6001"
    assert endpoints.resolve("tcp://other:7000", via) == "tcp://other:7000"


def test_siblings_are_next_to_the_control_socket() -> None:
    """Lanes and results bind the same host, or the same folder."""
    assert endpoints.sibling("tcp://127.0.0.1:5557", "results") == "tcp://127.0.0.1:*"
    assert endpoints.sibling("tcp://127.0.0.1:5557", "results", 5558) == "tcp://127.0.0.1:5558"
    assert endpoints.sibling("ipc:///tmp/c", "lane-1") == "ipc:///tmp/c.lane-1"


def test_ports_are_a_range() -> None:
    """`--lane-ports` takes one port or both ends of a range."""
    assert endpoints.parse_ports("5600-5602") == range(5600, 5603)
    assert list(endpoints.parse_ports("5600")) == [5600]
    for wrong in ("a-b", "5602-5600", "0-3", "65535-65536", ""):
        with pytest.raises(UsageError, match="no range of ports"):
            endpoints.parse_ports(wrong)


def test_this_hosts_address_towards_loopback_is_loopback() -> None:
    """A sink tells workers the address by which this host is reached from there."""
    assert endpoints.address_towards("tcp://127.0.0.1:5557") == "127.0.0.1"
    assert endpoints.address_towards("tcp://no.such.host.invalid:5557") == "127.0.0.1"
