#!/usr/bin/env python3
"""`hpcnas compare` for whoever works in the repository."""

import sys

from hpcnas.command import common, compare

if __name__ == "__main__":
    sys.exit(common.run(compare.main))
