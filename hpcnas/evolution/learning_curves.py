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

LEAST = 10  # complete curves from which a line is known


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


def outcomes(population: Population, view: int) -> tuple[np.ndarray, np.ndarray]:
    """What the first `view` evaluations say of fitness: ids, int64 (n,), and the fitness of each, float64 (n,), in the
    order in which it was known. Of individuals that were stopped at a rung before, it is the final accuracy that their
    line expects, and nothing where there is no line."""
    ids, fitness = population.competing(view), population.column("fitness")
    stopped, expected = _expected(population, view)
    if not len(stopped):
        return ids, fitness[ids]
    order = population.evaluated[:view]
    places = np.empty(len(population), dtype=np.int64)
    places[order] = np.arange(len(order))
    when = np.concatenate([2 * places[ids] + 1, 2 * population.column("stopped_after")[stopped]])
    known = np.argsort(when, kind="stable")
    return np.concatenate([ids, stopped])[known], np.concatenate([fitness[ids], expected])[known]


def _expected(population: Population, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Those that were stopped before, in order, as far as there is a line for the rung where that was: ids, int64, and
    final accuracies, float64, both (n,)."""
    ids = population.stopped_before(view)
    if not len(ids):
        return ids, np.empty(0)
    curves, together = _curves(population, ids), population.column("judged")[ids]
    rungs = np.isfinite(curves[:, 0]).sum(axis=1) - 1
    reached = _mean_of_first(curves[np.arange(len(ids)), :, rungs], together)
    ends = [(math.nan, math.nan) if line is None else (line.intercept, line.slope) for line in lines(population, view)]
    intercept, slope = np.array(ends)[rungs].T
    final = intercept + slope * reached
    there = np.isfinite(final)
    return ids[there], final[there]


def complete(population: Population, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies at the rungs, float64 (n, rungs), and final ones, (n,), of the individuals among the first `view`
    evaluated that have both, in the order of evaluation. Confirmations are left out: nothing decides which they are
    but how good they were. What they confirm stays."""
    ids = population.evaluated[:view]
    reached, final = mean_curves(population, ids[population.column("birth")[ids] != Birth.CONFIRMATION])
    whole = np.isfinite(reached).all(axis=1) & np.isfinite(final)
    return reached[whole], final[whole]


def mean_curves(population: Population, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracies at the rungs, float64 (ids, rungs), and at the end, (ids,), of the replicates of individuals that
    were held against floors together, else of the first one; NaN where there are none."""
    together = np.maximum(population.column("judged")[ids], 1)
    final = _mean_of_first(population.column("accuracies")[ids], together)
    return _mean_of_first(_curves(population, ids), together), final


def _curves(population: Population, ids: np.ndarray) -> np.ndarray:
    """The learning curves of individuals: float64 (n, replicates, rungs), NaN where a replicate did not come."""
    return population.column("curves")[ids].reshape(len(ids), population.replicates, len(population.rungs))


def _mean_of_first(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of the first so many of (n, replicates, …), one count a row: float64 (n, …)."""
    counts = counts.reshape(-1, *[1] * (values.ndim - 2))
    total = np.zeros((len(values), *values.shape[2:]))
    for number in range(values.shape[1]):  # one after the other: `sum` of numpy has no order
        total += np.where(number < counts, values[:, number], 0.0)
    return total / counts


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
