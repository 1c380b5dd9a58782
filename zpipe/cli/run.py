"""`zpipe run`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from zpipe.cli import caching, job, journalling, options, scheduling, stages
from zpipe.cli.loading import loading
from zpipe.cli.output import open_outputs
from zpipe.cli.telling import conclude, progress
from zpipe.net.endpoints import bindable

if TYPE_CHECKING:
    from zpipe.nodes.started import Started

__all__ = ["command"]

_NO_LABELS = "{} and --workers 0: nobody has labels here; add --bind URL for workers that do"


@click.command(
    "run",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe run tasks.py:checksum --input files.txt --output sums.jsonl
  zpipe run --command 'gzip -k {}' --glob 'logs/**/*.log'
  zpipe run math:factorial --range 1:1000 --reduce operator:add
  zpipe run crack.py:attempt --source crack.py:ranges --first --raw
  zpipe run tasks.py:fetch --input urls.txt --output pages.jsonl --retries 3 --dead-letters failed.jsonl
  zpipe run tasks.py:fetch --resubmit failed.jsonl --output more.jsonl
  zpipe run tasks.py:fetch --input urls.txt --unique --cache pages.cache --cache-ttl 10m --output pages.jsonl
  zpipe run tasks.py:fetch --input urls.jsonl --jsonl --rate 50/s --key .host --priority .urgency --output pages.jsonl
  zpipe run tasks.py:parse --glob 'in/*' --output out.jsonl --timeout 60 --max-memory 2G
  zpipe run tasks.py:fetch --input urls.txt --output pages.jsonl --journal pages.journal; zpipe resume pages.journal
  zpipe run etl.py:parse --then etl.py:enrich,retries=3 --then etl.py:store,workers=1 --glob 'in/*' -o out.jsonl

TASK is module:function, or path/file.py:function; it is called with each item. A task may call zpipe.current() for
the item's index and attempt.
""",
)
@options.job_options
@caching.options
@scheduling.options
@options.output_options
@options.workers_option(
    "the cores this process may use", " Then this process runs the items itself, unless there is --bind."
)
@click.option("--bind", metavar="URL", help="Let workers elsewhere join at this address too, e.g. tcp://0.0.0.0:5557.")
@click.option(
    "--results-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="With --bind tcp://…: where workers bring results.  [default: any free port]",
)
@stages.option
@options.codec_option
@options.key_options
@options.node_options
def command(**given: Any) -> None:
    """Run TASK (or --command) on every item, on all cores of this machine, and collect the results."""
    from zpipe.nodes.started import cores

    workers = cores() if given["workers"] is None else given["workers"]
    with loading():
        started = _start() if workers else None
    try:
        _run(given, workers, started)
    finally:
        if started is not None:
            started.abandon()


def _start() -> Started:
    """Return the workers' process: it loads what it needs while this one does."""
    from zpipe.nodes.forked import Forked, may_fork
    from zpipe.nodes.started import Started

    return Forked(-1) if may_fork() else Started(-1)


def _run(given: dict[str, Any], workers: int, started: Started | None) -> None:
    with loading():
        from zpipe.errors import UsageError
        from zpipe.jobs.drive import finish_job, run_job
        from zpipe.net.access import Access, admit
        from zpipe.output.landing import Landing

    inline = workers == 0 and given["bind"] is None
    if inline:
        _check_inline(given)
    if given["bind"] is None and given["expect_workers"] > max(workers, 1):
        raise UsageError(
            f"--expect-workers {given['expect_workers']} can't come true with {workers} workers; add --bind URL"
        )
    access, bind = Access(), None
    if given["bind"] is not None:
        access = admit(given["bind"], key_file=given["key_file"], insecure=given["insecure"])
        bind = bindable(given["bind"], guarded=access.keys is not None, insecure=given["insecure"])
    ports = job.lane_ports(given["lane_ports"])
    spec, policy = job.spec(**{**given, "task": stages.first_task(given)}), job.policy(**given)
    staging = stages.staging(spec, **given)
    if inline and staging is not None and staging.requires:
        raise UsageError(_NO_LABELS.format("requires="))
    fingerprint = job.fingerprint(spec, staging.specs if staging is not None else (), **given)
    journal = journalling.open_journal("run", given, fingerprint)
    with contextlib.ExitStack() as stack:
        if journal is not None:
            stack.callback(journal.close)
        over = journal is not None and journal.state.stage != "open"
        source: Any = None
        if not over:
            source = stages.source(**given) if staging is not None else job.open_source(**given)
        source, policy = scheduling.plan(source, spec, policy, given, staging)
        output, letters, joblog = open_outputs(stack, given, journal)
        recorder = None
        if journal is not None:
            from zpipe.output.recorder import Recorder

            recorder = Recorder(journal, output, letters, joblog)
        landing = Landing(output, letters, joblog, recorder, given["ordered"])
        shown = progress(given["quiet"], given["output"])
        plan = None if over else caching.plan(spec, given, lambda text: shown.say(text, error=True), staging)
        if plan is not None:
            stack.callback(plan.close)
        if recorder is not None and over:
            summary = finish_job(landing, staging)
        elif inline:
            from zpipe.jobs.inline import run_inline

            summary = run_inline(
                source,
                spec,
                landing,
                policy,
                shown,
                chunk=given["chunk"],
                fingerprint=fingerprint,
                plan=plan,
                staging=staging,
            )
        else:
            summary = run_job(
                source,
                spec,
                landing,
                policy,
                shown,
                workers=workers,
                bind=bind,
                chunk=given["chunk"],
                heartbeat=given["heartbeat"],
                lane_ports=ports,
                fingerprint=fingerprint,
                results_port=given["results_port"],
                access=access,
                plan=plan,
                staging=staging,
                started=started,
            )
    if not summary.error:
        caching.forget_past(given, staging)
    conclude(summary, quiet=given["quiet"], as_json=given["json_"], output=given["output"])


def _check_inline(given: dict[str, Any]) -> None:
    """Raise UsageError for what takes workers' processes."""
    from zpipe.errors import UsageError

    for option in ("--max-memory", "--max-tasks-per-worker"):
        if given[option[2:].replace("-", "_")] is not None:
            raise UsageError(
                f"{option} and --workers 0: it is kept by ending a worker, of which there is none; give -w 1"
            )
    if given["requires"] is not None:
        raise UsageError(_NO_LABELS.format("--requires"))
