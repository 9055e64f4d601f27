#!/usr/bin/env python3
"""`hpcnas lineage` for whoever works in the repository."""

import sys

from hpcnas.command import common, lineage

if __name__ == "__main__":
    sys.exit(common.run(lineage.main))
