#!/usr/bin/env python3
"""`hpcnas watch` for whoever works in the repository."""

import sys

from hpcnas.command import common, watch

if __name__ == "__main__":
    sys.exit(common.run(watch.main))
