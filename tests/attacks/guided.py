"""`python -m tests.attacks.guided -max_total_time=60`: what decodes messages, fuzzed by the branches it takes.

Needs `pip install atheris`; options are libFuzzer's. It begins with real messages, and stops at anything but WireError.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["zpipe.core"]):
    from zpipe.core import coding
    from zpipe.errors import WireError

from attacks.garbage import SAMPLES


def decode(data: bytes) -> None:
    """Decode a header with as many frames behind it as the first byte says."""
    with contextlib.suppress(WireError):
        coding.decode([data[1:], *[b"x"] * (data[0] % 3 if data else 0)])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for n, sample in enumerate(SAMPLES):
            Path(corpus, str(n)).write_bytes(b"\0" + coding.encode(sample)[0])
        atheris.Setup([*sys.argv, "-max_len=500", corpus], decode)
        atheris.Fuzz()
