"""Racing: which individuals are not worth the rest of their trainings. The paper trains every child four times instead.

An individual of which n replicates are trained, of mean accuracy m, is given up where

    m + t · s · √(1/n) < bar

    s     standard deviation of one training, pooled over the individuals of the run that were trained in full:
          s² = Σ (a − ā)² / ν over all their accuracies, with ν = Σ (R − 1) degrees of freedom
    t     quantile of Student's distribution with ν degrees of freedom, at the confidence that is set
    bar   best fitness among those that compete to become parents (`Strategy.bar`)

So with that confidence it would lose against the best, in this one look and against this bar. No individual is given up
while ν is less than 20. The strategy still knows an individual that was given up, by the mean of its trainings: it can
still win a tournament that the best is not in, but is never reported as the result. An individual that is near the best
is trained in full.

The confidence says no more than that. There is one look at an individual with `scheduling = fitness` and up to R − 1
with `replicate`; so of the individuals that are as good as the bar, more than 1 − confidence are given up in all. And
the bar is the best *measured* fitness, a lucky one: its individual would reach less in new trainings. Of newcomers that
are truly as good as the truly best of 1,000 others, with four trainings and the confidence 95 %, so many are given up
(4,000 draws, ± 1.5 %; spread of the true fitness in units of the standard deviation of one training):

    spread     5       1       1/4
    1 look     8 %     13 %    26 %
    3 looks    17 %    28 %    62 %

Where networks differ as little as in the last column, any of many others will do. The figures in README.md were
measured with the rule as it is.

What is called an accuracy is whatever the fitness measures (`--fitness`), in any bounds: the rule takes differences
alone. It takes the noise to be the same for all individuals. Of a log loss it is larger for bad ones, which count in s
as well: fewer are given up then, and near the best with more than the confidence that is set.

A verdict depends on the accuracies and on the first `view` evaluations alone, where `view` is the individual's own
place in the order of evaluation: a replay can check it (D3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Strategy
from hpcnas.messages import mean

LEAST_FREEDOM = 20  # degrees of freedom from which the noise counts as known


class Racing:
    """Gives the verdicts for one population; fast where views grow, as they do in a search and in its replay."""

    def __init__(self, strategy: Strategy, confidence: float) -> None:
        self._strategy = strategy
        self._normal = NormalDist().inv_cdf(confidence)
        self._view, self._squares, self._freedom = 0, 0.0, 0

    def hopeless(self, population: Population, view: int, accuracies: Sequence[float]) -> bool:
        """Whether to give up an individual with these accuracies (0 to 1, one or more), after `view` evaluations."""
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
        """Adds the noise of the evaluations up to `view`, in their order: so the sums are the same to the last bit
        whether evaluations come one by one or together."""
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
    """The quantile of Student's distribution where the normal distribution has its quantile `normal`.

    Correct to 0.001 for 20 degrees of freedom and more (Abramowitz and Stegun 1964, 26.7.5)."""
    z = normal
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
