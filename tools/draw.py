#!/usr/bin/env python3
"""`hpcnas draw` for whoever works in the repository."""

import sys

from hpcnas.command import common, draw

if __name__ == "__main__":
    sys.exit(common.run(draw.main))
