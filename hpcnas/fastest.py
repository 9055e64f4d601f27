"""Which way of training is the fastest on the machine at hand (D7)."""

from __future__ import annotations

import torch

from hpcnas import config, kernels
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
