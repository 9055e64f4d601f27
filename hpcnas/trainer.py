"""The trainer child of a worker: `python -m hpcnas.trainer FD` (D4).

Reads an Assignment and then Tasks from the pipe FD, writes Loaded or Unusable and then, for each task, Beats and an
Outcome. A task that was begun before, here or anywhere, goes on from its checkpoint in RUN/inflight. The process ends
with its pipe, and with its worker however that dies. Knows neither MPI nor HDF5.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import platform
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import numpy
import torch

from hpcnas import durable, training
from hpcnas.config import Config
from hpcnas.data import load_training
from hpcnas.dataspec import DataError
from hpcnas.evaluator import COORDINATED, STACK_SIGNAL, Assignment, Beat, Loaded, Save, Saved, Unusable
from hpcnas.messages import Failure, FailureKind, Outcome, Task
from hpcnas.skeleton import Skeleton

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "900"  # the kernel should take the child before the rank
_BEAT_INTERVAL = 1.0  # seconds


def main() -> int:
    """Serves one worker until its pipe closes."""
    _ignore_coordinated_signals()
    pipe = Connection(int(sys.argv[1]))
    assignment: Assignment = pipe.recv()
    _end_with(assignment.parent)
    config = assignment.config
    torch.set_num_threads(assignment.threads)
    try:
        device = _device(assignment)
        dataset = load_training(config.data.source, download=config.run.download)
        data = training.TrainingData.prepare(dataset, config.data, device)
    except DataError as error:
        pipe.send(Unusable(str(error)))
        return 2
    pipe.send(Loaded(data.facts, _software()))
    skeleton = Skeleton.of(config.network, data.facts)
    while True:
        try:
            request: Task | Save = pipe.recv()
        except EOFError:
            return 0
        if isinstance(request, Save):  # nothing is unsaved between two tasks
            pipe.send(Saved())
            return 0
        fitness = training.FitnessInProgress(request.genotype, request.seeds, skeleton, data, config.training)
        pipe.send(_outcome(fitness, Attendance(pipe, config, request.individual, fitness)))


class Attendance:
    """What happens beside a training: signs of life, checkpoints, and the worker's wish to save and end."""

    def __init__(self, pipe: Connection, config: Config, individual: int, fitness: training.FitnessInProgress) -> None:
        self._pipe = pipe
        self._path = Path(config.run.run) / "inflight" / f"{individual}.pt"
        self._interval = config.run.checkpoint_interval
        self._fitness = fitness
        self._beaten = self._saved = time.monotonic()

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one of just this evaluation."""
        with contextlib.suppress(OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError):
            self._fitness.resume(torch.load(self._path, map_location="cpu", weights_only=True))

    def beat(self) -> None:
        """Between two steps. Raises SystemExit when the worker wants to leave, or has left."""
        now = time.monotonic()
        if now - self._beaten >= _BEAT_INTERVAL:
            self._beaten = now
            self._pipe.send(Beat())
        if self._pipe.poll():
            with contextlib.suppress(EOFError):
                if isinstance(self._pipe.recv(), Save):
                    self.save()
                    self._pipe.send(Saved())
            raise SystemExit(0)
        if now - self._saved >= self._interval:
            self.save()

    def save(self) -> None:
        """Writes the checkpoint; a folder that cannot be written to costs no more than the checkpoint."""
        try:
            self._path.parent.mkdir(exist_ok=True)
            state = self._fitness.state()
            durable.replace(self._path, lambda temporary: torch.save(state, temporary))
        except OSError as error:
            print(f"no checkpoint {self._path}: {error}", file=sys.stderr, flush=True)
        self._saved = time.monotonic()


def _outcome(fitness: training.FitnessInProgress, attendance: Attendance) -> Outcome:
    """The evaluation, or the failure that took its place."""
    try:
        attendance.resume()
        return fitness.run(beat=attendance.beat, replicate_done=attendance.save)
    except training.LossNotFinite as error:
        return Failure(FailureKind.NAN, str(error))
    except (MemoryError, torch.OutOfMemoryError):
        return Failure(FailureKind.OOM, traceback.format_exc())
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        out_of_memory = "can't allocate memory" in str(error)  # what torch says of the host's memory
        return Failure(FailureKind.OOM if out_of_memory else FailureKind.ERROR, traceback.format_exc())


def _device(assignment: Assignment) -> torch.device:
    """The device of the assignment; raises DataError where torch cannot use it."""
    if not assignment.cuda:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        name = os.environ["CUDA_VISIBLE_DEVICES"]
        raise DataError(f"expected the GPU {name} to be usable, but torch {torch.__version__} sees none")
    return torch.device("cuda", 0)


def _ignore_coordinated_signals() -> None:
    """Signals to the whole job are the ranks' to act upon; they arrive here blocked (see `evaluator`)."""
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


def _software() -> dict[str, str]:
    """Versions of what a fitness depends on."""
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    return versions


if __name__ == "__main__":
    sys.exit(main())
