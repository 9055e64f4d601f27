#!/usr/bin/env python3
"""`hpcnas compare-strategies` for whoever works in the repository."""

import sys

from hpcnas.command import common, compare_strategies

if __name__ == "__main__":
    sys.exit(common.run(compare_strategies.main))
