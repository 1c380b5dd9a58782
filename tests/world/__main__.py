"""`python -m tests.world --help`, from the checkout: hunt for worlds that fail."""

from __future__ import annotations

import sys

from .hunt import main

sys.exit(main())
