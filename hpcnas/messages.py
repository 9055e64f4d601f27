"""The messages between controller and workers: frozen records, nothing else (D2, D4).

    controller ── Task, Stop ──► worker            worker ── Ready | Refused, Warned, Alive, Result ──► controller
                                                   worker ── Broke, Left ──► controller
                                                transport, in place of a worker that has died: Died ──► controller

An outcome is an Evaluation, a Failure, or that a training was Stopped early; there is no fake fitness.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hpcnas.architecture.genotype import Genotype
from hpcnas.config.data_spec import DataFacts


class _Message:
    """Is pickled as a call of its class: in about half the time of a plain frozen dataclass."""

    __slots__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), tuple([getattr(self, name) for name in self.__slots__])


class FailureKind(IntEnum):
    """Why an evaluation gave no fitness. The numbers are part of the file format."""

    CRASH = 1  # the trainer ended by a signal or an unexpected exit, or its device or the system refused
    OOM = 2  # out of memory, on host or device
    HANG = 3  # no sign of life for too long
    OVERRUN = 4  # longer than an evaluation may take
    NAN = 5  # the loss was not finite
    ERROR = 6  # any other Python exception


@dataclass(frozen=True, slots=True)
class Task(_Message):
    """Train a genotype from scratch once per seed: all replicates of its fitness, or some that follow one another."""

    individual: int
    attempt: int  # 1, 2, …; does not change the seeds
    genotype: Genotype
    seeds: tuple[int, ...]  # one a replicate, each 0 ≤ seed < 2⁶³
    first: int = 0  # number of the first of these replicates
    rungs: int = 0  # at how many rungs its trainings are validated on their way
    floors: tuple[float, ...] = ()  # the least accuracy at each rung with which to go on (`early_stopping`); () for any


@dataclass(frozen=True, slots=True)
class Evaluation(_Message):
    """A fitness or a part of it: the validation accuracies (0 to 1) of replicates, the network's parameters, and the
    seconds of wall time that all of the replicates took; and their learning curves, where there are rungs.

    What is called an accuracy, here and in curves and floors, is what the fitness measures (`--fitness`): of another
    measure than accuracy a number within its own bounds, the larger the better (`config.measures`)."""

    accuracies: tuple[float, ...]
    parameters: int
    setup_seconds: float
    training_seconds: float
    validation_seconds: float
    curves: tuple[tuple[float, ...], ...] = ()  # of each replicate, the validation accuracy at each rung
    judged: int = 0  # how many replicates, the first ones, were held against the task's floors together
    measures: tuple[tuple[float | None, ...], ...] = ()  # of each replicate, or of none: `training.measuring.every`
    objective: tuple[float, float | None] | None = None  # cost of the trained network and its spread (`weighing`)
    waiting_seconds: float | None = None  # of training and validation, for images on the host; None where none were

    @property
    def fitness(self) -> float:
        """Mean over the replicates (§4.1)."""
        return mean(self.accuracies)


@dataclass(frozen=True, slots=True)
class Stopped(_Message):
    """The first trainings of a fitness were ended at a rung, together, for their mean accuracy there was below its
    floor: there is a learning curve of each, as far as they came, and no fitness. Seconds as of an Evaluation."""

    curves: tuple[tuple[float, ...], ...]  # all of one length, which is at least 1
    parameters: int
    setup_seconds: float
    training_seconds: float
    validation_seconds: float
    waiting_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation gave no fitness, and why: the message ends with the traceback or the last lines of output."""

    kind: FailureKind
    message: str

    @property
    def summary(self) -> str:
        """One line: the last line of a traceback; else what happened to the trainer, and its last line of output."""
        first, *others = self.message.strip().split("\n")
        if not others:
            return first
        return others[-1] if first.startswith("Traceback") else f"{first} {others[-1].strip()}"


Outcome = Evaluation | Failure | Stopped


@dataclass(frozen=True, slots=True)
class Place(_Message):
    """Where a task ran."""

    rank: int
    host: str
    device: str

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} ({self.device})"


@dataclass(frozen=True, slots=True)
class Result(_Message):
    """The outcome of one task. Times are seconds since 1970 in UTC, by the worker's clock."""

    individual: int
    attempt: int
    place: Place
    started: float
    finished: float
    outcome: Outcome
    first: int = 0  # as the task's

    def __str__(self) -> str:
        if isinstance(self.outcome, Failure):
            kind, summary = self.outcome.kind.name.lower(), self.outcome.summary
            return f"individual {self.individual} failed ({kind}, attempt {self.attempt}) on {self.place}: {summary}"
        if isinstance(self.outcome, Stopped):
            reached = " ".join(f"{accuracy:.4f}" for accuracy in mean_curve(self.outcome.curves))
            return f"individual {self.individual}: stopped at a rung (so far {reached}) on {self.place}"
        accuracies = " ".join(f"{accuracy:.4f}" for accuracy in self.outcome.accuracies)
        what = f"replicates from {self.first} on: mean" if self.first else "fitness"
        return f"individual {self.individual}: {what} {self.outcome.fitness:.4f} ({accuracies}) on {self.place}"


def mean_curve(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean accuracy at each rung of trainings that have come equally far."""
    return tuple(mean(rung) for rung in zip(*curves, strict=True))


def first_below(curves: Sequence[Sequence[float]], floors: Sequence[float]) -> int | None:
    """The first rung, from 0, at which the mean accuracy of such trainings is below its floor; None where there is
    none."""
    rungs = enumerate(zip(mean_curve(curves), floors, strict=False)) if floors else ()
    return next((rung for rung, (accuracy, floor) in rungs if accuracy < floor), None)


def mean(accuracies: Sequence[float]) -> float:
    """The fitness of these accuracies (§4.1): equal to the last bit in any order of them."""
    return math.fsum(accuracies) / len(accuracies)


def checkpoint_name(individual: int, first: int) -> str:
    """Name of the file of RUN/inflight that holds the checkpoint of a task; `first` is `Task.first`."""
    return f"{individual}-{first}.pt" if first else f"{individual}.pt"


def is_checkpoint_name(name: str) -> bool:
    """Whether `checkpoint_name` gives such names."""
    return re.fullmatch(r"\d+(-[1-9]\d*)?\.pt", name, re.ASCII) is not None


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its data, has its device, and waits for tasks."""

    place: Place
    facts: DataFacts
    software: Mapping[str, str]  # names and versions of the software that a fitness depends on
    slower: str = ""  # why it evaluates in a slower way than it could; empty if it evaluates in the fastest way


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot start, or cannot go on: one line. It has begun none of the tasks that it holds."""

    place: Place
    reason: str
    passes: bool = False  # whether another job may succeed; else a person must mend the reason, such as missing data


@dataclass(frozen=True, slots=True)
class Warned:
    """A fault that does not stop a worker, and that a person should know of: one line. `text` names no worker, because
    the log has it once a job, however many workers send it."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker is still alive: sent when it has sent nothing else for a while."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The code of a worker has a fault that every worker would meet, such as a fault of a plugin: one line, and the
    traceback."""

    place: Place
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Stop:
    """There are no more tasks: the worker saves what runs, in at most so many seconds, and ends with this exit code."""

    exit_code: int
    save_seconds: float


@dataclass(frozen=True, slots=True)
class Left:
    """A worker's last message: it has saved what it could, and ends."""


@dataclass(frozen=True, slots=True)
class Died:
    """The transport sends it in place of a worker whose process has ended without a last message."""


FromWorker = Ready | Refused | Warned | Alive | Result | Broke | Left | Died
ToWorker = Task | Stop
