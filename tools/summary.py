#!/usr/bin/env python3
"""`hpcnas summary` for whoever works in the repository."""

import sys

from hpcnas.command import common, summary

if __name__ == "__main__":
    sys.exit(common.run(summary.main))
