"""What malloc keeps of memory that large messages were in."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from zpipe.net import link

context = link.make_context()
for _ in range(3):
    bytearray(b"x") * (1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    bytearray(b"x") * (1 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
context.term()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells what glibc's malloc is brought to do")
def test_blocks_of_a_megabyte_are_used_again() -> None:
    """None of their pages is mapped anew each time."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, check=True, timeout=60)
    assert int(done.stdout) < 100 * (1 << 20) / 4096 / 4
