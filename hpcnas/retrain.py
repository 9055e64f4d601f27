"""`python -m hpcnas.retrain`: joins the job, plays this rank's part in a retraining, and leaves no rank waiting.

Imports little: the processes that decode images begin with this file too.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback

from hpcnas.signals import Signals


def main() -> int:
    """This rank's exit code: 0 complete, 75 more to do, 1 broken, 2 wrong use."""
    signals = Signals.install()  # before the imports below take their time
    from hpcnas import exits, retrainjob, transport

    try:
        world = transport.connect()
    except transport.LaunchError as error:
        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
            print(f"hpcnas.retrain: {error}", file=sys.stderr)
        return exits.WRONG_USE
    try:
        exit_code = retrainjob.run(world, sys.argv[1:], signals)
        world.finish()
        return exit_code
    except BaseException:
        print(f"hpcnas.retrain: rank {world.rank} on {socket.gethostname()} broke:", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(0.1)  # a launcher told to abort may drop what it has not read yet
        world.abort(exits.BROKEN)
        raise


if __name__ == "__main__":
    sys.exit(main())
