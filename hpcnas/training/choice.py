"""Which way of training is the fastest on the machine at hand (D7)."""

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
    """A block plan on a GPU with Triton; compiled C plans on a CPU, one a thread; else the plain network. Whether it
    can be compiled here is found out by trying (`probing`)."""
    return PlainTraining if why_plain(device, settings, skeleton) else _compiled(device, threads)


def why_plain(device: torch.device, settings: TrainingSettings, skeleton: Skeleton) -> str:
    """Why there is nothing faster than the plain network for these settings; empty where there is."""
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
    """That way, or the plain network's where the genotype uses a plugin's primitive: plans know the paper's alone."""
    own = genotype.space.added and any(primitives.added(edge.operation) for edge in expand(genotype).edges)
    return PlainTraining if own else method


def in_little_memory(method: type[Trainings]) -> type[Trainings]:
    """That way, or another with the same results to the last bit that needs less memory on a CPU, where the kernel ends
    a process that takes too much: nothing is raised that fewer trainings at a time could answer."""
    return CompiledTraining if issubclass(method, CompiledTrainings) else method
