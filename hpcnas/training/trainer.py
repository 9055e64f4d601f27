"""The trainer child of a worker, whose pipe is descriptor `sys.argv[1]` (D4).

It ties its life to the worker's before anything else: torch takes seconds to import, and a worker may die meanwhile.
What it does then is `trainer_loop`'s business. The process ends with its pipe, and with its worker however that dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from hpcnas import collector
from hpcnas.training.pipe import COORDINATED, STACK_SIGNAL, Assignment

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "900"  # the kernel should take the child before the rank


def main() -> int:
    """Serves one worker until its pipe closes."""
    _ignore_coordinated_signals()
    pipe = Connection(int(sys.argv[1]))
    assignment: Assignment = pipe.recv()
    _end_with(assignment.parent)
    collector.spare_the_end()
    with collector.spared_imports():
        from hpcnas.training import trainer_loop

    return trainer_loop.serve(pipe, assignment)


def _ignore_coordinated_signals() -> None:
    """Signals to the whole job are the ranks' to act upon; they arrive here blocked (see `trainer_process`)."""
    for number in COORDINATED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, COORDINATED)
    faulthandler.enable()
    faulthandler.register(STACK_SIGNAL)


def _end_with(parent: int) -> None:
    """Ends this process when its worker is gone: by the kernel's signal, and by a look of our own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
