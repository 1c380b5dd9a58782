"""What tells a job from others: the task, the items, and the options that change the answer, as short texts by name.

A ventilator that is started anew goes on with what a sink has of its job, and with nothing else. Only what was asked
for is compared, not what it led to: a file of items may have been written anew with the same lines, and reading all
of a large one would take longer than starting.
"""

from __future__ import annotations

from zpipe.core.spec import JobSpec, TaskSpec

__all__ = ["differences", "fingerprint"]

DIGITS = 12
"""Of a digest, as many are shown and compared."""


def fingerprint(spec: JobSpec, items: str) -> dict[str, str]:
    """Return what tells the job of this spec over these `items`, the options that name them, from others."""
    found = {"task": _text(spec.task), "items": items.encode(errors="backslashreplace").decode()}
    if spec.until is not None:
        found["--until"] = _text(spec.until)
    if spec.first:
        found["--first"] = "given"
    if spec.text_encoding != "utf-8":
        found["--encoding"] = spec.text_encoding
    if spec.codec != "pickle":
        found["--codec"] = spec.codec
    return found


def _text(task: TaskSpec) -> str:
    if task.kind == "command":
        return f"--command {task.name!r}{' --shell' if task.shell else ''}"
    if not task.data:
        return task.name
    import hashlib  # slow to load

    return f"{task.name} ({hashlib.sha256(task.data).hexdigest()[:DIGITS]})"


def differences(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Return in what two fingerprints differ, as a person may be told it; empty if in nothing."""
    told = []
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        was, now = theirs.get(name, "not given"), ours.get(name, "not given")
        if was != now:
            told.append(f"{name}: {was} there, {now} here")
    return "; ".join(told)
