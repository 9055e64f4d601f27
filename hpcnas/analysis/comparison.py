"""Searches compared: groups of runs of one design, and the best fitness of each against evaluations and worker time.

Runs that differ in nothing but their seed (and in what may change from start to start) are one group: its curve is the
mean of its runs, as far as all of them have come, with the 95 % confidence band of that mean by Student's t. Draws
nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from hpcnas.analysis import worker_time
from hpcnas.analysis.confidence import t_95
from hpcnas.analysis.curves import Curves, require_evaluations
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config import search as search_config
from hpcnas.search.run_file import StoredRun


@dataclass(frozen=True)
class Band:
    """The mean of step functions, from each `x` to the next, and half the width of its 95 % confidence band, NaN for a
    single function: arrays of shape (steps,)."""

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, functions: Sequence[tuple[np.ndarray, np.ndarray]]) -> Band:
        """That of functions as (x, y), each of shape (its steps,), x ascending; from where all have begun to where the
        first ends."""
        first, last = max(x[0] for x, _ in functions), min(x[-1] for x, _ in functions)
        grid = np.unique(np.concatenate([[first], *(x for x, _ in functions)]))
        grid = grid[(grid >= first) & (grid <= max(first, last))]
        values = np.array([y[np.searchsorted(x, grid, side="right") - 1] for x, y in functions])
        kept = np.ones(len(grid), dtype=bool)
        kept[1:-1] = (np.diff(values, axis=1) != 0).any(axis=0)[:-1]  # and the end
        values, count = values[:, kept], len(functions)
        half = np.full(values.shape[1], np.nan)
        if count > 1:
            half = t_95(count - 1) * values.std(axis=0, ddof=1) / count**0.5
        return cls(grid[kept], values.mean(axis=0), half)

    def at(self, x: float) -> tuple[float, float]:
        """Mean and half width at x, which must not lie before the first."""
        place = np.searchsorted(self.x, x, side="right") - 1
        return float(self.mean[place]), float(self.half[place])

    def reaches(self, y: float) -> float:
        """Where the mean is first as high as y, which it must be somewhere."""
        return float(self.x[np.argmax(self.mean >= y)])


class Course(Protocol):
    """How a run went: the best fitness (courses,) from each step, of those up to `evaluations`, and from each worker
    second. Steps at which nothing changes may be left out, but for the first and the last one."""

    @property
    def name(self) -> str: ...

    @property
    def evaluations(self) -> int: ...

    @property
    def step(self) -> np.ndarray: ...

    @property
    def best(self) -> np.ndarray: ...

    @property
    def spent(self) -> np.ndarray: ...


OneRun = TypeVar("OneRun", bound=Course)


@dataclass(frozen=True)
class RunGroup(Generic[OneRun]):
    """Runs of one design, each with an evaluation."""

    label: str
    runs: list[OneRun]

    @property
    def by_evaluations(self) -> Band:
        """Best fitness against evaluations."""
        return Band.of([(run.step, run.best) for run in self.runs])

    @property
    def by_time(self) -> Band:
        """Best fitness against worker seconds."""
        return Band.of([(run.spent, run.best) for run in self.runs])


def grouped(runs: Sequence[Curves]) -> list[RunGroup[Curves]]:
    """The runs by design, in the order of the first run of each; a group is called by what tells it from the others.

    Runs without an evaluation are left out. Raises AnalysisError where all are, and where a run is given twice, since
    the band of a mean would be too narrow.
    """
    runs = require_evaluations(runs)
    require_different([(run.stored.run, run.folder) for run in runs])
    return by_design(runs, [design(run.stored) for run in runs])


def require_different(runs: Sequence[tuple[str, Path]]) -> None:
    """Raises AnalysisError where two runs have one name: their own one, which comes before each one's folder."""
    folders: dict[str, Path] = {}
    for run, folder in runs:
        if run in folders:
            raise AnalysisError(f"expected different runs, but {folders[run]} and {folder} are one run")
        folders[run] = folder


def by_design(runs: Sequence[OneRun], designs: Sequence[dict[str, Any]]) -> list[RunGroup[OneRun]]:
    """The groups of runs of these designs, one at least."""
    distinct = [value for number, value in enumerate(designs) if value not in designs[:number]]
    differing = [key for key in designs[0] if any(value[key] != designs[0][key] for value in distinct)]
    groups = []
    for value in distinct:
        members = [run for run, its in zip(runs, designs, strict=True) if its == value]
        names = [str(value[key]) if key in ("strategy", "space") else f"{key} {value[key]}" for key in differing]
        groups.append(RunGroup(", ".join(names) or value["strategy"], members))
    return groups


def design(stored: StoredRun) -> dict[str, Any]:
    """What decides what a search that has begun computes, but for its seed: settings by name, and the data."""
    found: dict[str, Any] = {}
    for section, kind in search_config.SECTIONS.items():
        settings = getattr(stored.config, section)
        for item in dataclasses.fields(kind):
            if not item.metadata["alterable"] and (section, item.name) != ("search", "seed"):
                found[item.name] = getattr(settings, item.name)
    return {**found, "data": stored.sessions[0].facts.fingerprint}


def numbers(groups: Sequence[RunGroup[OneRun]]) -> dict[str, Any]:
    """What the table and the picture show, as JSON has it. Fitness from 0 to 1.

    `common_evaluations` is how far all runs have come, `common_fitness` what the mean of every group has reached.
    """
    common = min(run.evaluations for group in groups for run in group.runs)
    goal = min(float(group.by_evaluations.mean[-1]) for group in groups)
    goal = min(goal, *(float(group.by_time.mean[-1]) for group in groups))
    found = []
    for group in groups:
        steps, time = group.by_evaluations, group.by_time
        best, best_half = steps.at(steps.x[-1])
        at_common, at_common_half = steps.at(common)
        found.append(
            {
                "label": group.label,
                "runs": [run.name for run in group.runs],
                "evaluations": steps.x[-1],
                "best": best,
                "best_half": best_half,
                "at_common": at_common,
                "at_common_half": at_common_half,
                "evaluations_to_common": steps.reaches(goal),
                "hours_to_common": time.reaches(goal) / 3600,
                "by_evaluations": {"x": steps.x, "mean": steps.mean, "half": steps.half},
                "by_hours": {"x": time.x / 3600, "mean": time.mean, "half": time.half},
            }
        )
    return {"common_evaluations": common, "common_fitness": goal, "groups": found}


def on_gpus(groups: Sequence[RunGroup[Curves]]) -> bool:
    """Whether every run used a GPU: then worker time is GPU time."""
    return all(worker_time.on_gpus(run.stored.population) for group in groups for run in group.runs)
