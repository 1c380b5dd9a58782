"""A look at a connection that is ZeroMQ's, by its descriptor, which may be another's by now."""

from __future__ import annotations

import os
import socket

__all__ = ["borrowed"]


def borrowed(fd: int) -> socket.socket:
    """Return a socket of the connection that has this descriptor, to be closed. Raises OSError if it is none."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
