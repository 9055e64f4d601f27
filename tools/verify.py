#!/usr/bin/env python3
"""`hpcnas verify` for whoever works in the repository."""

import sys

from hpcnas.command import common, verify

if __name__ == "__main__":
    sys.exit(common.run(verify.main))
