"""How long tests wait for what is to happen before they take it that it never will.

These limits end a hang and nothing else: no test measures by them, and a machine that has much else to do does not
reach them. On one that is slower still, HPCNAS_TEST_PATIENCE is the factor by which they are longer.
"""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("HPCNAS_TEST_PATIENCE", "1"))
GUARD = 900.0 * FACTOR  # seconds that nothing here should take
TEST = 4 * GUARD  # seconds of a whole test, which may wait for several things
