"""What tests of a trainer's process do with it: tasks, answers, and the processes that there are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import psutil
from examples import SPACE
from live_run import is_trainer
from patience import GUARD

from hpcnas.architecture.genotype import Genotype
from hpcnas.messages import Evaluation, Failure, Outcome, Task
from hpcnas.training.evaluator import Loaded
from hpcnas.training.trainer_process import TrainerEvaluator

PATIENT = {"hang_timeout": GUARD, "evaluation_timeout": GUARD}
Make = Callable[..., TrainerEvaluator]
Found = TypeVar("Found")


def task(individual: int, attempt: int = 1) -> Task:
    return Task(individual, attempt, Genotype(SPACE, bytes(9)), seeds=(individual, 500))


def done(individual: int) -> Evaluation:
    """What the scripted trainer makes of the task."""
    return Evaluation((individual / 1000, 0.5), 1000 + individual, 0.25, 0.5, 0.125)


def loaded(one: TrainerEvaluator) -> Loaded:
    return _in_time(lambda: one.ready(0.1))


def outcome(one: TrainerEvaluator, wanted: Task) -> Outcome:
    one.start(wanted)
    return awaited(one)


def awaited(one: TrainerEvaluator) -> Outcome:
    """The outcome of what was started."""
    return _in_time(lambda: one.poll(0.05))


def _in_time(look: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + GUARD
    while (found := look()) is None:
        assert time.monotonic() < deadline
    return found


def failure(one: TrainerEvaluator, wanted: Task) -> Failure:
    found = outcome(one, wanted)
    assert isinstance(found, Failure)
    return found


def children() -> list[psutil.Process]:
    """Living trainers of this process, and their children: a SLURM of other tests may run beside them."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if is_trainer(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return [child for child in found if lives(child)]


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + GUARD
    while any(lives(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)
