"""What the learning curves of a run say: how far accuracies at the rungs go with final ones, who was stopped where, and
the floors along the run.

    individual ─► its replicates that were held against floors together, else the first one
               ─► mean accuracy at each rung, and at the end: complete, or as far as it came: stopped

Lines are those of `evolution.learning_curves`, of all complete curves of the search, and floors those of
`evolution.early_stopping`: nothing of it is stored, all of it follows from the run. Confirmations are left out. Of more
than MOST curves of a kind, every so manieth is in a `LearningCurves`; what is counted counts all. Draws nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpcnas.analysis.curves import Curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.evolution import learning_curves
from hpcnas.evolution.early_stopping import EarlyStopping, stopped_at
from hpcnas.evolution.guided import rank_correlation
from hpcnas.evolution.individuals import State
from hpcnas.evolution.learning_curves import Line
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy
from hpcnas.evolution.strategy import StrategyRefused, rounded

MOST = 2048  # curves that are complete, and likewise that were stopped, in a `LearningCurves`
LEAST = 5  # complete curves of which a rank correlation tells something
MOST_VIEWS = 128  # places along the run at which floors are told
FEW = 5  # rungs that a table has room for


class NoCurves(AnalysisError):
    """A run has no learning curve that could be shown: why, in words."""


@dataclass(frozen=True)
class Rung:
    """One rung of a whole run."""

    share: float  # of the steps
    stopped: int  # individuals
    curves: int  # complete ones
    correlation: float | None  # Spearman's, of accuracies here and final ones; None of fewer than LEAST
    line: Line | None  # None where too few curves are known, or nothing follows from them

    @property
    def name(self) -> str:
        """As people call it."""
        return percent(self.share)

    def numbers(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "share": self.share,
            "stopped": self.stopped,
            "complete_curves": self.curves,
            "rank_correlation": self.correlation,
            "line": None if self.line is None else asdict(self.line),
        }


def percent(share: float) -> str:
    """A share of the steps in words: `10 %`."""
    return f"{100 * share:.6g} %"


def of_population(population: Population) -> list[Rung]:
    """Every rung of a run; none where its trainings have no rungs."""
    if not population.rungs:
        return []
    reached, final = learning_curves.complete(population, population.searched_view)
    columns = zip(population.rungs, stopped_at(population), reached.T, strict=True)
    return [
        Rung(
            share,
            stopped,
            len(final),
            rank_correlation(column, final) if len(final) >= LEAST else None,
            learning_curves.fitted(column, final),
        )
        for share, stopped, column in columns
    ]


def few(count: int, most: int = FEW) -> list[int]:
    """Places from 0 to `count` − 1, at most so many: the first, the last and those evenly between."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def column_names(population: Population) -> list[str]:
    """What the single columns of `curves` are called in tables, such as `accuracy_1_at_0.3`: of replicate 1 at the rung
    after 0.3 of the steps."""
    replicates = range(1, population.replicates + 1)
    return [f"accuracy_{number}_at_{share:.6g}" for number in replicates for share in population.rungs]


def stopped_share(population: Population, id: int) -> float | None:
    """The share of the steps after which an individual was stopped early; None where it was not."""
    if population.column("state")[id] != State.STOPPED:
        return None
    return population.rungs[len(population.curves(id)[0]) - 1]


@dataclass(frozen=True)
class LearningCurves:
    """Those of one run. Accuracies are from 0 to 1; arrays are of shape (complete,), (stopped,) or (views,) first."""

    run: Curves
    rungs: list[Rung]
    ids: np.ndarray  # of complete curves, in the order of evaluation
    reached: np.ndarray  # float64 (complete, rungs)
    final: np.ndarray  # float64 (complete,)
    stopped_ids: np.ndarray  # of those that were stopped, in the order of birth
    stopped: np.ndarray  # float64 (stopped, rungs): NaN beyond the rung at which one was stopped
    stopped_view: np.ndarray  # evaluations that its birth knew, int64
    every: tuple[int, int]  # of so many that are complete, and that were stopped, one is here
    best: np.ndarray | None  # of the best individual, float64 (rungs + 1,), the last one final
    views: np.ndarray  # evaluations known at a birth, int64, rising; empty without early stopping
    floors: np.ndarray  # float64 (views, rungs): NaN where any accuracy will do

    @classmethod
    def of(cls, run: Curves) -> LearningCurves:
        """Those of a run, which may be under way. Raises NoCurves."""
        population = run.stored.population
        if not population.rungs:
            raise NoCurves("expected a run whose trainings have rungs (--rungs)")
        ids = population.competing(population.searched_view)
        ids = ids[population.column("replicates_trained")[ids] > 0]
        stopped = np.flatnonzero(population.column("state") == State.STOPPED)
        every = max(1, math.ceil(len(ids) / MOST)), max(1, math.ceil(len(stopped) / MOST))
        ids, stopped = ids[:: every[0]], stopped[:: every[1]]
        reached, final = learning_curves.mean_curves(population, ids)
        whole = np.isfinite(reached).all(axis=1) & np.isfinite(final)
        if not whole.any() and not len(stopped):
            raise NoCurves("expected an individual with a learning curve")
        views, floors = _floors(run)
        return cls(
            run=run,
            rungs=of_population(population),
            ids=ids[whole],
            reached=reached[whole],
            final=final[whole],
            stopped_ids=stopped,
            stopped=learning_curves.mean_curves(population, stopped)[0],
            stopped_view=population.column("view")[stopped],
            every=every,
            best=_best(population),
            views=views,
            floors=floors,
        )

    def numbers(self) -> dict[str, Any]:
        """As JSON has it; null for what is not there."""
        return {
            "rungs": [rung.numbers() for rung in self.rungs],
            "complete": {
                "every": self.every[0],
                "individual": self.ids,
                "at_rungs": self.reached,
                "final": self.final,
            },
            "stopped": {
                "every": self.every[1],
                "individual": self.stopped_ids,
                "view": self.stopped_view,
                "at_rungs": self.stopped,
            },
            "floors": {"view": self.views, "at_rungs": self.floors},
        }


def _best(population: Population) -> np.ndarray | None:
    """The learning curve of the best individual; None where it has none, or there is no best one."""
    if population.best is None:
        return None
    reached, final = learning_curves.mean_curves(population, np.array([population.best]))
    curve = np.concatenate([reached[0], final])
    return curve if np.isfinite(curve).all() else None


def _floors(run: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Views along the run at which floors were made, int64 (views,), and these, float64 (views, rungs); of both nothing
    where the search stops none early, or its strategy is a plugin's that is not loaded."""
    stored, population = run.stored, run.stored.population
    nothing = np.empty(0, dtype=np.int64), np.empty((0, len(population.rungs)))
    if not stored.config.search.early_stopping or not stored.sessions:
        return nothing
    try:
        strategy = make_strategy(stored.config, stored.sessions[0].facts)
    except StrategyRefused:
        return nothing
    early = EarlyStopping(strategy, stored.config.search.early_stopping_confidence)
    views = sorted({rounded(view) for view in range(population.searched_view + 1)})
    views = [views[place] for place in few(len(views), MOST_VIEWS)]
    floors = np.array([early.floors(population, view) for view in views]).reshape(len(views), len(population.rungs))
    return np.array(views), np.where(np.isfinite(floors), floors, np.nan)
