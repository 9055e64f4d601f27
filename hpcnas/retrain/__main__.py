"""`python -m hpcnas.retrain`: the training of a found cell's large network.

Imports little: the processes that decode images begin with this file too.
"""

from __future__ import annotations

import sys

from hpcnas import collector, search_path
from hpcnas.job import terminal
from hpcnas.job.signals import Signals


def main() -> int:
    """This rank's exit code: 0 complete, 75 more to do, 1 broken, 2 wrong use."""
    search_path.leave_out_current_folder()
    search_path.leave_out_for_children()
    terminal.install()
    collector.spare_the_end()
    signals = Signals.install()  # before the imports below take their time
    from hpcnas.job import launch
    from hpcnas.retrain import job

    return launch.rank_of(launch.started_as("hpcnas.retrain"), job.run, signals)


if __name__ == "__main__":
    sys.exit(main())
