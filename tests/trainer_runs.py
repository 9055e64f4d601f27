"""Trainings by a real trainer child and, for comparison, in this process: one small task, and what tests do with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from patience import GUARD

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.data.datasets import load_training
from hpcnas.messages import Evaluation, Task
from hpcnas.training import trainer_loop
from hpcnas.training.choice import fastest_method
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData
from hpcnas.training.trainer_process import TrainerEvaluator

torch.set_num_threads(1)

SPACE = Space.parse("2x3/1x3")
GENOTYPE = Genotype(SPACE, bytes([3, 1, 5, 2, 4, 1, 1, 2, 1]))
TASK = Task(individual=4, attempt=1, genotype=GENOTYPE, seeds=(11, 12))
AGAIN = dataclasses.replace(TASK, attempt=2)
SETTINGS = {
    "search": {"space": str(SPACE)},
    "network": {"channels": 4, "groups": 2},
    "training": {"replicates": 2, "steps": 20, "batch_size": 16},
    "data": {"source": "synthetic:400:3x8x8"},
}


def settings(folder: Path, **changes: dict[str, object]) -> SearchConfig:
    return search_config.build(SETTINGS, {"run": {"run": str(folder), "hang_timeout": GUARD}}, changes)


def directly(chosen: SearchConfig, floors: tuple[float, ...] = ()) -> FitnessInProgress:
    """The evaluation as it is without a child."""
    cpu = torch.device("cpu")
    data = TrainingData.prepare(load_training(chosen.data.source), chosen.data, cpu)
    skeleton = chosen.skeleton(data.facts)
    method = fastest_method(cpu, 1, chosen.training, skeleton)
    return FitnessInProgress(GENOTYPE, TASK.seeds, skeleton, data, chosen.training, method, floors)


def nothing() -> None:
    """Called back where a test does not care."""


def same(found: object, expected: Evaluation) -> bool:
    """Equal but for the time it took."""
    assert isinstance(found, Evaluation), found
    return (found.accuracies, found.parameters) == (expected.accuracies, expected.parameters)


Start = Callable[..., TrainerEvaluator]


def await_checkpoint(one: TrainerEvaluator, path: Path, finished: int) -> None:
    """Lets the training go on until there is a checkpoint with so many finished replicates."""
    deadline = time.monotonic() + GUARD
    while not path.exists() or len(torch.load(path, weights_only=True)["accuracies"]) < finished:
        assert one.poll(0.005) is None and time.monotonic() < deadline


@dataclasses.dataclass
class SilentPipe:
    """A worker that says nothing."""

    sent: list[object] = dataclasses.field(default_factory=list)

    def send(self, message: object) -> None:
        self.sent.append(message)

    def poll(self) -> bool:
        return False


def attended(folder: Path, interval: float) -> tuple[FitnessInProgress, trainer_loop.Attendance]:
    """An evaluation of the task in this process, and who attends to it, saving every `interval` seconds."""
    chosen = settings(folder, run={"checkpoint_interval": interval})
    fitness = directly(chosen)
    return fitness, trainer_loop.Attendance(SilentPipe(), chosen, "4.pt", fitness)  # type: ignore[arg-type]
