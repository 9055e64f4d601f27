"""The moving average of a training's weights that rungs validate in place of the weights. Not the paper's.

    after step t = 1, 2, …    average += share(t) · (weights − average),    share(t) = (η + 1) / (t + η),    η = 4

While the learning rate is high the weights jump about, and with them their accuracy; that of their average tells better
how good a network will be. Its window is a fixed share of the steps made so far, about a fifth: step t counts as t to
the power of η. This is the polynomial-decay averaging of Shamir & Zhang, *Stochastic Gradient Descent for Non-smooth
Optimization: Convergence Results and Optimal Averaging Schemes*, ICML 2013, §4.

Averaged are the parameters and the running statistics of batch normalisation. The training takes no notice of it, and
its final accuracy is that of its weights.
"""

from __future__ import annotations

from hpcnas.config.search import TrainingSettings

_POWER = 4  # η


def share(step: int) -> float:
    """What the weights after this step, from 1, are of the average then: 1 after the first, and then less and less."""
    return (_POWER + 1) / (step + _POWER)


def averaged_steps(settings: TrainingSettings) -> int:
    """After how many steps the average is needed last: at the last rung; 0 where there are no rungs."""
    return max(settings.rung_steps, default=0)
