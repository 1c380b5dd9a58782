"""A hostile world in virtual time: the real decisions of ventilator, sink and workers over a simulated network.

Every message passes through the real codec. Connections deliver in order, but with delays of their own, so that
messages overtake each other across connections; they are cut at any moment, losing what is under way, and the two
ends learn of it at different times, or only after the heartbeat. Results and receipts are doubled now and then.
Processes are killed and restarted at any step. After every step each node's `check()` runs. The same seed gives the
same world: nothing here iterates a set, and no order depends on hashing.
"""

from __future__ import annotations

from .crash import Crash
from .engine import World
from .faults import Fault
from .scenario import SCENARIOS, Scenario, drawn

__all__ = ["SCENARIOS", "Crash", "Fault", "Scenario", "World", "drawn"]
