"""`zpipe sink`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from zpipe.cli import journalling, options
from zpipe.cli.output import open_outputs
from zpipe.cli.telling import conclude, progress
from zpipe.errors import UsageError
from zpipe.net.endpoints import RESULTS_PORT, bindable, connectable, is_loopback, sibling

__all__ = ["command"]


@click.command(
    "sink",
    context_settings=options.SETTINGS,
    epilog="""\b
Examples:
  zpipe sink tcp://127.0.0.1:5557 --output sums.jsonl --journal sums.journal
  zpipe sink tcp://head:5557 --bind tcp://0.0.0.0:5558 --reduce operator:add
  zpipe sink tcp://head:5557 --bind tcp://0.0.0.0:5558 --reduce operator:add --codec json    workers run no code here
""",
)
@click.argument("url", envvar="ZPIPE_URL")
@options.output_options
@click.option(
    "--bind",
    metavar="URL",
    help="Where workers bring results.  [default: port 5558 of loopback, or next to an ipc URL]",
)
@click.option("--advertise", default="", metavar="URL", help="The address workers are told, if it is not --bind's.")
@options.codec_option
@options.key_options
@options.connect_timeout_option
@options.node_options
def command(**given: Any) -> None:
    """Collect the results of the job whose ventilator is at URL."""
    from zpipe.jobs.sink import run_sink
    from zpipe.net.access import admit
    from zpipe.output.landing import Landing
    from zpipe.output.recorder import Recorder

    url = connectable(given["url"])
    default = url if url.startswith("ipc://") else f"tcp://127.0.0.1:{RESULTS_PORT}"
    if given["bind"] is None and not is_loopback(url):
        raise UsageError(
            f"workers elsewhere can't reach this sink on loopback; add --bind tcp://0.0.0.0:{RESULTS_PORT}, with the "
            "ventilator's key here too, or --insecure if everybody who can reach that port is trusted"
        )
    wanted = given["bind"] or default
    access = admit(url, wanted, key_file=given["key_file"], insecure=given["insecure"])
    bind = bindable(wanted, RESULTS_PORT, guarded=access.keys is not None, insecure=given["insecure"])
    if given["bind"] is None and bind.startswith("ipc://"):
        bind = sibling(bind, "results")
    advertise = connectable(given["advertise"], RESULTS_PORT) if given["advertise"] else ""
    journal = journalling.open_journal("sink", given, {})
    with contextlib.ExitStack() as stack:
        if journal is not None:
            stack.callback(journal.close)
        output, letters, joblog = open_outputs(stack, given, journal)
        recorder = Recorder(journal, output, letters, joblog) if journal is not None else None
        summary = run_sink(
            Landing(output, letters, joblog, recorder, given["ordered"]),
            progress(given["quiet"], given["output"]),
            url=url,
            bind=bind,
            advertise=advertise,
            heartbeat=given["heartbeat"],
            patience=given["connect_timeout"],
            access=access,
        )
    conclude(summary, quiet=given["quiet"], as_json=given["json_"], output=given["output"])
