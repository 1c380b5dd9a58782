"""What the C library's malloc does with memory that large messages were in. Knows nothing of messages."""

from __future__ import annotations

__all__ = ["keep_freed"]

KEPT = 16 << 20
"""Bytes: blocks up to these are taken from what was freed before, and twice these are kept of that."""


def keep_freed() -> None:
    """Have malloc reuse what large blocks were in, as it does by itself once a block of so many bytes has been freed.

    By default glibc gets each block of 128 KiB and more from the system, and gives it back, at first; and what is freed
    at the end of its heaps too. So every page of every message would be mapped, and cleared, and unmapped again.
    """
    bytes(KEPT)  # mapped, and never touched
