#!/usr/bin/env python3
"""`hpcnas plot` for whoever works in the repository."""

import sys

from hpcnas.command import common, plot

if __name__ == "__main__":
    sys.exit(common.run(plot.main))
