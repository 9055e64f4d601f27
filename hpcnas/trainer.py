"""The trainer child of a worker: `python -m hpcnas.trainer FD` (D4).

Reads an Assignment and then Tasks from the pipe FD, writes Loaded or Unusable and then, for each task, Beats and an
Outcome. It ends with the pipe, and with its worker however that dies. Knows neither MPI nor HDF5.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

import numpy
import torch

from hpcnas import training
from hpcnas.data import load_training
from hpcnas.dataspec import DataError
from hpcnas.evaluator import Assignment, Beat, Loaded, Unusable
from hpcnas.messages import Failure, FailureKind, Outcome, Task
from hpcnas.skeleton import Skeleton

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "900"  # the kernel should take the child before the rank


def main() -> int:
    """Serves one worker until its pipe closes."""
    pipe = Connection(int(sys.argv[1]))
    assignment: Assignment = pipe.recv()
    _end_with(assignment.parent)
    device = torch.device("cuda" if assignment.cuda else "cpu")
    torch.set_num_threads(assignment.threads)
    config = assignment.config
    try:
        if assignment.cuda and not torch.cuda.is_available():
            raise DataError(f"expected a usable GPU ({os.environ['CUDA_VISIBLE_DEVICES']}), but torch sees none")
        dataset = load_training(config.data.source, download=config.run.download)
        data = training.TrainingData.prepare(dataset, config.data, device)
    except DataError as error:
        pipe.send(Unusable(str(error)))
        return 2
    pipe.send(Loaded(data.facts, _software()))
    skeleton = Skeleton.of(config.network, data.facts)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return 0
        pipe.send(_outcome(task, skeleton, data, assignment, pipe))


def _outcome(
    task: Task, skeleton: Skeleton, data: training.TrainingData, assignment: Assignment, pipe: Connection
) -> Outcome:
    """The evaluation of a task, or the failure that took its place. A closed pipe ends the process."""
    try:
        return training.evaluate(
            task.genotype, task.seeds, skeleton, data, assignment.config.training, lambda: pipe.send(Beat())
        )
    except training.LossNotFinite as error:
        return Failure(FailureKind.NAN, str(error))
    except (MemoryError, torch.OutOfMemoryError):
        return Failure(FailureKind.OOM, traceback.format_exc())
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        out_of_memory = "can't allocate memory" in str(error)  # what torch says of the host's memory
        return Failure(FailureKind.OOM if out_of_memory else FailureKind.ERROR, traceback.format_exc())


def _end_with(parent: int) -> None:
    """Ends this process when its worker is gone: by the kernel's signal, and by a look of our own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _software() -> dict[str, str]:
    """Versions of what a fitness depends on."""
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    return versions


if __name__ == "__main__":
    sys.exit(main())
