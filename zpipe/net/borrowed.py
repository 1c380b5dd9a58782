"""A look at a connection that is ZeroMQ's, by its descriptor, which may be another's by now."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

__all__ = ["borrowed"]


def borrowed(fd: int) -> socket.socket:
    """Return a socket of the connection that has this descriptor, to be closed. Raises OSError if it is none."""
    import socket

    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
