"""Which way of training is used: the fastest that fits the device, the settings and the genotype (D7)."""

from __future__ import annotations

import torch

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.training.cpu.compiled import CompiledTraining, CompiledTrainings, on_threads
from hpcnas.training.method import Trainings, number_type
from hpcnas.training.plain import PlainTraining


def fastest_method(
    device: torch.device, threads: int, settings: TrainingSettings, skeleton: Skeleton
) -> type[Trainings]:
    """StackedTraining on a GPU with Triton; CompiledTraining on a CPU, one a thread; else PlainTraining. Whether its
    kernels can be compiled here, `probing` finds out."""
    return PlainTraining if why_plain(device, settings, skeleton) else _compiled(device, threads)


def why_plain(device: torch.device, settings: TrainingSettings, skeleton: Skeleton) -> str:
    """The reason why nothing faster than the plain network serves these settings; empty where something does."""
    if device.type == "cuda":
        try:
            from hpcnas.training.cuda.stacked import fits
        except ImportError as error:  # torch for GPUs brings Triton on Linux only
            return f"Triton is not there ({error})"
        return "" if fits(skeleton) else "the GPU kernels are not made for images and channels of these sizes"
    return "" if number_type(settings, device) is torch.float32 else "the C kernels compute in fp32 alone (--precision)"


def _compiled(device: torch.device, threads: int) -> type[Trainings]:
    if device.type == "cuda":
        from hpcnas.training.cuda.stacked import StackedTraining

        return StackedTraining
    return on_threads(threads)


def fitting_method(method: type[Trainings], genotype: Genotype) -> type[Trainings]:
    """The method, or PlainTraining where the genotype uses a plugin's primitive, which the other ways do not know."""
    own = genotype.space.added and any(primitives.added(edge.operation) for edge in expand(genotype).edges)
    return PlainTraining if own else method


def in_little_memory(method: type[Trainings]) -> type[Trainings]:
    """The method, or another with the same results to the last bit that needs less memory. On a CPU, the kernel ends a
    process that takes too much, so that no exception tells to train fewer at a time."""
    return CompiledTraining if issubclass(method, CompiledTrainings) else method
