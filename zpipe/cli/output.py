"""What the options of an output mean: where results, dead letters and the job log go."""

from __future__ import annotations

import contextlib
from typing import Any

from zpipe.core.spec import Codec
from zpipe.errors import UsageError

__all__ = ["fold", "open_outputs"]


def open_outputs(stack: contextlib.ExitStack, given: dict[str, Any], journal: Any) -> tuple[Any, Any, Any]:
    """Return where results, dead letters and the job log go (None: nowhere), as the `journal`, if any, has left them.

    They are given up if the stack is unwound by an exception. Raises UsageError and TaskError.
    """
    from zpipe.output.outlet import give_up_on_error

    found: list[Any] = []
    for make in (sink_output, letters_output, joblog_output):
        made = make(**given, opened=journal)
        give_up_on_error(stack, made)
        found.append(made)
    return found[0], found[1], found[2]


def sink_output(
    *,
    output: str | None,
    format_: str,
    raw: bool,
    reduce_: str | None,
    initial: str | None,
    group_by: str | None,
    codec: Codec,
    opened: Any = None,
    **_: Any,
) -> Any:
    """Return the output that was asked for, as the journal `opened` has left it. Raises UsageError and TaskError."""
    from zpipe.output import outputs

    if raw and format_ == "pickle":
        raise UsageError("--raw and --format pickle are both given; give one")
    if codec != "pickle" and format_ == "pickle":
        raise UsageError(
            f"--format pickle and --codec {codec}: results would be pickles; leave --format out for lines of JSON"
        )
    folded = fold(reduce_, initial, codec, group_by)
    format_ = "raw" if raw else format_
    if opened is not None:
        from zpipe.output import resumption

        return resumption.open_output(opened, "output", output, format_, folded)  # type: ignore[arg-type]
    target = outputs.open_output(output, format_)  # type: ignore[arg-type]
    return target if folded is None else folded.into(target)


def fold(reduce_: str | None, initial: str | None, codec: Codec, group_by: str | None = None) -> Any:
    """Return the fold that was asked for, if any. Raises UsageError and TaskError."""
    if reduce_ is None and initial is not None:
        raise UsageError("--initial goes with --reduce")
    if reduce_ is None and group_by is None:
        return None
    reducer = None if reduce_ is None else _function("--reduce", reduce_)
    from zpipe.output.folds import Fold

    if group_by is None:
        return None if reducer is None else Fold(reducer, initial is not None, _json(initial), codec)
    from zpipe.output.grouping import Grouping, field

    key = _function("--group-by", group_by) if ":" in group_by else field(group_by)
    return Fold(Grouping(key, reducer, initial is not None, _json(initial)), True, {}, codec)


def _function(option: str, name: str) -> Any:
    from zpipe.running import tasks

    found = tasks.import_object(name)
    if not callable(found):
        raise UsageError(f"{option} {name} is no function")
    return found


def letters_output(*, dead_letters: str | None, output: str | None, opened: Any = None, **_: Any) -> Any:
    """Return where dead letters go, if they were asked for. Raises UsageError."""
    if dead_letters is None:
        return None
    from zpipe.output import outputs

    if dead_letters in (output, "-") or (output in (None, "-") and dead_letters == "/dev/stdout"):
        raise UsageError(f"--dead-letters {dead_letters} is where the results go; give a file of its own")
    if opened is None:
        return outputs.open_output(dead_letters, "raw")
    from zpipe.output import resumption

    return resumption.open_output(opened, "letters", dead_letters, "raw")


def joblog_output(
    *, joblog: str | None, output: str | None, dead_letters: str | None, opened: Any = None, **_: Any
) -> Any:
    """Return where the job log goes, if it was asked for. Raises UsageError."""
    if joblog is None or (opened is not None and opened.state.stage != "open"):
        return None
    from zpipe.output import outputs
    from zpipe.running import joblog as joblogs

    if joblog in ("-", output, dead_letters):
        raise UsageError(f"--joblog {joblog} is where results go; give a file of its own")
    mark = opened.state.marks.get("joblog") if opened is not None else None
    made = outputs.FileOutput(joblog, "raw", mark, live=True)
    if made.direct and opened is not None:
        raise UsageError(f"--joblog {joblog} is no regular file: with --journal it has to be one, to be cut back")
    if mark is None:
        made.write([joblogs.HEADER])
    return made


def _json(text: str | None) -> Any:
    import json

    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--initial {text!r} is not JSON: {error}") from None
