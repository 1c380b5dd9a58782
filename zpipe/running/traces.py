"""How a user's own exception is told: its message and traceback as text that can travel, without zpipe's frames."""

from __future__ import annotations

import os

__all__ = ["message_text", "trace_text"]

_HERE = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"  # noqa: PTH100, PTH120 - pathlib is slow to load

_LONGEST = 20_000


def message_text(text: object) -> str:
    """Return an exception's message, or any text, as it can travel: of bounded length, and valid Unicode."""
    try:
        said = str(text)
    except Exception:  # noqa: BLE001 - a user's own __str__
        return f"<a {type(text).__name__} whose str() fails>"
    if len(said) > _LONGEST:
        half = _LONGEST // 2
        said = f"{said[:half]}\n[{len(said) - 2 * half} characters left out]\n{said[-half:]}"
    return said.encode("utf-8", "backslashreplace").decode()


def trace_text(error: BaseException) -> str:
    """Return an exception's traceback, its chain included; empty if none can be made."""
    import traceback

    try:
        trace = traceback.TracebackException(type(error), error, error.__traceback__)
        chain: list[traceback.TracebackException | None] = [trace]
        for link in chain:
            if link is not None:
                link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(_HERE)]
                chain += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
        return message_text("".join(trace.format()))
    except Exception:  # noqa: BLE001 - out of memory, say: the type and message are kept
        return ""
