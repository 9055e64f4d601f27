#!/usr/bin/env python3
"""`hpcnas predict` for whoever works in the repository."""

import sys

from hpcnas.command import common, predict

if __name__ == "__main__":
    sys.exit(common.run(predict.main))
