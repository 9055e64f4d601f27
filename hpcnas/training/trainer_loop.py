"""What the trainer child does once it may import torch: reads the data, then trains task after task (D4).

Writes Loaded or Unusable to the pipe and then, for each Task, Beats and an Outcome. A task that was begun before, here
or anywhere, goes on from its checkpoint in RUN/inflight. Knows neither MPI nor HDF5.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
import time
import traceback
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy
import torch

from hpcnas import plugins
from hpcnas.config.data_spec import DataError
from hpcnas.config.search import SearchConfig
from hpcnas.data.datasets import load_training
from hpcnas.errors import first_line
from hpcnas.messages import Failure, FailureKind, Outcome, Task, checkpoint_name
from hpcnas.storage import sealed
from hpcnas.training import causes, checkpoints, measuring, probing, profiling
from hpcnas.training.choice import fitting_method, in_little_memory
from hpcnas.training.evaluator import Loaded
from hpcnas.training.fitness import FitnessInProgress, OtherEvaluation
from hpcnas.training.heartbeat import beating
from hpcnas.training.method import LossNotFinite, TrainingData, number_type
from hpcnas.training.pipe import Assignment, Beat, DeviceMemory, FromChild, Remark, Save, Saved, Unusable
from hpcnas.training.plain import PlainTraining

_BEAT_INTERVAL = 1.0  # seconds, at the most
_LONGEST = 2000  # characters of a warning
_OF_PLUGINS = "genotypes with primitives of plugins are trained as the plain network, which can be several times slower"
_ONE_AT_A_TIME = (
    "what is tried again is trained on one thread, one replicate at a time: that needs less memory, and is slower"
)


class DeviceRefused(Exception):
    """A device that torch cannot use: one sentence."""


def serve(connection: Connection, assignment: Assignment) -> int:
    """Serves one worker until its pipe closes; returns the exit code of the process."""
    pipe = _Pipe(connection)
    config = assignment.config
    logging.getLogger("hpcnas").addHandler(_ToWorker(pipe))
    torch.set_num_threads(assignment.threads)
    try:
        plugins.load(config.search.plugins)
        device = _assigned_device(assignment)
        data = _prepared(config, device, assignment.sharing)
    except (DataError, plugins.PluginError, DeviceRefused) as error:
        pipe.send(Unusable(str(error), of_data=isinstance(error, DataError)))
        return 2
    except Exception as error:
        if not causes.is_out_of_memory(error):
            raise
        told = f"expected memory for all images, on the device or on its host: {first_line(error)}"
        pipe.send(Unusable(told, passes=True))  # others may hold it
        return 2
    _import_late_parts()
    skeleton = config.skeleton(data.facts)
    try:
        with beating(lambda: pipe.send(Beat()), _beat_interval(config)):
            way = probing.find(device, assignment.threads, config.training, skeleton, data)
    except probing.NothingWorks as error:  # memory that others hold, a device that the probing has made sick
        pipe.send(Unusable(str(error), passes=True))
        return 2
    for text in way.remarks:
        pipe.send(Remark(text))
    numbers = str(number_type(config.training, device)).removeprefix("torch.")
    trains = way.name
    if config.space.added and way.method is not PlainTraining:
        pipe.send(Remark(_OF_PLUGINS))
        trains += f" (with primitives of plugins: {PlainTraining.stored_name})"
    if data.on_host:
        trains += " (images on the host)"
    software = _software_versions() | {"training": trains, "threads": str(assignment.threads), "numbers": numbers}
    pipe.send(Loaded(data.facts, software, way.slower))
    while True:
        try:
            request: Task | Save = pipe.recv()
        except EOFError:
            return 0
        if isinstance(request, Save):  # nothing is unsaved between two tasks
            pipe.send(Saved())
            return 0
        chosen = fitting_method(way.method, request.genotype)
        if request.attempt > 1 and chosen is not (frugal := in_little_memory(chosen)):
            pipe.send(Remark(_ONE_AT_A_TIME))
            chosen = frugal
        fitness = FitnessInProgress(
            request.genotype, request.seeds, skeleton, data, config.training, chosen, request.floors,
            None if request.first else config.measured_objective,
        )  # fmt: skip
        attendance = Attendance(pipe, config, checkpoint_name(request.individual, request.first), fitness)
        trace = Path(config.run.run) / "profile.json"
        if config.run.profile and profiling.claim(trace):
            with profiling.Trace(trace) as traced:
                outcome = _outcome(fitness, attendance, traced)
        else:
            outcome = _outcome(fitness, attendance)
        if (memory := _device_memory(device)) is not None:
            pipe.send(memory)
        pipe.send(outcome)


def _prepared(config: SearchConfig, device: torch.device, sharing: int) -> TrainingData:
    """The data on a device that so many workers use, or on its host where that has no room; what it was read into is
    let go of. Raises DataError."""
    dataset, training = load_training(config.data.source, download=config.run.download), config.training
    room = _room(device, sharing)

    def prepared(room: int | None) -> TrainingData:
        return TrainingData.prepare(dataset, config.data, device, training.padding, training.class_weights, room)

    data = None
    try:
        data = prepared(room)
    except Exception as error:
        if room is None or not causes.is_out_of_memory(error):
            raise
    if data is None:  # others have taken that memory meanwhile
        data = prepared(0)
    measuring.check(training.fitness, data.validation_labels.cpu().numpy(), dataset.classes)
    return data


def _room(device: torch.device, sharing: int) -> int | None:
    """Bytes of a GPU's memory that are free, of those that one of so many workers may take; None of a CPU, whose images
    are mapped."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return min(free, total // sharing)


def _device_memory(device: torch.device) -> DeviceMemory | None:
    """What a GPU's memory was taken for since the last call; None of a CPU."""
    if device.type != "cuda":
        return None
    taken = torch.cuda.max_memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    return DeviceMemory(taken, torch.cuda.mem_get_info(device)[1])


def _import_late_parts() -> None:
    """Has torch import what it imports with the first step of an optimiser: many seconds from a slow disk or beside
    other work, in which a first task would give no sign of life."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0).step()


class _Pipe:
    """The pipe to the worker, on which several threads may send: signs of life and warnings come from any of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.RLock()
        self.recv, self.poll = connection.recv, connection.poll

    def send(self, message: FromChild) -> None:
        """Raises OSError where the worker is gone."""
        with self._sending:
            self._connection.send(message)


class _ToWorker(logging.Handler):
    """Hands what this process warns of to the worker, and so to the job's log."""

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # the arguments do not fit, or cannot be told
            self.handleError(record)
            return
        with contextlib.suppress(OSError):  # the worker is gone, and this process ends with it
            self._pipe.send(Remark(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"))


class Attendance:
    """What happens beside a training: signs of life, checkpoints, and the worker's wish to save and end."""

    def __init__(self, pipe: _Pipe, config: SearchConfig, name: str, fitness: FitnessInProgress) -> None:
        self._pipe = pipe
        self._run = Path(config.run.run).absolute()
        self._path = self._run / "inflight" / name
        self._checkpoint_interval = config.run.checkpoint_interval
        self._beat_interval = _beat_interval(config)
        self._fitness = fitness
        self._beaten = self._saved = time.monotonic()
        self._said: set[str] = set()

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one of just this evaluation; says so where it is of no use."""
        try:
            self._fitness.resume(checkpoints.load(self._path))
        except (FileNotFoundError, NotADirectoryError):  # the latter shows when one is written
            pass
        except sealed.Damaged as damage:
            self._remark(f"{self._path} is damaged: {damage}; {self._set_aside()}, and its evaluation begins anew")
        except OtherEvaluation:
            self._remark_new_beginning("they are by another method, on another type of device or by an earlier version")
        except checkpoints.Unsealed:
            self._remark_new_beginning("they carry no checksum: an earlier version has written them")
        except OSError as error:
            self._remark_new_beginning(f"they cannot be read: {error.strerror}")
        except Exception as error:  # sealed as it is, and yet nothing that this version of torch or this program reads
            self._remark_new_beginning(_first_line(error))

    def _remark_new_beginning(self, reason: str) -> None:
        self._remark(f"checkpoints in {self._path.parent} are not gone on from, their evaluations begin anew: {reason}")

    def _set_aside(self) -> str:
        try:
            return f"it is kept as {sealed.set_aside(self._path).name}"
        except OSError as error:
            return f"it cannot be kept aside ({error.strerror})"

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

    def beating(self) -> AbstractContextManager[None]:
        """Sends signs of life from beside what takes long and gives none, such as compiling."""
        return beating(lambda: self._pipe.send(Beat()), self._beat_interval)

    def save(self) -> None:
        """Writes the checkpoint; a folder that cannot be written to costs no more than that, and is told of."""
        state = self._fitness.state()
        try:
            with contextlib.suppress(FileExistsError):  # a link to a folder elsewhere, or something that shows below
                self._path.parent.mkdir()
            checkpoints.save(self._path, state)
        except (OSError, RuntimeError) as error:  # the latter from torch's own writing
            self._remark(
                f"no checkpoints in {self._path.parent}: {self._why_not_written(error)}; an evaluation that is cut "
                "off, by the end of the job or a kill, loses its work since its last checkpoint or, without one, its "
                "start"
            )
        self._saved = time.monotonic()

    def discard(self) -> None:
        """Removes the checkpoint: another attempt begins anew."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _why_not_written(self, error: OSError | RuntimeError) -> str:
        """The reason, in the same words for all workers that it stops."""
        if isinstance(error, RuntimeError):
            return _first_line(error)
        folder = self._path.parent
        with contextlib.suppress(OSError):
            if not self._run.is_dir():
                return f"the folder {self._run} is not there on the host of this worker"
            if folder.is_symlink() and not folder.is_dir():
                return f"it is a link to {os.readlink(folder)}, where no folder is on the host of this worker"
        return error.strerror or str(error)

    def _remark(self, text: str) -> None:
        """To the job's log, once an evaluation."""
        if text not in self._said:
            self._said.add(text)
            self._pipe.send(Remark(text))


def _beat_interval(config: SearchConfig) -> float:
    """Seconds between signs of life."""
    return min(_BEAT_INTERVAL, config.run.hang_timeout / 4)


def _first_line(error: Exception) -> str:
    """An exception in a line of moderate length."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])[:200]


def _outcome(fitness: FitnessInProgress, attendance: Attendance, trace: profiling.Trace | None = None) -> Outcome:
    """The evaluation, or the failure that took its place."""
    try:
        attendance.resume()
        beat = attendance.beat if trace is None else trace.around(attendance.beat)
        return fitness.run(beat=beat, replicate_done=attendance.save, aside=attendance.beating)
    except (LossNotFinite, measuring.NoMeasure) as error:
        attendance.discard()  # what it was resumed from may have come from a device that cannot calculate
        return Failure(FailureKind.NAN, str(error))
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        return Failure(causes.kind(error), traceback.format_exc())


def _assigned_device(assignment: Assignment) -> torch.device:
    """The device of the assignment; raises DeviceRefused where torch cannot use it."""
    if not assignment.cuda:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        name = os.environ["CUDA_VISIBLE_DEVICES"]
        raise DeviceRefused(f"expected the GPU {name} to be usable, but torch {torch.__version__} sees none")
    return torch.device("cuda", 0)


def _software_versions() -> dict[str, str]:
    """Versions of what a fitness depends on."""
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        versions["gpu"] = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    return versions
