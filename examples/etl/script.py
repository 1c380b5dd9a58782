"""The same stages in a script: prints what each country's orders are worth."""

from __future__ import annotations

import json
import sys

from etl import add, convert, country, enrich, parse

import zpipe


def main(path: str) -> None:
    """Print a line of JSON with all sums."""
    with zpipe.Pipeline() as pipe, open(path) as lines:
        parts = pipe.map(str.strip, lines).flat_map(parse).flat_map(enrich).map(convert)
        print(json.dumps(parts.group_by(country).reduce(add, 0), sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
