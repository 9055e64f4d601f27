"""What crosses between controller and workers: frozen records, nothing else (D2, D4).

    controller ── Task, Stop ──► worker            worker ── Ready | Refused, Warned, Alive, Result ──► controller
                                                   worker ── Broke, Left ──► controller
                                                transport, of a worker that cannot any more: Died ──► controller

An outcome is an Evaluation or a Failure; there is no fake fitness.
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
    """Pickles as a call of its class, in about half the time that a frozen dataclass takes by itself."""

    __slots__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), tuple([getattr(self, name) for name in self.__slots__])


class FailureKind(IntEnum):
    """Why an evaluation gave no fitness. The numbers are part of the file format."""

    CRASH = 1  # the trainer ended by a signal or an exit nobody asked for, or its device or the system refused
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


@dataclass(frozen=True, slots=True)
class Evaluation(_Message):
    """A fitness or a part of it: validation accuracies (0 to 1) of replicates, and what they cost in seconds of wall
    time."""

    accuracies: tuple[float, ...]
    parameters: int
    setup_seconds: float
    training_seconds: float
    validation_seconds: float

    @property
    def fitness(self) -> float:
        """Mean validation accuracy over the replicates (§4.1)."""
        return mean(self.accuracies)


@dataclass(frozen=True, slots=True)
class Failure:
    """No fitness, and why: the message ends with the traceback or the last lines of output."""

    kind: FailureKind
    message: str

    @property
    def summary(self) -> str:
        """One line: what a traceback ends with; else what happened to the trainer, and its last word."""
        first, *others = self.message.strip().split("\n")
        if not others:
            return first
        return others[-1] if first.startswith("Traceback") else f"{first} {others[-1].strip()}"


Outcome = Evaluation | Failure


@dataclass(frozen=True, slots=True)
class Place(_Message):
    """Where something ran."""

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
        accuracies = " ".join(f"{accuracy:.4f}" for accuracy in self.outcome.accuracies)
        what = f"replicates from {self.first} on: mean" if self.first else "fitness"
        return f"individual {self.individual}: {what} {self.outcome.fitness:.4f} ({accuracies}) on {self.place}"


def mean(accuracies: Sequence[float]) -> float:
    """The fitness that accuracies give (§4.1): the same to the last bit in whatever order they came."""
    return math.fsum(accuracies) / len(accuracies)


def checkpoint_name(individual: int, first: int) -> str:
    """The file of RUN/inflight in which a task's trainings are saved; `first` is the task's."""
    return f"{individual}-{first}.pt" if first else f"{individual}.pt"


def is_checkpoint_name(name: str) -> bool:
    """Whether it is one that `checkpoint_name` gives."""
    return re.fullmatch(r"\d+(-[1-9]\d*)?\.pt", name, re.ASCII) is not None


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has its data and its device and waits for tasks."""

    place: Place
    facts: DataFacts
    software: Mapping[str, str]  # names and versions of what a fitness depends on
    slower: str = ""  # why it evaluates in a slower way than it might; empty where it does not


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot start, or cannot go on: one line. What it holds is not begun."""

    place: Place
    reason: str
    passes: bool = False  # another job may do better as things are; else a person must mend it, such as missing data


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a worker lives with and a person should know: one line, which the log has once a job however many
    workers say it (`text` therefore names no worker)."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker is still there: what it says where it has said nothing else for a while."""


@dataclass(frozen=True, slots=True)
class Broke:
    """What a worker runs has a fault that every worker would meet, such as a plugin's: one line, and the traceback."""

    place: Place
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No more tasks: save what runs, for so many seconds at most, and end with this exit code."""

    exit_code: int
    save_seconds: float


@dataclass(frozen=True, slots=True)
class Left:
    """A worker's last message: it has saved what it could and ends."""


@dataclass(frozen=True, slots=True)
class Died:
    """What the transport says in place of a worker whose process has ended without a word."""


FromWorker = Ready | Refused | Warned | Alive | Result | Broke | Left | Died
ToWorker = Task | Stop
