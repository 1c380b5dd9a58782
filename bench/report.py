"""Tables and the plot, made from `results.json`: nobody edits them by hand.

    python bench/report.py

writes `plot.svg` and what stands between the marks `<!-- bench: NAME -->` and `<!-- end -->` of the two README files.
`python bench` measures and then does this. The plot takes matplotlib (`pip install zpipe[bench]`).
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import HERE

__all__ = ["COLUMNS", "between", "commands_table", "made", "peers_table", "scale_table", "write"]

RESULTS, PLOT = HERE / "results.json", HERE / "plot.svg"
PAGES = (HERE.parent / "README.md", HERE / "README.md")

COLUMNS: dict[str, tuple[str, bool]] = {
    "single": ("no-op, one a message, items/s", True),
    "chunks": ("no-op, in chunks, items/s", True),
    "1 MiB": ("1 MiB arrays, MiB/s", True),
    "64 KiB": ("64 KiB arrays, MiB/s", True),
    "trip": ("idle round trip, µs", False),
    "sleeps": ("400 uneven sleeps on 8 workers, of the ideal", True),
    "cold": ("first result from cold, s", False),
}
"""What each workload's figure is, and whether more of it is better."""

YARDSTICK = "chain"
FAR = 20
"""From the greatest figure of a panel to its least, from which on its axis is logarithmic."""

LABEL = 24
"""Characters of a line beside a bar."""

Results = dict[str, Any]


def _number(value: float) -> str:
    """Return a figure of two or three digits, with its unit's prefix."""
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if value >= size:
            scaled = value / (1e6 if unit == "M" else 1e3)
            return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), f"|{'---|' * len(cells)}"]


def _bests(peers: Results) -> dict[str, str]:
    """Return which system is best at each workload, the yardstick aside."""
    found = {}
    for key, (_, more) in COLUMNS.items():
        rates = {
            name: peer["workloads"][key]["rate"]["median"]
            for name, peer in peers.items()
            if name != YARDSTICK and "rate" in peer["workloads"].get(key, {})
        }
        if rates:
            found[key] = (max if more else min)(rates, key=lambda name: rates[name])
    return found


def peers_table(results: Results) -> str:
    """Return the systems side by side: each figure's median, and in brackets its ratio to the chain; bold is best."""
    peers, bests = results["beside"]["peers"], _bests(results["beside"]["peers"])
    lines, notes = _head("system", *(title for title, _ in COLUMNS.values())), []
    for name, peer in peers.items():
        cells = []
        for key in COLUMNS:
            figure = peer["workloads"].get(key, {"error": "not run"})
            if "error" in figure:
                cells.append("–")
                continue
            text = _number(figure["rate"]["median"])
            text = f"**{text}**" if bests.get(key) == name else text
            cells.append(text if name == YARDSTICK else f"{text} ({_ratio(figure['ratio']['median'])})")
        lines.append(_row(peer["name"], *cells))
        errors = {figure["error"] for figure in peer["workloads"].values() if "error" in figure}
        notes += [f"{peer['name']}, –: {error}" for error in sorted(errors)]
    return "\n".join([*lines, *(f"\n{note}" for note in notes)])


def setups_table(results: Results) -> str:
    """Return how each system was set up, and its versions."""
    peers = results["beside"]["peers"].values()
    return "\n".join([*_head("system", "version", "how"), *(_row(p["name"], p["versions"], p["how"]) for p in peers)])


def commands_table(results: Results) -> str:
    """Return who runs shell commands how fast, and at what cost."""
    told = results["commands"]
    lines = _head("2,000 × `/bin/echo {}`, two at a time", "commands/s", "of zpipe's", "ms of a core each")
    for name, figure in told["systems"].items():
        rate, ratio = figure["rate"]["median"], 1 / figure["zpipe over it"]["median"]
        lines.append(_row(name, f"{rate:,.0f}", f"{ratio:.2f}", f"{figure['ms']['median']:.2f}"))
    missing = [text for name, text in told["versions"].items() if name not in told["systems"]]
    return "\n".join([*lines, *(f"\n{text}" for text in missing)])


def scale_table(results: Results) -> str:
    """Return what more workers and more items cost."""
    lines = _head(
        "workers of one ventilator",
        *("chunks/s, one at a time", "µs of a core each", "chunks/s, many ahead", "µs of a core each", "MB"),
    )
    fleets = results["workers"]["fleets"]
    for count, alone in fleets["one at a time"].items():
        many = fleets["many ahead"][count]
        shown = [(f"{kind['rate']['median']:,.0f}", f"{kind['µs']['median']:.0f}") for kind in (alone, many)]
        lines.append(_row(f"{int(count):,}", *shown[0], *shown[1], f"{alone['MB']['median']:.0f}"))
    lines += ["", *_head("items", "ns an item", "MB, ventilator and sink", "MB, largest worker")]
    for items, figure in results["items"]["sizes"].items():
        lines.append(_row(items, *(f"{figure[key]['median']:.0f}" for key in ("ns", "MB", "worker MB"))))
    return "\n".join(lines)


def costs_table(results: Results) -> str:
    """Return what guarantees and safety cost, and how long things take."""
    lines = _head("what", "median", "least", "greatest")

    def add(what: str, figure: dict[str, float], unit: str = "", scale: float = 1.0) -> None:
        shown = (f"{figure[key] * scale:.3g}{unit}" for key in ("median", "min", "max"))
        lines.append(_row(what, *shown))

    for kind in ("file", "file, ordered", "fold", "pipe"):
        add(f"speed with `--journal`, of without: {kind}", results["journal"][kind]["ratio"])
    add("going on with a job of which 10,000,000 items are done", results["journal"]["resume"]["resumed"], " s")
    for size, figure in results["curve"]["payloads"].items():
        add(f"speed with a key, of without: {size}", figure["zpipe ratio"])
        add(f"the same of bare pyzmq: {size}", figure["pyzmq ratio"])
    for key, text in (("elsewhere", "its chunk runs elsewhere"), ("replaced", "a new process is at work")):
        if key in results["kills"]:
            add(f"from a worker's kill until {text}", results["kills"][key], " ms", 1000)
    for name, figure in results["startup"]["commands"].items():
        add(f"to the first line of output: `{name}`", figure["first"], " s")
    return "\n".join(lines)


def machine(results: Results) -> str:
    """Return where and when this was measured, as a sentence."""
    where = results["environment"]
    noise = max(results["others"].values(), default=0.0)
    return (
        f"{where['cores']} cores, Python {where['python']}, pyzmq {where['pyzmq']}, libzmq {where['libzmq']}, "
        f"{where['system']}, {where['date'][:10]}, commit {where['commit']}; others used up to {noise:.2f} cores."
    )


TABLES: dict[str, Callable[[Results], str]] = {
    "peers": peers_table,
    "setups": setups_table,
    "commands": commands_table,
    "scale": scale_table,
    "costs": costs_table,
    "machine": machine,
}


def between(page: str, name: str, text: str) -> str:
    """Return a page with this text between the marks of that name."""
    mark = re.escape(f"<!-- bench: {name} -->")
    return re.sub(rf"({mark}\n).*?(\n<!-- end -->)", lambda found: f"{found[1]}{text}{found[2]}", page, flags=re.DOTALL)


def made(page: str, results: Results) -> str:
    """Return a page with all its tables made from the results; what could not be measured says so."""
    for name, make in TABLES.items():
        try:
            text = make(results)
        except KeyError as error:
            text = f"Not measured: {error}."
        page = between(page, name, text)
    return page


def plot(results: Results, path: Path) -> None:
    """Draw a panel for each workload: all systems, best on top."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "zpipe", "svg.fonttype": "none", "font.size": 8})
    peers, panels = results["beside"]["peers"], list(COLUMNS.items())
    figure, axes = plt.subplots(2, 4, figsize=(15, 8), layout="constrained")
    for axis, (key, (title, more)) in zip(axes.flat, panels, strict=False):
        rates = {
            p["name"]: p["workloads"][key]["rate"] for p in peers.values() if "rate" in p["workloads"].get(key, {})
        }
        _panel(axis, title, more, rates)
    rates = {name: figure["rate"] for name, figure in results.get("commands", {}).get("systems", {}).items()}
    _panel(axes.flat[len(panels)], "shell commands/s", True, rates)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _panel(axis: Any, title: str, more: bool, rates: dict[str, dict[str, float]]) -> None:
    names = sorted(rates, key=lambda name: rates[name]["median"], reverse=not more)
    middle = [rates[name]["median"] for name in names]
    spread = [
        [rates[n]["median"] - rates[n]["min"] for n in names],
        [rates[n]["max"] - rates[n]["median"] for n in names],
    ]
    colours = ["#d1495b" if name == "zpipe" else "#9aa5b1" if "bare" in name else "#30638e" for name in names]
    shown = [textwrap.fill(name, LABEL) for name in names]
    axis.barh(shown, middle, xerr=spread, color=colours, error_kw={"elinewidth": 0.8, "ecolor": "#333333"})
    axis.set_title(f"{title} ({'more' if more else 'less'} is better)", fontsize=8)
    if names and max(middle) > FAR * min(middle):
        axis.set_xscale("log")
    axis.grid(axis="x", alpha=0.3)


def write(results: Results) -> None:
    """Write the pages' tables, and the plot if there is anything to draw it with."""
    for page in PAGES:
        page.write_text(made(page.read_text(), results))
    if "beside" not in results:
        return
    try:
        plot(results, PLOT)
    except ImportError:
        print("no plot: matplotlib is not installed (pip install zpipe[bench])")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write(json.loads(RESULTS.read_text()))
