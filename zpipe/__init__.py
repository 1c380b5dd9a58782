"""zpipe fans a batch job out over many cores and hosts and gives one exact answer back, with no broker.

Names are loaded on first use (PEP 562), so that a worker's start does not pay for the whole package.
"""

from __future__ import annotations

__version__ = "0.1.0"
