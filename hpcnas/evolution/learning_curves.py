"""What a training's accuracy at a rung says of its final accuracy, in this run: a straight line with its spread.

    final accuracy = intercept + slope · accuracy at the rung ± deviation

It is fitted, rung by rung, to the complete curves of the individuals among the first `view` evaluations: to the means
of the replicates that were held against floors together, else of the first one. Individuals that were stopped have no
final accuracy; leaving out what is low at the rung does not shift the line. Sums are taken in the order of replicates
or by `math.fsum`, so that they are equal to the last bit on every machine (D3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population

LEAST = 20  # complete curves from which a line is known


@dataclass(frozen=True, slots=True)
class Line:
    """Of one rung. `deviation` is the standard deviation of a final accuracy from the line, of `count` curves."""

    intercept: float
    slope: float
    deviation: float
    count: int

    def final(self, accuracy: float) -> float:
        """The final accuracy that is expected after this one at the rung."""
        return self.intercept + self.slope * accuracy


def lines(population: Population, view: int) -> tuple[Line | None, ...]:
    """The line of each rung; None where too few curves are known, or nothing follows from them."""
    rungs, final = complete(population, view)
    return tuple(fitted(rung, final) for rung in rungs.T)


def complete(population: Population, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies at the rungs, float64 (n, rungs), and final ones, (n,), of the individuals among the first `view`
    evaluated that have both, in the order of evaluation. Confirmations are left out: nothing decides which they are
    but how good they were. What they confirm stays."""
    ids = population.evaluated[:view]
    ids = ids[population.column("birth")[ids] != Birth.CONFIRMATION]
    together = np.maximum(population.column("judged")[ids], 1)
    accuracies = population.column("accuracies")[ids]
    curves = population.column("curves")[ids].reshape(len(ids), population.replicates, len(population.rungs))
    reached, final = np.zeros((len(ids), len(population.rungs))), np.zeros(len(ids))
    for number in range(population.replicates):  # one after the other: `sum` of numpy has no order
        among = number < together
        reached += np.where(among[:, None], curves[:, number], 0.0)
        final += np.where(among, accuracies[:, number], 0.0)
    reached, final = reached / together[:, None], final / together
    whole = np.isfinite(reached).all(axis=1) & np.isfinite(final)
    return reached[whole], final[whole]


def fitted(reached: np.ndarray, final: np.ndarray) -> Line | None:
    """The line of least squares through accuracies at a rung and final ones, both float64 (n,)."""
    count = len(reached)
    if count < LEAST:
        return None
    middle, goal = math.fsum(reached) / count, math.fsum(final) / count
    across, up = reached - middle, final - goal
    squares = math.fsum(across * across)
    if squares == 0.0:
        return None
    slope = math.fsum(across * up) / squares
    if slope <= 0.0:  # who is behind here comes out ahead: that cannot be gone by
        return None
    left = up - slope * across
    return Line(goal - slope * middle, slope, math.sqrt(math.fsum(left * left) / (count - 2)), count)
