"""Runs compared, as JSON: curves with bands, what their settings differ in, and tables. Searches or retrainings.

    each search ─► its course: a few hundred points, and its settings ─► groups of one design ─► bands, tables
                   (`course`, while nobody else looks at it)             (`searches`, of courses alone)

Groups and intervals are those of `analysis.comparison` and `analysis.retraining_comparison`. A course is thinned to
MOST_POINTS: the bands of searches whose best fitness never falls need no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcnas.analysis import comparison, confidence, retraining_comparison, training_curves, worker_time
from hpcnas.analysis.comparison import Band
from hpcnas.analysis.curves import latest, one_measure
from hpcnas.analysis.retraining_comparison import RetrainingGroup
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.worker_time import Attempts
from hpcnas.config import search as search_config
from hpcnas.config.measures import FitnessMeasure
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.retraining import thinned
from hpcnas.job.terminal import one_line
from hpcnas.retrain.record import State
from hpcnas.search.run_file import StoredRun

MOST_RUNS = 40
MOST_POINTS = 500
MOST_OF_A_VALUE = 200  # characters


@dataclass(frozen=True)
class SearchCourse:
    """One search, as far as a comparison needs it. Arrays are of shape (points,): where the best fitness changes, the
    first and the last evaluation."""

    key: str
    run: str  # its own name
    folder: Path
    measure: FitnessMeasure
    row: dict[str, Any]  # of the table
    settings: dict[str, str]
    design: dict[str, Any]  # empty without an evaluation
    evaluations: int
    on_gpus: bool
    step: np.ndarray
    best: np.ndarray
    spent: np.ndarray  # worker seconds

    @property
    def name(self) -> str:
        """As it is called here."""
        return self.key


def course(key: str, run: FollowedSearch) -> SearchCourse:
    """Of the search of that key."""
    found = run.lately(f"course {key}", lambda: _course(key, run))
    return dataclasses.replace(found, row=found.row | {"state": run.state, "running": run.running})


def _course(key: str, run: FollowedSearch) -> SearchCourse:
    stored = run.stored
    population, ids = stored.population, stored.population.evaluated
    fitness, attempts = population.column("fitness"), Attempts.of(population)
    best = fitness[population.bests] if len(ids) else np.empty(0)
    places = turning_points(best)
    times = latest(population.column("finished")[ids])[places]
    result = population.best
    return SearchCourse(
        key=key,
        run=stored.run,
        folder=run.folder,
        measure=stored.config.measure,
        row={
            "key": key,
            "name": key,
            "state": "",  # which also changes by itself: `course` tells it
            "running": False,
            "strategy": one_line(stored.config.search.strategy),
            "seed": stored.config.search.seed,
            "evaluated": population.searched,
            "stopped": population.stopped,
            "failed": len(population.failures),
            "budget": stored.config.search.budget,
            "best": None if result is None else float(fitness[result]),
            "best_id": result,
            "parameters": None if result is None else int(population.column("parameters")[result]),
            "hours": attempts.seconds() / 3600,
            "trainings": population.trainings,
        },
        settings=_settings(stored),
        design=comparison.design(stored) if len(ids) and stored.sessions else {},
        evaluations=len(ids),
        on_gpus=worker_time.on_gpus(population),
        step=1 + places,
        best=best[places],
        spent=attempts.spent(times),
    )


def turning_points(values: np.ndarray) -> np.ndarray:
    """Places, int64, of the first one, of all that differ from the one before, and of the last; MOST_POINTS at the
    most, evenly, with both ends."""
    if not len(values):
        return np.empty(0, dtype=np.int64)
    places = np.unique([0, *(1 + np.flatnonzero(np.diff(values))).tolist(), len(values) - 1])
    return places[thinned(len(places), MOST_POINTS)]


def _settings(stored: StoredRun) -> dict[str, str]:
    """All settings in words, by section and name, and the data."""
    found = {}
    for section, kind in search_config.SECTIONS.items():
        settings = getattr(stored.config, section)
        for item in dataclasses.fields(kind):
            if (section, item.name) == ("run", "run"):  # its folder
                continue
            found[f"{section}.{item.name}"] = _words(getattr(settings, item.name))
    facts = stored.sessions[0].facts if stored.sessions else None
    return found | {"data (fingerprint)": "–" if facts is None else facts.fingerprint[:8]}


def _words(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return one_line(text if len(text) <= MOST_OF_A_VALUE else f"{text[:MOST_OF_A_VALUE]} …")


# ── searches ────────────────────────────────────────────────────────────────────────────────────────────────────────
def searches(courses: Sequence[SearchCourse]) -> dict[str, Any]:
    """Fitness is of one measure, and hours are of workers. Raises AnalysisError where the measures differ, or a search
    is given twice."""
    comparison.require_different([(one.run, one.folder) for one in courses])
    measure = one_measure(courses)
    begun = [one for one in courses if one.design]
    found: dict[str, Any] = {
        "kind": "searches",
        "measure": {"name": measure.name, "remark": measure.remark, "percent": measure.percent},
        "hours_name": worker_time.hours_name(bool(begun) and all(one.on_gpus for one in begun)),
        "table": [one.row for one in courses],
        "settings": {
            "columns": [one.key for one in courses],
            "rows": _differing([one.settings for one in courses]),
        },
        "curves": [
            {"key": one.key, "name": one.key, "step": one.step, "best": one.best, "hours": one.spent / 3600}
            for one in courses
        ],
        "groups": [],
        "common_evaluations": None,
        "common_fitness": None,
        "problems": [f"{one.key}: nothing is evaluated yet" for one in courses if not one.design],
    }
    if not begun:
        return found
    groups = comparison.by_design(begun, [one.design for one in begun])
    numbers = comparison.numbers(groups)
    for group, told in zip(groups, numbers["groups"], strict=True):
        found["groups"].append(
            {name: told[name] for name in ("evaluations", "best", "best_half", "at_common", "at_common_half",
                                           "evaluations_to_common", "hours_to_common")}
            | {"name": one_line(told["label"][:MOST_OF_A_VALUE]), "runs": [one.key for one in group.runs]}
            | {"by_evaluations": _band(group.by_evaluations), "by_hours": _band(group.by_time, 3600.0)}
        )  # fmt: skip
    return found | {name: numbers[name] for name in ("common_evaluations", "common_fitness")}


def _band(band: Band, unit: float = 1.0) -> dict[str, Any]:
    """The mean and its 95 % band, NaN of a single run."""
    kept = thinned(len(band.x), MOST_POINTS)
    x, mean, half = band.x[kept] / unit, band.mean[kept], band.half[kept]
    return {"x": x, "mean": mean, "low": mean - half, "high": mean + half}


def _differing(settings: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The settings that are not equal in all of these, with a value for each."""
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [{"name": name, "values": [one.get(name, "–") for one in settings]} for name in names]
    return [row for row in rows if len(set(row["values"])) > 1]


# ── retrainings ─────────────────────────────────────────────────────────────────────────────────────────────────────
def retrained(found: Sequence[tuple[str, Found]]) -> dict[str, Any]:
    """Retrainings, each after its key. Accuracies are from 0 to 1. Raises AnalysisError where one is given twice."""
    keys = {str(each.folder): key for key, each in found}
    groups = retraining_comparison.grouped([each for _, each in found])
    numbers = retraining_comparison.numbers(groups)
    labels = [", ".join(keys[folder] for folder in told["retrainings"]) for told in numbers["groups"]]
    return {
        "kind": "retrainings",
        "validation_step": numbers["validation_step"],
        "groups": [
            told | {"name": label, "label": label, "runs": [keys[folder] for folder in told["retrainings"]],
                    "retrainings": None, "validated": _validated(group)}
            for label, told, group in zip(labels, numbers["groups"], groups, strict=True)
        ],
        "curves": [
            {"key": key, "name": key, "seed": seed, **_curve(each, seed)}
            for key, each in found
            for seed in training_curves.seeds_with_curves(each.stored)
        ],
        "settings": {
            "columns": labels,
            "rows": [
                {"name": row["setting"], "values": [_words(value) for value in row["values"]]}
                for row in numbers["differences"]
            ],
        },
        "problems": numbers["remarks"],
    }  # fmt: skip


def _curve(found: Found, seed: int) -> dict[str, Any]:
    """The curves of one training, thinned."""
    rows = training_curves.history(found.stored, seed)
    validations = training_curves.validations_of(found.stored, seed)
    rows = [rows[place] for place in thinned(len(rows), MOST_POINTS).tolist()]
    validations = [validations[place] for place in thinned(len(validations), MOST_POINTS).tolist()]
    return {
        "step": [row.step for row in rows],
        "loss": [row.loss for row in rows],
        "accuracy": [row.accuracy for row in rows],
        "validation_step": [one.step for one in validations],
        "validation_accuracy": [one.accuracy for one in validations],
    }


def _validated(group: RetrainingGroup) -> dict[str, Any]:
    """The mean validation accuracy of the trainings of a group, and its 95 % interval, at the steps after which all of
    them were validated that have been at all and have not diverged."""
    alive = [
        training_curves.validations_of(each.stored, one.seed)
        for each in group.members
        for one in each.stored.trainings
        if one.state is not State.DIVERGED
    ]
    accuracies = [{one.step: one.accuracy for one in several} for several in alive if several]
    steps = sorted(set.intersection(*map(set, accuracies))) if accuracies else []
    steps = [steps[place] for place in thinned(len(steps), MOST_POINTS).tolist()]
    values = [[one[step] for one in accuracies] for step in steps]
    means, halves = [float(np.mean(one)) for one in values], [confidence.half_width(one) for one in values]
    return {
        "step": steps,
        "mean": means,
        "low": [mean - half for mean, half in zip(means, halves, strict=True)],
        "high": [mean + half for mean, half in zip(means, halves, strict=True)],
        "trainings": len(accuracies),
    }
