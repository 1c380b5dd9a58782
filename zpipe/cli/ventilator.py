"""`zpipe ventilator`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from zpipe.cli import caching, job, options, scheduling
from zpipe.cli.telling import conclude, progress
from zpipe.net.endpoints import bindable

__all__ = ["command"]


@click.command(
    "ventilator",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe ventilator tasks.py:checksum --input files.txt
  zpipe ventilator tasks.py:checksum --input files.txt --bind tcp://0.0.0.0:5557 --expect-workers 64
  zpipe ventilator tasks:checksum --input files.txt --codec json    for workers that --allow tasks:checksum
then
  zpipe sink tcp://HOST:5557 --output sums.jsonl        once, where the results should land (see its --help)
  zpipe worker tcp://HOST:5557                          on as many hosts as you like, now or later
""",
)
@options.job_options
@caching.options
@scheduling.options
@click.option(
    "--bind", default="tcp://127.0.0.1:5557", show_default=True, metavar="URL", help="Where workers and the sink join."
)
@options.codec_option
@options.key_options
@click.option("--json", "json_", envvar="ZPIPE_JSON", is_flag=True, help="The summary as a JSON object on stdout.")
@options.node_options
def command(**given: Any) -> None:
    """Read a job's items and send them to whatever workers join; the results go to a sink of its own."""
    from zpipe.jobs.drive import run_ventilator
    from zpipe.net.access import admit

    access = admit(given["bind"], key_file=given["key_file"], insecure=given["insecure"])
    bind = bindable(given["bind"], guarded=access.keys is not None, insecure=given["insecure"])
    ports = job.lane_ports(given["lane_ports"])
    spec, policy, source = job.spec(**given), job.policy(**given), job.open_source(**given)
    source, policy = scheduling.plan(source, spec, policy, given)
    shown = progress(given["quiet"], "elsewhere")
    plan = caching.plan(spec, given, lambda text: shown.say(text, error=True))
    with contextlib.ExitStack() as stack:
        if plan is not None:
            stack.callback(plan.close)
        summary = run_ventilator(
            source,
            spec,
            policy,
            shown,
            bind=bind,
            chunk=given["chunk"],
            heartbeat=given["heartbeat"],
            lane_ports=ports,
            fingerprint=job.fingerprint(spec, **given),
            access=access,
            plan=plan,
        )
    conclude(summary, quiet=given["quiet"], as_json=given["json_"], output="elsewhere")
