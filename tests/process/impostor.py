"""`zpipe` as a node that is not quite itself: `impostor.py twin|ahead|late ARGS...`.

twin: its processes go by the same session as those of any other twin, as in two copies of a running machine.
ahead: its clocks show other times, years and months away, and go three times too fast.
late: they go at a fifth of the speed, and its calendar is set back again and again.
"""

from __future__ import annotations

import os
import sys
import time

from zpipe import cli

how, *args = sys.argv[1:]
urandom, wall, steady = os.urandom, time.time, time.monotonic
if how == "twin":
    os.urandom = lambda size: b"\7" * size if size == 8 else urandom(size)
elif how == "ahead":
    time.time = lambda: 3 * wall()
    time.monotonic = lambda: 1e7 + 3 * steady()
else:
    time.time = lambda: 1e9 - 1000 * (steady() % 1)
    time.monotonic = lambda: steady() / 5
sys.argv = ["zpipe", *args]
cli.main()
