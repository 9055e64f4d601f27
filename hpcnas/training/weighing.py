"""What a trained network costs (`--objective latency`, or a plugin's), measured once a fitness, on the worker's device.

    latency   the median time of one image through the plain network in evaluation mode, TIMES times after WARM_UP, in
              the numbers that it was trained in; its spread is half of the range from the first to the third quartile

A latency depends on the device and on what else that does meanwhile: compare those of one kind of machine alone, with
one worker a device. What is done with costs is the business of `evolution.objectives`.
"""

from __future__ import annotations

import math
import statistics
import time

import torch
from torch import Tensor, nn

from hpcnas import answers, plugins

WARM_UP = 10  # passes that are not timed: libraries choose their kernels, caches fill
TIMES = 40
IMAGES = 32  # that a plugin's function is given, at the most

Cost = tuple[float, float | None]  # and its spread, where it has one


@torch.inference_mode()
def weigh(name: str, network: nn.Module, images: Tensor, half: bool) -> Cost:
    """The cost of that name of a network in evaluation mode, by some normalised images, float (N, C, H, W); with `half`
    its feature maps are bf16. Raises PluginFault where a plugin's function raises or answers no number."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        if name == "latency":
            return _latency(network, images[:1])
        whose = f"{plugins.bringer('objectives', name)}: objective {name!r}"
        answer: object = plugins.answer(whose, plugins.objectives()[name].of, network, images[:IMAGES])
    number = answers.real(answer)
    if number is None or not abs(number) <= answers.LARGEST:
        expected = f"a number from -{answers.LARGEST:g} to {answers.LARGEST:g}"
        raise plugins.PluginFault(f"{whose}: expected {expected}, got {answers.told(answer)}")
    return number, None


def _latency(network: nn.Module, image: Tensor) -> Cost:
    seconds = []
    for number in range(WARM_UP + TIMES):
        _await(image.device)
        begun = time.perf_counter()
        network(image)
        _await(image.device)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - begun)
    first, middle, third = statistics.quantiles(seconds, n=4)
    return middle, math.fabs(third - first) / 2.0


def _await(device: torch.device) -> None:
    """Waits for all that the device has to do: a GPU is given work ahead of time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
