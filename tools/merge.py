#!/usr/bin/env python3
"""`hpcnas merge` for whoever works in the repository."""

import sys

from hpcnas.command import common, merge

if __name__ == "__main__":
    sys.exit(common.run(merge.main))
