#!/usr/bin/env python3
"""`hpcnas report` for whoever works in the repository."""

import sys

from hpcnas.command import common, report

if __name__ == "__main__":
    sys.exit(common.run(report.main))
