"""What the model of guided evolution has said of the individuals that it chose, and what was then measured of them.

    individual ─► its view ─► the model of that view, learned anew ─► predicted ─┬─► rank correlation, of all
                                          what its own trainings gave ─► measured ┘    and of windows along the run

A prediction is that of the model which chose the individual, and so is older than the measurement: the mean over its
weights, not the draw by which it chose. What comes from elsewhere has none: random networks, founders, confirmations,
and births of plain evolution while the model knew too little or did not help. Everything follows from the run alone.

Models are as many as the search has learned: 32 for each doubling of its evaluations. Of more than MOST individuals,
every so manieth is looked at. Draws nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnas.analysis.curves import Curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.evolution.guided import rank_correlation, told_prediction
from hpcnas.evolution.registry import guiding
from hpcnas.messages import mean

MOST = 8192  # individuals that are looked at
LEAST = 5  # individuals of which a rank correlation tells something
WINDOW = 40  # individuals in a window, at the least
WINDOWS = 20


class Unguided(AnalysisError):
    """No model has chosen anything in this run that could be compared: why, in words."""


@dataclass(frozen=True)
class Window:
    """Some of the individuals, one after the other."""

    first: int  # evolution step
    last: int
    individuals: int
    correlation: float | None  # None where all predictions, or all measurements, are equal

    @property
    def chance(self) -> float:
        """What a rank correlation stays below in size, in 95 of 100 windows, where predictions mean nothing."""
        return 1.96 / math.sqrt(self.individuals - 1)

    def numbers(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "first_step": self.first,
            "last_step": self.last,
            "individuals": self.individuals,
            "rank_correlation": self.correlation,
        }


@dataclass(frozen=True)
class Guidance:
    """Predictions and measurements in the order of the evaluations; arrays of shape (individuals,)."""

    run: Curves
    ids: np.ndarray
    step: np.ndarray  # places in the order of evaluations, from 1
    predicted: np.ndarray  # fitness; it may lie outside of 0 to 1
    measured: np.ndarray  # mean accuracy of the individual's own trainings, from 0 to 1
    every: int  # of so many individuals that could be looked at, one was

    @classmethod
    def of(cls, run: Curves) -> Guidance:
        """That of a run, which may be under way. Raises Unguided where no model has chosen an individual that is
        evaluated."""
        search, population = run.stored.config.search, run.stored.population
        if search.strategy != "guided":
            raise Unguided(f"expected a run of --strategy guided, got one of {search.strategy}")
        steps = np.flatnonzero(run.mutated & np.isfinite(run.fitness))
        every = max(1, math.ceil(len(steps) / MOST))
        steps = steps[::every]
        strategy = guiding(run.stored.config, run.stored.sessions[0].facts) if run.stored.sessions else None
        if strategy is None:
            raise Unguided("expected a run that has begun")
        views, found = population.column("view"), dict[int, float]()
        for id in sorted(run.ids[steps].tolist(), key=lambda id: (views[id], id)):  # a model is learned once
            predicted = strategy.predicted(population, int(views[id]), id)
            if predicted is not None:
                found[id] = predicted
        if not found:
            told = told_prediction(strategy.model(population, population.searched_view))
            raise Unguided(f"expected an evaluated individual that the model has chosen; predictions: {told}")
        steps = steps[np.isin(run.ids[steps], list(found))]
        ids = run.ids[steps]
        predictions = np.array([found[id] for id in ids.tolist()])
        measured = np.array([mean(population.accuracies(id)) for id in ids.tolist()])
        return cls(run, ids, steps + 1, predictions, measured, every)

    @property
    def correlation(self) -> float | None:
        """Spearman's, of all; None of fewer than LEAST, or where all of one are equal."""
        return correlation(self.predicted, self.measured)

    @property
    def windows(self) -> list[Window]:
        """As `windows` has it."""
        return windows(self.step, self.predicted, self.measured)

    def numbers(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "individual": self.ids,
            "step": self.step,
            "predicted": self.predicted,
            "measured": self.measured,
            "every": self.every,
            "rank_correlation": self.correlation,
            "windows": [window.numbers() for window in self.windows],
        }


def windows(step: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> list[Window]:
    """Windows of one size along the run, up to one more or less: as many as have WINDOW individuals, from 1 to
    WINDOWS; none of fewer than LEAST individuals."""
    if len(step) < LEAST:
        return []
    count = min(max(1, len(step) // WINDOW), WINDOWS)
    return [
        Window(int(step[part[0]]), int(step[part[-1]]), len(part), correlation(predicted[part], measured[part]))
        for part in np.array_split(np.arange(len(step)), count)
    ]


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's, of two arrays of shape (n,); None of fewer than LEAST, or where all of one are equal."""
    return rank_correlation(one, other) if len(one) >= LEAST else None
