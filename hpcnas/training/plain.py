"""The training of the plain network, by autograd: the reference, on any device, for any genotype (§4.1).

Faster ways (`cpu.compiled`, `cuda.stacked`) must learn the same, from the same initial weights of a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.training.method import TrainingData, number_type
from hpcnas.training.network import Network, initial_weights
from hpcnas.training.single import SingleTraining


def cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over a batch, a scalar: scores real (B, classes), labels int64 (B,). With `weights` of the classes, real
    (classes,), the weighted terms are summed up and divided by B, not by the weights that happen to be here."""
    if weights is None:
        return functional.cross_entropy(scores, labels)
    return functional.cross_entropy(scores.float(), labels, weights, reduction="none").mean()


class PlainLearner:
    """The plain network and torch's optimiser."""

    def __init__(
        self, network: Network, device: torch.device, settings: TrainingSettings, weights: Tensor | None = None
    ) -> None:
        """`weights` of the classes in the loss: real (classes,)."""
        self.network: Network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._class_weights = device, weights
        self._half = number_type(settings, device) is torch.bfloat16
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def learn(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        if not self.network.training:
            self.network.train()
        with self._autocast():
            loss = cross_entropy(self.network(images), labels, self._class_weights)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def weights(self) -> list[Tensor]:
        return list(self._named().values())

    def _named(self) -> dict[str, Tensor]:
        """The weights by name."""
        named = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        return named | {name: buffer for name, buffer in self.network.named_buffers() if buffer.is_floating_point()}

    def scores(self, images: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        network = self.network.eval()
        with self._autocast():
            if weights is None:
                scores: Tensor = network(images)
            else:
                scores = functional_call(network, dict(zip(self._named(), weights, strict=True)), (images,))
        return scores

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._half)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self._optimiser.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])


class PlainTraining(SingleTraining):
    """One training of the plain network: its weights, order, crops and flips come from `seed` alone."""

    stored_name = "Training"
    _learner: PlainLearner

    @classmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> PlainTraining:
        (seed,) = seeds
        return cls(genotype, skeleton, data, settings, seed)

    def __init__(
        self, genotype: Genotype, skeleton: Skeleton, data: TrainingData, settings: TrainingSettings, seed: int
    ) -> None:
        with initial_weights(seed):
            network = Network(expand(genotype), skeleton)
        super().__init__(PlainLearner(network, data.device, settings, data.class_weights), data, settings, seed)

    def export(self, number: int = 0) -> dict[str, Tensor]:
        return self.network.state_dict()

    @property
    def network(self) -> Network:
        """What is trained."""
        return self._learner.network
