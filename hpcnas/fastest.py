"""Which way of training is the fastest on the machine at hand (D7)."""

from __future__ import annotations

import torch

from hpcnas import config, kernels, primitives
from hpcnas.canonical import expand
from hpcnas.genotype import Genotype
from hpcnas.planned import PlannedTraining
from hpcnas.skeleton import Skeleton
from hpcnas.training import Training, Trainings, number_type


def fastest_method(
    device: torch.device, threads: int, settings: config.Training, skeleton: Skeleton
) -> type[Trainings]:
    """A block plan on a GPU with Triton; the compiled C plan on one CPU thread; else the plain network."""
    if device.type == "cuda":
        try:
            from hpcnas.stacked import StackedTraining, fits
        except ImportError:  # torch for GPUs brings Triton on Linux only
            return Training
        return StackedTraining if fits(skeleton) else Training
    if threads == 1 and number_type(settings, device) is torch.float32 and kernels.load() is not None:
        return PlannedTraining
    return Training


def fitting_method(method: type[Trainings], genotype: Genotype) -> type[Trainings]:
    """That way, or the plain network's where the genotype uses a plugin's primitive: plans know the paper's alone."""
    own = genotype.space.added and any(primitives.added(edge.operation) for edge in expand(genotype).edges)
    return Training if own else method
