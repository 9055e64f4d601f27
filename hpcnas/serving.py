"""What the trainer child does once it may import torch: reads the data, then trains task after task (D4).

Writes Loaded or Unusable to the pipe and then, for each Task, Beats and an Outcome. A task that was begun before, here
or anywhere, goes on from its checkpoint in RUN/inflight. Knows neither MPI nor HDF5.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import numpy
import torch

from hpcnas import durable, plugins, profiling, training
from hpcnas.config import Config
from hpcnas.data import load_training
from hpcnas.dataspec import DataError
from hpcnas.evaluation import Loaded
from hpcnas.evaluator import Assignment, Beat, Save, Saved, Unusable
from hpcnas.fastest import fastest_method, fitting_method
from hpcnas.messages import Failure, FailureKind, Outcome, Task, checkpoint_name
from hpcnas.skeleton import Skeleton

_BEAT_INTERVAL = 1.0  # seconds, at the most
_OUT_OF_MEMORY = (  # what torch and CUDA's libraries say where they raise no OutOfMemoryError
    *("can't allocate memory", "CUDA error: out of memory", "std::bad_alloc"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)


def serve(pipe: Connection, assignment: Assignment) -> int:
    """Serves one worker until its pipe closes; returns the exit code of the process."""
    config = assignment.config
    torch.set_num_threads(assignment.threads)
    try:
        plugins.load(config.search.plugins)
        device = _device(assignment)
        dataset = load_training(config.data.source, download=config.run.download)
        data = training.TrainingData.prepare(dataset, config.data, device, config.training.padding)
    except (DataError, plugins.PluginError) as error:
        pipe.send(Unusable(str(error)))
        return 2
    _import_late_parts()
    skeleton = Skeleton.of(config.network, data.facts)
    method = fastest_method(device, assignment.threads, config.training, skeleton)
    numbers = str(training.number_type(config.training, device)).removeprefix("torch.")
    pipe.send(Loaded(data.facts, {**_software(), "training": method.__name__, "numbers": numbers}))
    while True:
        try:
            request: Task | Save = pipe.recv()
        except EOFError:
            return 0
        if isinstance(request, Save):  # nothing is unsaved between two tasks
            pipe.send(Saved())
            return 0
        chosen = fitting_method(method, request.genotype)
        fitness = training.FitnessInProgress(request.genotype, request.seeds, skeleton, data, config.training, chosen)
        attendance = Attendance(pipe, config, checkpoint_name(request.individual, request.first), fitness)
        trace = Path(config.run.run) / "profile.json"
        if config.run.profile and profiling.claim(trace):
            with profiling.Trace(trace) as traced:
                outcome = _outcome(fitness, attendance, traced)
        else:
            outcome = _outcome(fitness, attendance)
        pipe.send(outcome)


def _import_late_parts() -> None:
    """Has torch import what it imports with the first optimiser: many seconds from a slow disk or beside other work,
    in which a first task would give no sign of life."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)


class Attendance:
    """What happens beside a training: signs of life, checkpoints, and the worker's wish to save and end."""

    def __init__(self, pipe: Connection, config: Config, name: str, fitness: training.FitnessInProgress) -> None:
        self._pipe = pipe
        self._path = Path(config.run.run) / "inflight" / name
        self._checkpoint_interval = config.run.checkpoint_interval
        self._beat_interval = min(_BEAT_INTERVAL, config.run.hang_timeout / 4)
        self._fitness = fitness
        self._beaten = self._saved = time.monotonic()

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one of just this evaluation."""
        try:
            self._fitness.resume(torch.load(self._path, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            pass
        except Exception as error:  # a damaged file can raise anything
            _complain(f"beginning anew without {self._path}: {error}")

    def beat(self) -> None:
        """Between two steps. Raises SystemExit when the worker wants to leave, or has left."""
        now = time.monotonic()
        if now - self._beaten >= self._beat_interval:
            self._beaten = now
            self._pipe.send(Beat())
        if self._pipe.poll():
            with contextlib.suppress(EOFError):
                if isinstance(self._pipe.recv(), Save):
                    self.save()
                    self._pipe.send(Saved())
            raise SystemExit(0)
        if now - self._saved >= self._checkpoint_interval:
            self.save()

    def save(self) -> None:
        """Writes the checkpoint; a folder that cannot be written to costs no more than the checkpoint."""
        try:
            self._path.parent.mkdir(exist_ok=True)
            state = self._fitness.state()
            durable.replace(self._path, lambda temporary: torch.save(state, temporary))
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            _complain(f"no checkpoint {self._path}: {error}")
        self._saved = time.monotonic()


def _complain(text: str) -> None:
    """To the file that the worker reads the last words from; it may be full itself."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _outcome(
    fitness: training.FitnessInProgress, attendance: Attendance, trace: profiling.Trace | None = None
) -> Outcome:
    """The evaluation, or the failure that took its place."""
    try:
        attendance.resume()
        beat = attendance.beat if trace is None else trace.around(attendance.beat)
        return fitness.run(beat=beat, replicate_done=attendance.save)
    except training.LossNotFinite as error:
        return Failure(FailureKind.NAN, str(error))
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        return Failure(_kind(error), traceback.format_exc())


def _kind(error: Exception) -> FailureKind:
    """What an exception of a training says about it: a device that has broken down is as good as a crash."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return FailureKind.OOM
    return FailureKind.CRASH if "CUDA error" in str(error) else FailureKind.ERROR


def _device(assignment: Assignment) -> torch.device:
    """The device of the assignment; raises DataError where torch cannot use it."""
    if not assignment.cuda:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        name = os.environ["CUDA_VISIBLE_DEVICES"]
        raise DataError(f"expected the GPU {name} to be usable, but torch {torch.__version__} sees none")
    return torch.device("cuda", 0)


def _software() -> dict[str, str]:
    """Versions of what a fitness depends on."""
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    return versions
