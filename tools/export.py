#!/usr/bin/env python3
"""`hpcnas export` for whoever works in the repository."""

import sys

from hpcnas.command import common, export

if __name__ == "__main__":
    sys.exit(common.run(export.main))
