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

from hpcnas.retrain.draws import ImageDraws
from hpcnas.training.network import Network

Maps = Tensor | list[Tensor]  # a value between blocks; a list is that of a cell whose parts are left apart (`parts`)


def recompute(network: Network, draws: ImageDraws) -> None:
    """From now on the blocks of the network do so. What they draw comes from `draws`, and is drawn again."""
    for block in network.blocks:
        block.forward = functools.partial(_kept_less, block.forward, draws)


def _kept_less(forward: Callable[[Maps], Maps], draws: ImageDraws, maps: Maps) -> Maps:
    if not torch.is_grad_enabled():
        return forward(maps)
    with set_checkpoint_early_stop(False):  # by an exception, in the middle of what may be compiled
        found: Maps = checkpoint(_Twice(forward, draws), maps, use_reentrant=False, preserve_rng_state=False)
    return found


class _Twice:
    """A block's forward pass, which draws the second time what it has drawn the first time."""

    def __init__(self, forward: Callable[[Maps], Maps], draws: ImageDraws) -> None:
        self._forward, self._draws = forward, draws
        self._state: list[Tensor] | None = None

    def __call__(self, maps: Maps) -> Maps:
        if self._state is None:
            self._state = self._draws.state()
        else:
            self._draws.go_back(self._state)
        return self._forward(maps)
