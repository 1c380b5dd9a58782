"""The fingerprint: what tells a job from others, and in what two of them differ."""

from __future__ import annotations

from zpipe.core.fingerprint import differences, fingerprint
from zpipe.core.spec import JobSpec, TaskSpec


def of(text: bytes = b"def f(x): ...", items: str = "--range 9", **more: object) -> dict[str, str]:
    """The fingerprint of a job with a task from a file."""
    return fingerprint(JobSpec(TaskSpec("file", "t.py:f", text), **more), items)  # type: ignore[arg-type]


def test_what_changes_the_answer_changes_it() -> None:
    """The task's text, the items, and how a search ends; not how often an item is tried."""
    base = of()
    assert of() == base
    assert of(retries=3, max_result=5, encoding="raw") == base
    others = [
        of(b"def f(x): return 1"),
        of(items="--range 10"),
        of(first=True),
        of(until=TaskSpec("import", "m:f")),
        of(text_encoding="latin-1"),
    ]
    for other in others:
        assert differences(base, other)
    assert len({str(other) for other in others}) == len(others)


def test_a_command_is_shown_as_it_was_given() -> None:
    """A command template is its own text, and a shell another one."""
    specs = [JobSpec(TaskSpec("command", "rm {}", shell=shell)) for shell in (False, True)]
    plain, shell = (fingerprint(spec, "--glob '*'") for spec in specs)
    assert differences(plain, shell) == "task: --command 'rm {}' there, --command 'rm {}' --shell here"


def test_differences_are_told_by_name() -> None:
    """What one of them has and the other has not is a difference too."""
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == ""
    assert differences({"a": "1"}, {"a": "2", "b": "3"}) == ("a: 1 there, 2 here; b: not given there, 3 here")
