"""Feature maps of a block, a cell or what follows it, that are not kept for the backward pass but computed again in it.

Of each block its input stays alone; one block's maps at a time are there besides (Chen et al., *Training Deep Nets with
Sublinear Memory Cost*, 2016). A step computes the same bits, and its forward pass twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.sizes import step_memory
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain.draws import ImageDraws
from hpcnas.training.network import Network

_BESIDE = 1.2  # what a step takes, in feature maps that it keeps: gradients and workspaces are there too


def is_needed(graph: CellGraph, trained_on: Skeleton, images: int, number_bytes: int, free: int) -> bool:
    """Whether a step that has so many images in the network at a time takes more memory than is free, in bytes, unless
    it computes feature maps again. `trained_on` has the height and width of images as they are trained on."""
    return _BESIDE * images * step_memory(graph, trained_on).bytes(number_bytes) > free


def recompute(network: Network, draws: ImageDraws) -> None:
    """From now on the blocks of the network do so. What they draw comes from `draws`, and is drawn again."""
    for block in network.blocks:
        block.forward = functools.partial(_kept_less, block.forward, draws)


def _kept_less(forward: Callable[[Tensor], Tensor], draws: ImageDraws, maps: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(maps)
    with set_checkpoint_early_stop(False):  # by an exception, in the middle of what may be compiled
        found: Tensor = checkpoint(_Twice(forward, draws), maps, use_reentrant=False, preserve_rng_state=False)
    return found


class _Twice:
    """A block's forward pass, which draws the second time what it has drawn the first time."""

    def __init__(self, forward: Callable[[Tensor], Tensor], draws: ImageDraws) -> None:
        self._forward, self._draws = forward, draws
        self._state: list[Tensor] | None = None

    def __call__(self, maps: Tensor) -> Tensor:
        if self._state is None:
            self._state = self._draws.state()
        else:
            self._draws.go_back(self._state)
        return self._forward(maps)
