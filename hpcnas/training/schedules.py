"""How settings change in the course of a training, as functions of the step. The standard library alone.

Steps count from 0; a training of `steps` makes the steps 0 to steps − 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def divided(first: float, milestones: Sequence[float], step: int, steps: int) -> float:
    """The learning rate that begins as `first` and is divided by 10 at each milestone, a share of the steps (§4.1)."""
    passed = sum(step >= round(share * steps) for share in milestones)
    return first * 0.1**passed


def cosine(first: float, step: int, steps: int) -> float:
    """The learning rate that falls from `first` to 0 along half a cosine: first · (1 + cos(π · step / steps)) / 2.

    Loshchilov & Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, ICLR 2017, eq. 5, without a restart and
    with a least rate of 0.
    """
    return first * (1 + math.cos(math.pi * step / steps)) / 2


def warmed_up(rate: float, share: float, step: int, steps: int) -> float:
    """The learning rate of a schedule, or less of it in the first w = round(share · steps) steps:
    rate · (step + 1) / w, which rises in a straight line where the schedule stays.

    Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*, 2017, §2.2 (gradual warm-up). They begin
    with the rate of one worker; here the first step has rate / w, whatever the number of workers.
    """
    warming = round(share * steps)
    return rate * (step + 1) / warming if step < warming else rate


def rising(last: float, step: int, steps: int) -> float:
    """What rises in a straight line from 0 to `last`, which step `steps` would have: last · step / steps.

    The probability of drop-path that Zoph et al. schedule so (*Learning Transferable Architectures for Scalable Image
    Recognition*, CVPR 2018: ScheduledDropPath).
    """
    return last * step / steps
