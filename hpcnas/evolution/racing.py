"""Racing: which individuals are not worth their other trainings. Not the paper's, which trains every child four times.

An individual of which n replicates are trained, of mean accuracy m, is given up where

    m + t · s · √(1/n) < bar

    s     standard deviation of one training, pooled over the individuals of the run that were trained in full:
          s² = Σ (a − ā)² / ν over all their accuracies, with ν = Σ (R − 1) degrees of freedom
    t     quantile of Student's distribution with ν degrees of freedom, at the confidence that is set
    bar   fitness of the best that compete for becoming parents (`Strategy.bar`)

So with that confidence it would lose against the best, in this one look and against this bar. Until ν is 20 nobody is
given up. The strategy still knows an individual that was given up, by the mean of what was trained: it may win a
tournament without the best, and is neither the result of the search nor will it be. Whoever is near the best is
measured in full.

The confidence is no more than that. There is one look at an individual with `scheduling = fitness` and up to R − 1 with
`replicate`, so that all in all one as good as the bar is given up more often than 1 − confidence says. And the bar is
the best *measured* fitness, a lucky one: its owner would have less in new trainings. Both err towards giving up; the
figures in README.md were measured with the rule as it is.

A verdict depends on the accuracies and on the first `view` evaluations alone, `view` being the individual's own place
in the order of evaluation: it can be checked at replay (D3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Strategy
from hpcnas.messages import mean

LEAST_FREEDOM = 20  # degrees of freedom that a noise must be known from


class Racing:
    """Verdicts for one population, quick where views grow, as they do in a search and in its replay."""

    def __init__(self, strategy: Strategy, confidence: float) -> None:
        self._strategy = strategy
        self._normal = NormalDist().inv_cdf(confidence)
        self._view, self._squares, self._freedom = 0, 0.0, 0

    def hopeless(self, population: Population, view: int, accuracies: Sequence[float]) -> bool:
        """Whether an individual with these accuracies is given up, knowing the first `view` evaluations."""
        self._learn(population, view)
        if self._freedom < LEAST_FREEDOM:
            return False
        bar = self._strategy.bar(population, view)
        if bar is None:
            return False
        deviation = math.sqrt(self._squares / self._freedom)
        quantile = student_quantile(self._normal, self._freedom)
        return mean(accuracies) + quantile * deviation * math.sqrt(1.0 / len(accuracies)) < bar

    def _learn(self, population: Population, view: int) -> None:
        """Takes the noise of the first `view` evaluations in, in their order: sums are then the same to the last bit
        whether they come one by one or together."""
        if view < self._view:
            self._view, self._squares, self._freedom = 0, 0.0, 0
        ids = population.evaluated[self._view : view]
        self._view = view
        full = ids[population.column("replicates_trained")[ids] == population.replicates]
        if len(full) == 0 or population.replicates < 2:
            return
        accuracies = population.column("accuracies")[full]
        replicates = [accuracies[:, number] for number in range(population.replicates)]
        means = sum(replicates) / population.replicates
        squares = sum((replicate - means) ** 2 for replicate in replicates)
        self._squares = float(np.add.accumulate(np.concatenate([[self._squares], squares]))[-1])
        self._freedom += len(full) * (population.replicates - 1)


def student_quantile(normal: float, freedom: int) -> float:
    """The quantile of Student's distribution where the normal one has its quantile `normal`, to 0.001 for 20 degrees of
    freedom and more (Abramowitz and Stegun 1964, 26.7.5)."""
    z = normal
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
