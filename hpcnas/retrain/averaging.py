"""The moving average of a network's weights over its training, to be used in their place. Nothing is trained here.

Polyak & Juditsky, *Acceleration of Stochastic Approximation by Averaging*, SIAM J. Control Optim. 30 (1992); with
exponentially fading memory, as today's image networks do it (Szegedy et al., *Rethinking the Inception Architecture*,
CVPR 2016, §8: "a running average of the parameters computed over time").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def take_in(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float, updates: int) -> None:
    """Makes averages of the first `updates` − 1 values those of `updates` of them, in place; the newest are `values`.

    The average after update t is a_t = Σ decay^(t−i) w_i / Σ decay^(t−i), i from 1 to t: a true mean from the first
    update on, whatever the averages were before it (the correction of Kingma & Ba, *Adam*, ICLR 2015, §3). Floating
    point tensors, pairwise of one shape: weights, and the statistics of batch normalisation. 0 ≤ decay < 1,
    updates ≥ 1; raises ValueError for others.
    """
    if not 0 <= decay < 1 or updates < 1:
        raise ValueError(f"expected a decay from 0 to less than 1 and updates from 1, got {decay} and {updates}")
    share = (1 - decay) / (1 - decay**updates)
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, share)
