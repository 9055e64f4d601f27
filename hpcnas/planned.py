"""The training of `training` on a compiled plan instead of the plain network: the same draws, the same function (D7).

For CPUs, one thread a training, where there is a C compiler; several workers make use of several cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcnas import config, kernels
from hpcnas.canonical import expand
from hpcnas.genotype import Genotype
from hpcnas.plan import Plan, Program
from hpcnas.skeleton import Skeleton
from hpcnas.training import Training, TrainingData, learning_rate

_VALIDATION_IMAGES = 50  # in memory at a time


class PlannedTraining(Training):
    """One training from scratch on a plan. The initial weights are the plain network's, so seeds mean the same."""

    def __init__(
        self, genotype: Genotype, skeleton: Skeleton, data: TrainingData, settings: config.Training, seed: int
    ) -> None:
        super().__init__(genotype, skeleton, data, settings, seed)
        functions = kernels.load("float32", skeleton.channels)
        assert functions is not None, "whoever chooses this method has looked"
        self._plan = Plan(expand(genotype), skeleton, functions)
        self._plan.load_state_dict(self.network.state_dict())
        self._program = Program(self._plan, settings.batch_size, self._crop_height, self._crop_width, training=True)
        self._validation: Program | None = None  # made when it is needed

    def _advance(self) -> Tensor:
        images, labels = self._batch()
        loss = self._program.learn(images, labels)
        rate = learning_rate(self._settings, self.step)
        self._plan.update(rate, self._settings.momentum, self._settings.weight_decay)
        self.step += 1
        return torch.tensor(loss)

    def _scores(self, images: Tensor) -> Tensor:
        if self._validation is None:
            height, width = images.shape[2:]
            self._validation = Program(self._plan, _VALIDATION_IMAGES, height, width, training=False)
        parts = [self._validation.classify(part).clone() for part in images.split(_VALIDATION_IMAGES)]
        return torch.cat(parts)

    def export(self) -> dict[str, Tensor]:
        """Weights and statistics as the plain network's state_dict."""
        return self._plan.state_dict()

    def state(self) -> dict[str, Any]:
        plan = self._plan
        arrays = {"parameters": plan.parameters, "velocity": plan.velocity, "running": plan.running}
        return {
            "step": self.step,
            "plan": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            "generator": self._generator.get_state(),
            "sampler": self._sampler.state(),
            "broken": self._broken,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in ("parameters", "velocity", "running"):
            np.copyto(getattr(self._plan, name), state["plan"][name].numpy())
        self._generator.set_state(state["generator"])
        self._sampler.resume(state["sampler"])
        self._broken = state["broken"]
