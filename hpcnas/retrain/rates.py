"""The learning rate of each step of a retraining, as its recipe has it: what `loop` trains by, and `hpcnas verify`
computes again. No torch.
"""

from __future__ import annotations

from hpcnas.config.retraining import RetrainingSettings
from hpcnas.training import schedules


def learning_rate(training: RetrainingSettings, step: int) -> float:
    """The rate of step 0, 1, …"""
    if training.schedule == "cosine":
        scheduled = schedules.cosine(training.learning_rate, step, training.steps)
    else:
        scheduled = schedules.divided(training.learning_rate, training.milestones, step, training.steps)
    return schedules.warmed_up(scheduled, training.warm_up, step, training.steps)
