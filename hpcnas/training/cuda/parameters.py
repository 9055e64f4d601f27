"""Several networks of one genotype for the GPU (D7): their parameters in flat arrays, and what a step reads and writes.

    block_graph.build ─► CudaPlan: parameters of R networks ─► CudaProgram: blocks for one batch's shape, launches

The plan takes and gives parameters as `network.Network` does, by its state_dict.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpcnas.training.cuda.block_graph import CudaGraph


@dataclass(frozen=True)
class Pixels:
    """Training or validation images on the device: (N, H, W, C) of any type that data have, labels int64 (N,), and how
    pixels become inputs: real (2, C), factors and summands. Where `Draws.places` are told, the images are those of one
    step."""

    images: Tensor
    labels: Tensor
    normaliser: Tensor
    class_weights: Tensor | None = None  # in the loss, real (classes,)


@dataclass(frozen=True)
class Draws:
    """What is drawn for R networks, step by step, and what comes of it; all on the device."""

    order: Tensor  # int32 (R, steps, batch): numbers of images
    offsets: Tensor  # int16 (R, steps, batch, 3): row and column of the crop, and whether it is mirrored
    step: Tensor  # int64 (1,): the step that comes next
    losses: Tensor  # real (R, steps): means over the batch, of steps that were made; zero for the others
    right: Tensor  # int32 (R,): images classified correctly so far, in validation
    scores: Tensor  # real (R, N, classes): what each network says of the N images in validation; else without numbers
    places: Tensor | None = None  # int32 (R, steps, batch): where those images lie in `Pixels`; None: by their numbers


class CudaPlan:
    """R networks of one structure: `parameters`, `gradients` and `velocity` (R, numbers), `running` (R, 2, channels),
    of `real` numbers."""

    def __init__(
        self,
        graph: CudaGraph,
        states: Sequence[Mapping[str, Tensor]],
        device: torch.device,
        maps: torch.dtype = torch.bfloat16,
        real: torch.dtype = torch.float32,
    ) -> None:
        self.graph = graph
        self.networks = len(states)
        self.device = device
        self.map_type = maps
        shape = (self.networks, graph.parameters)
        self.parameters, self.gradients, self.velocity = (
            torch.zeros(shape, dtype=real, device=device) for _ in range(3)
        )
        self.running = torch.zeros(self.networks, 2, graph.statistics, dtype=real, device=device)
        self.sums = torch.zeros(self.networks, 4, graph.statistics, dtype=real, device=device)
        self._load(states)

    def with_numbers(self, parameters: Tensor, running: Tensor) -> CudaPlan:
        """The same networks with these in place of its own, not copied, for programs that validate."""
        found = copy.copy(self)
        found.parameters, found.running = parameters, running
        return found

    # ── the plain network's state_dict ──────────────────────────────────────────────────────────────────────────────
    def _load(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Takes parameters and statistics of the plain networks."""
        graph = self.graph
        parameters = np.zeros((self.networks, graph.parameters))
        running = np.zeros((self.networks, 2, graph.statistics))
        for number, state in enumerate(states):
            for name, places in graph.indices.items():
                parameters[number][places] = state[name].numpy()
            for name, places in graph.statistics_indices.items():
                for part, of in enumerate(("mean", "var")):
                    running[number, part][places] = state[f"{name}.running_{of}"].numpy()
        self.parameters.copy_(torch.from_numpy(parameters))
        self.running.copy_(torch.from_numpy(running))

    def state_dict(self, network: int) -> dict[str, Tensor]:
        """Parameters and statistics of one of the networks as `network.Network` names and shapes them: copies."""
        running = self.running[network].cpu().numpy()
        found = self._named(self.parameters[network])
        for name, places in self.graph.statistics_indices.items():
            for part, of in enumerate(("mean", "var")):
                found[f"{name}.running_{of}"] = torch.from_numpy(running[part][places])
        return found

    def gradient_dict(self, network: int) -> dict[str, Tensor]:
        """Gradients of one of the networks, named and shaped as the plain network's parameters: copies."""
        return self._named(self.gradients[network])

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        numbers = flat.cpu().numpy()
        return {name: torch.from_numpy(numbers[places]) for name, places in self.graph.indices.items()}


class Room:
    """Memory for blocks, kept from one plan to the next; grows when it has to."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, count: int, kind: torch.dtype) -> Tensor:
        """At least so many numbers, uninitialised; the same memory at the next call with this name."""
        kept = self._kept.get((name, kind))
        if kept is None or len(kept) < count:
            self._kept.pop((name, kind), None)
            del kept
            kept = self._kept[name, kind] = torch.empty(count, dtype=kind, device=self._device)
        return kept
