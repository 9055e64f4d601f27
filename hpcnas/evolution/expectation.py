"""What new trainings of a network would give, by what a model says of it and by what was measured of it.

    f = p + u,      u ~ N(0, τ²)     p: the model's prediction; u: what is particular to the network
    m = f + noise,  N(0, σ²/n)       the mean of its n trainings

    E f = p + (m − p) · τ² / (τ² + σ²/n)

The model knows τ² + σ², the variance of what was measured about what it predicts. σ² is pooled over the trainings of
every network that had several; while these are few, half of τ² + σ² counts as much as PRIOR degrees of freedom of
theirs. τ² is the rest. So a network that was trained often is judged by its trainings, and a lucky one by the networks
that are like it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnas.messages import mean

PRIOR = 8  # degrees of freedom that the guess at the noise is worth
LEAST = 0.02  # τ² / σ²


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a network: its prediction, the mean of its `count` trainings, and Σ (a − ā)² over them."""

    predicted: float
    mean: float
    count: int
    squares: float

    @classmethod
    def of(cls, predicted: float, accuracies: Sequence[float]) -> Measured:
        """A network of that prediction with these accuracies, one at least."""
        middle = mean(accuracies)
        return cls(predicted, middle, len(accuracies), math.fsum((one - middle) ** 2 for one in accuracies))


def expected(networks: Sequence[Measured], variance: float) -> list[float]:
    """The expected fitness of each, of one at least; `variance` is τ² + σ², above 0. Predictions may all be wrong by
    the same number."""
    shift = mean([one.mean - one.predicted for one in networks])
    noise, own = variances(networks, variance)
    found = []
    for one in networks:
        predicted = one.predicted + shift
        found.append(predicted + (one.mean - predicted) * own / (own + noise / one.count))
    return found


def variances(networks: Sequence[Measured], variance: float) -> tuple[float, float]:
    """σ² and τ², both above 0."""
    freedom = sum(one.count - 1 for one in networks)
    noise = (math.fsum(one.squares for one in networks) + PRIOR * variance / 2.0) / (freedom + PRIOR)
    return noise, max(variance - noise, LEAST * noise)
