"""What the model of guided evolution predicted of the individuals that it chose, and what was then measured of them.

    a look ─► predictions that are known ─► as many more as SLICE seconds allow ─► "so many of so many"
                     ▲                                      │
                     └──────────────── kept ◄───────────────┘

As `analysis.guidance` has it: each prediction is that of the model which chose the individual, and models are learned
anew, which takes seconds in all. No look does more than SLICE seconds of that, and at least one prediction: a page that
asks again and again gets them all, and keeps nobody waiting meanwhile. A prediction never changes, for it follows from
the evaluations that were known before the birth. Of more than MOST individuals every 2^k-th is looked at.
"""

from __future__ import annotations

import math
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcnas.analysis import guidance
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.evolution.guided import Guided, told_prediction
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import guiding_alone
from hpcnas.job.terminal import one_line
from hpcnas.messages import mean

MOST = 4096  # individuals that are looked at
SLICE = 0.2  # seconds of learning a look


@dataclass
class _Known:
    """What has been found out of a population."""

    strategy: Guided
    predicted: dict[int, float | None] = field(default_factory=dict)  # None of births of plain evolution


_known: weakref.WeakKeyDictionary[Population, _Known] = weakref.WeakKeyDictionary()


def predictions(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Fitness as it was predicted and as it was measured, in the order of evaluations; `computed` of `of` individuals
    have been looked at so far. Not `available`: `why`."""
    stored = run.stored
    search, population = stored.config.search, stored.population
    if search.strategy != "guided":
        return _nothing(f"the strategy of this search, {one_line(search.strategy)}, predicts nothing")
    if not stored.sessions:
        return _nothing("the search has not begun")
    if population not in _known:
        strategy = guiding_alone(stored.config, stored.sessions[0].facts)
        assert strategy is not None, "it is guided"
        _known[population] = _Known(strategy)
    known = _known[population]
    steps, every = _steps(population)
    ids = population.evaluated[steps - 1]
    _look_at_more(population, known, ids)
    found = np.array([known.predicted.get(id) for id in ids.tolist()], dtype=float)  # None becomes NaN
    computed = sum(id in known.predicted for id in ids.tolist())
    chosen = np.flatnonzero(~np.isnan(found))
    if computed == len(ids) and not len(chosen):
        told = told_prediction(known.strategy.model(population, population.searched_view))
        return _nothing(f"no individual is evaluated that the model has chosen; predictions: {told}")
    measured = np.array([mean(population.accuracies(id)) for id in ids[chosen].tolist()])
    step, predicted = steps[chosen], found[chosen]
    return {
        "available": True,
        "why": None,
        "computing": computed < len(ids),
        "computed": computed,
        "of": len(ids),
        "every": every,
        "individual": ids[chosen],
        "step": step,
        "predicted": np.round(predicted, 6),
        "measured": np.round(measured, 6),
        "rank_correlation": guidance.correlation(predicted, measured),
        "windows": [
            one.numbers() | {"chance": one.chance} for one in guidance.windows(step, predicted, measured)
        ],
    }


def _nothing(why: str) -> dict[str, Any]:
    return {
        "available": False, "why": why, "computing": False, "computed": 0, "of": 0, "every": 1, "individual": [],
        "step": [], "predicted": [], "measured": [], "rank_correlation": None, "windows": [],
    }  # fmt: skip


def _steps(population: Population) -> tuple[np.ndarray, int]:
    """Evolution steps, from 1, of the mutants to look at, and of how many each is one. Those of fewer are among those
    of more, so that what is known stays of use."""
    ids = population.evaluated
    mutants = (population.column("birth")[ids] == Birth.MUTATION) & np.isfinite(population.column("fitness")[ids])
    steps = 1 + np.flatnonzero(mutants)
    every = 1 << math.ceil(math.log2(len(steps) / MOST)) if len(steps) > MOST else 1
    return steps[::every], every


def _look_at_more(population: Population, known: _Known, ids: np.ndarray) -> None:
    """Predictions of more of these individuals: by their views, so that a model is learned once."""
    views, until = population.column("view"), time.monotonic() + SLICE
    for id in sorted((id for id in ids.tolist() if id not in known.predicted), key=lambda id: (views[id], id)):
        known.predicted[id] = known.strategy.predicted(population, int(views[id]), id)
        if time.monotonic() > until:
            return
