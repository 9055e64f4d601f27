"""`python -m hpcnas`: joins the job, plays this rank's part, and makes sure that no rank is left waiting.

`python -m hpcnas simulate` joins no job: see `simulate`.
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
    if sys.argv[1:2] == ["simulate"]:
        from hpcnas import simulate

        return simulate.main(sys.argv[2:])
    signals = Signals.install()  # before the imports below take their time
    from hpcnas import exits, job, transport

    try:
        world = transport.connect()
    except transport.LaunchError as error:
        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
            print(f"hpcnas: {error}", file=sys.stderr)
        return exits.WRONG_USE
    try:
        exit_code = job.run(world, sys.argv[1:], signals)
        if not world.finish():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_code)  # MPI_Finalize may wait for the dead
        return exit_code
    except BaseException:
        print(f"hpcnas: rank {world.rank} on {socket.gethostname()} broke:", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(0.1)  # a launcher told to abort may drop what it has not read yet
        world.abort(exits.BROKEN)
        raise


if __name__ == "__main__":
    sys.exit(main())
