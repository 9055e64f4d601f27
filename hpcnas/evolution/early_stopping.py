"""Early stopping: which trainings are not worth the rest of their steps (`--early-stopping`). Not the paper's.

At each rung a training is validated. There the trainings that begin a fitness, one or several side by side, end
together where their mean accuracy x is so low that

    a + b · x + t · s · √(1 + 1/n) < bar

    a, b, s   intercept and slope of the line from accuracies at this rung to final ones, and the deviation from it, of
              n complete curves of this run (`learning_curves`)
    t         quantile of Student's distribution with n − 2 degrees of freedom, at the confidence that is set
    bar       best fitness among those that compete to become parents (`Strategy.bar`)

So with that confidence their final accuracy would lose against the best. The least x that goes on is the rung's floor,
and a task carries its floors: a worker asks nobody on its way. They are those of the individual's own birth, a function
of its view alone, so that every worker, every attempt and a replay find the same (D3). There are none while fewer than
`learning_curves.LEAST` curves are complete.

What was stopped has a learning curve and no fitness: it is no parent, no result and no bar. Guided evolution learns
from what its final accuracy would have been by the line. An individual's later trainings, those that repeat a network,
and confirmations are never stopped.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from hpcnas.evolution.individuals import Individual, State
from hpcnas.evolution.learning_curves import Line, lines
from hpcnas.evolution.population import Population
from hpcnas.evolution.racing import student_quantile
from hpcnas.evolution.strategy import Strategy, rounded
from hpcnas.evolution.tasks import Replicates

NO_FLOOR = -math.inf


class EarlyStopping:
    """Gives the floors for one population; fast where views grow, as they do in a search and in its replay."""

    def __init__(self, strategy: Strategy, confidence: float) -> None:
        self._strategy = strategy
        self._normal = NormalDist().inv_cdf(confidence)
        self._known: tuple[Population, int] | None = None
        self._floors: tuple[float, ...] = ()

    def floors_of(self, population: Population, individual: Individual, replicates: Replicates) -> tuple[float, ...]:
        """The floors of a task; () where it is never stopped."""
        if replicates.first or individual.repeats is not None:
            return ()
        return self.floors(population, individual.view)

    def floors(self, population: Population, view: int) -> tuple[float, ...]:
        """The least accuracy at each rung with which to go on, of an individual that was born knowing so many
        evaluations; NO_FLOOR where any will do. They are made anew after every 32nd part of the evaluations at most."""
        known = rounded(view)
        if self._known is None or self._known[0] is not population or self._known[1] != known:
            bar = self._strategy.bar(population, known) if known else None
            self._floors = tuple(self._floor(line, bar) for line in lines(population, known))
            self._known = population, known
        return self._floors

    def _floor(self, line: Line | None, bar: float | None) -> float:
        if line is None or bar is None:
            return NO_FLOOR
        margin = student_quantile(self._normal, line.count - 2) * line.deviation * math.sqrt(1.0 + 1.0 / line.count)
        return (bar - margin - line.intercept) / line.slope


def stopped_at(population: Population) -> list[int]:
    """How many individuals were stopped at each rung."""
    curves = population.column("curves")[np.flatnonzero(population.column("state") == State.STOPPED)]
    lengths = np.isfinite(curves[:, : len(population.rungs)]).sum(axis=1)  # of the first replicate, as of all
    return np.bincount(lengths - 1, minlength=len(population.rungs)).tolist()
