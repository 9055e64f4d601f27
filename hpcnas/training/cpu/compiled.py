"""Training on a compiled plan instead of the plain network: the same draws, the same function (D7).

For CPUs, one thread a training, where there is a C compiler. A worker of several threads trains as many replicates side
by side: while kernels run, others of this process do.

Measured (the paper's cell, c0 = 16, batch 64, 2 replicates, 2 cores of an AMD EPYC with AVX-512, by turns, n = 6): two
threads train them 1.87 times as fast as one (1.82 to 1.89).
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.training.cpu import kernels
from hpcnas.training.cpu.parameters import CpuPlan
from hpcnas.training.cpu.program import CpuProgram
from hpcnas.training.method import TrainingData, Trainings, ValidationScores, crop_size
from hpcnas.training.network import Network, initial_weights
from hpcnas.training.single import SingleTraining

_VALIDATION_IMAGES = 50  # in memory at a time
_BETWEEN_BEATS = 0.2  # seconds, while all threads validate
_STATE = ("parameters", "velocity", "running")  # arrays of a plan that the steps to come depend on


class CompiledLearner:
    """A network as compiled C kernels know it."""

    def __init__(
        self, plan: CpuPlan, settings: TrainingSettings, crop: tuple[int, int], weights: Tensor | None = None
    ) -> None:
        """`crop`: height and width of the images that it learns from, in pixels; `weights` of the classes in the loss,
        real (classes,)."""
        self._plan = plan
        self._settings = settings
        self._program = CpuProgram(plan, settings.batch_size, *crop, training=True, class_weights=weights)
        self._validated = plan.twin()  # takes the numbers that are to be validated
        self._validation: CpuProgram | None = None  # made when it is needed

    def learn(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        loss = self._program.learn(images, labels)
        self._plan.update(rate, self._settings.momentum, self._settings.weight_decay)
        return torch.tensor(loss)

    def weights(self) -> list[Tensor]:
        return _weights(self._plan)

    def scores(self, images: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        if self._validation is None:
            height, width = images.shape[2:]
            self._validation = CpuProgram(self._validated, _VALIDATION_IMAGES, height, width, training=False)
        for room, values in zip(_weights(self._validated), weights or self.weights(), strict=True):
            room.copy_(values)
        parts = [self._validation.classify(part).clone() for part in images.split(_VALIDATION_IMAGES)]
        return torch.cat(parts)

    def state(self) -> dict[str, Any]:
        return {name: torch.from_numpy(getattr(self._plan, name).copy()) for name in _STATE}

    def resume(self, state: dict[str, Any]) -> None:
        for name in _STATE:
            np.copyto(getattr(self._plan, name), state[name].numpy())


def _weights(plan: CpuPlan) -> list[Tensor]:
    """Views of a plan's parameters and statistics."""
    return [torch.from_numpy(plan.parameters), torch.from_numpy(plan.running)]


class CompiledTraining(SingleTraining):
    """One training on a plan. The initial weights are the plain network's, so seeds mean the same."""

    stored_name = "PlannedTraining"

    @classmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> CompiledTraining:
        (seed,) = seeds
        return cls(genotype, skeleton, data, settings, seed)

    def __init__(
        self, genotype: Genotype, skeleton: Skeleton, data: TrainingData, settings: TrainingSettings, seed: int
    ) -> None:
        graph = expand(genotype)
        with initial_weights(seed):
            network = Network(graph, skeleton)
        self._plan = CpuPlan(graph, skeleton, kernels.load("float32", skeleton.channels))
        self._plan.load_state_dict(network.state_dict())
        learner = CompiledLearner(self._plan, settings, crop_size(settings, data.facts), data.class_weights)
        super().__init__(learner, data, settings, seed)

    @classmethod
    def kind(cls, skeleton: Skeleton) -> str:
        return f"{cls.stored_name} {kernels.load('float32', skeleton.channels).lanes}"

    def export(self, number: int = 0) -> dict[str, Tensor]:
        return self._plan.state_dict()


class _Unwanted(Exception):
    """What a thread computes is not needed any more."""


class CompiledTrainings(Trainings):
    """Compiled trainings side by side, each in a thread of its own; bit for bit what each of them is alone.

    They take their steps together, so that between two of them the state of all may be taken. Make classes of it with
    `on_threads`.
    """

    stored_name = "PlannedTrainings"

    @classmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> CompiledTrainings:
        return cls([CompiledTraining(genotype, skeleton, data, settings, seed) for seed in seeds])

    @classmethod
    def kind(cls, skeleton: Skeleton) -> str:
        return f"{cls.stored_name} of {CompiledTraining.kind(skeleton)}"

    def __init__(self, trainings: list[CompiledTraining]) -> None:
        self._all = trainings
        self._pool = ThreadPoolExecutor(len(trainings), initializer=torch.set_num_threads, initargs=(1,))

    @property
    def step(self) -> int:  # type: ignore[override]
        return self._all[0].step

    @property
    def waited(self) -> float | None:
        each = [training.waited for training in self._all]  # at the same time
        return None if None in each else statistics.fmean(seconds for seconds in each if seconds is not None)

    @property
    def _steps(self) -> int:
        return self._all[0]._settings.steps

    def run(self, beat: Callable[[], None], until: int | None = None) -> None:
        end = self._steps if until is None else until
        while self.step < end:
            for _ in self._pool.map(CompiledTraining.advance, self._all):
                pass
            beat()

    def validated(self, beat: Callable[[], None], averaged: bool = False) -> tuple[ValidationScores, ...]:
        unwanted = threading.Event()

        def go_on() -> None:
            if unwanted.is_set():
                raise _Unwanted

        found = [self._pool.submit(training.validate, go_on, averaged) for training in self._all]
        try:
            while wait(found, timeout=_BETWEEN_BEATS).not_done:
                beat()
        except BaseException:
            unwanted.set()
            raise
        return tuple(future.result() for future in found)

    def export(self, number: int = 0) -> dict[str, Tensor]:
        return self._all[number].export()

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "each": [training.state() for training in self._all]}

    def resume(self, state: dict[str, Any]) -> None:
        for training, its_state in zip(self._all, state["each"], strict=True):
            training.resume(its_state)


def on_threads(threads: int) -> type[Trainings]:
    """The way to train on so many threads."""
    if threads == 1:
        return CompiledTraining
    return type("CompiledTrainings", (CompiledTrainings,), {"side_by_side": threads})
