"""Results as a table for a paper: a row for each search or retraining, as CSV in full and as LaTeX to two places.

    search        its result, and how much was done for it
    retraining    its test error over all complete trainings; those that diverged are counted beside them

± is the sample standard deviation of the single trainings, not that of their mean.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpcnas.analysis import csv_text, latex_text, table1, worker_time
from hpcnas.analysis.citations import joined
from hpcnas.analysis.retrainings import Found
from hpcnas.config import measures
from hpcnas.config.measures import FitnessMeasure
from hpcnas.evolution.budget import confirmations_left, evaluations_left
from hpcnas.evolution.individuals import Birth
from hpcnas.search.run_file import StoredRun

_NEW, _UNDER_WAY, _SYNTHETIC = "*", "†", "‡"
_MARKS = {
    _NEW: "of new trainings alone, after the search",
    _UNDER_WAY: "not complete",
    _SYNTHETIC: "of a synthetic landscape: nothing was trained",
}


def of_searches(found: Sequence[tuple[Path, StoredRun]]) -> list[dict[str, Any]]:
    """A row for each. Fitness as it is, of an accuracy from 0 to 1; what is not there is None."""
    return [_search(folder, run) for folder, run in found]


def _search(folder: Path, run: StoredRun) -> dict[str, Any]:
    search, population, best = run.config.search, run.population, run.population.best
    accuracies = () if best is None else population.averaged_accuracies(best)
    one = None if best is None else population.individual(best)
    confirmed = one is not None and one.birth is Birth.CONFIRMATION and one.parent is not None
    workers = [max(1, session.ranks - 1) for session in run.sessions if "merged" not in session.software]
    return {
        "run": str(folder),
        "complete": not evaluations_left(search, population) and not confirmations_left(search, population),
        "space": str(run.config.space),
        "strategy": search.strategy,
        "evaluator": run.config.evaluation.evaluator,
        "seed": search.seed,
        "workers": max(workers, default=None),
        "evaluated": population.searched,
        "stopped_early": population.stopped,
        "failed": len(population.failures),
        "trainings": population.trainings,
        "worker_hours": worker_time.Attempts.of(population).seconds() / 3600,
        "on_gpus": worker_time.on_gpus(population),
        "individual": one.parent if one is not None and confirmed else best,
        "parameters": None if best is None else int(population.column("parameters")[best]),
        "measure": run.config.training.fitness,
        "fitness": None if best is None else float(population.column("fitness")[best]),
        "fitness_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "fitness_trainings": len(accuracies),
        "confirmed": confirmed,
    }


def of_retrainings(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A row for each. Accuracies from 0 to 1; what is not there is None."""
    return [_retraining(one) for one in found]


def _retraining(found: Found) -> dict[str, Any]:
    stored, complete = found.stored, found.complete
    recipe, sessions = stored.recipe, stored.sessions
    accuracies = [one.test_accuracy for one in complete if one.test_accuracy is not None]
    return {
        "retraining": str(found.folder),
        "complete": all(seed in {one.seed for one in complete} for seed in recipe.seeds),
        "genotype": stored.origin.source,
        "space": stored.origin.space,
        "data": table1.experiment(stored).data if sessions else recipe.data.source,
        "channels": recipe.network.channels,
        "cells": " ".join(map(str, recipe.network.cells)),
        "parameters": stored.parameters,
        "steps": recipe.training.steps,
        "batch_size": recipe.training.batch_size,
        "trainings": len(accuracies),
        "diverged": len(stored.diverged),
        "test_images": max((one.test_images or 0 for one in complete), default=None),
        "test_accuracy": statistics.fmean(accuracies) if accuracies else None,
        "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "test_top5": _mean(one.test_top5 for one in complete),
        "test_balanced_accuracy": _mean(one.test_balanced_accuracy for one in complete),
        "test_macro_f1": _mean(one.test_macro_f1 for one in complete),
        "test_auroc": _mean(one.test_auroc for one in complete),
        "test_log_loss": _mean(one.test_loss for one in complete),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as they are, below their names."""
    return csv_text.table(list(rows[0]), [list(row.values()) for row in rows])


def latex_of_searches(rows: Sequence[dict[str, Any]]) -> str:
    """The table, with what has to be said of some of its rows in the caption."""
    hours = worker_time.hours_name(any(row["on_gpus"] for row in rows))
    marks = [_marks(row) for row in rows]
    kinds = [measures.named(row["measure"]) for row in rows]
    words = joined(list(dict.fromkeys(kind.words for kind in kinds)))
    caption = (
        f"Results of architecture searches: fitness ({words}) of the best individual, mean ± sample standard "
        f"deviation of n trainings{_legend(marks)}."
    )
    unit = " (%)" if all(kind.percent for kind in kinds) else ""
    lines = [
        (row["run"], row["space"], row["strategy"], f"{row['evaluated']:,}", f"{row['trainings']:,.6g}",
         f"{row['worker_hours']:,.2f}", None if row["parameters"] is None else f"{row['parameters']:,}",
         _told(row["fitness"], row["fitness_std"], kind, "" if unit else " %", mark), str(row["fitness_trainings"]))
        for row, kind, mark in zip(rows, kinds, marks, strict=True)
    ]  # fmt: skip
    header = ("search", "space", "strategy", "evaluations", "trainings", hours, "parameters", f"fitness{unit}", "n")
    return latex_text.table(caption, header, lines, right=[False] * 3 + [True] * 6)


def _marks(row: dict[str, Any]) -> str:
    said = {_NEW: row["confirmed"], _UNDER_WAY: not row["complete"], _SYNTHETIC: row["evaluator"] == "synthetic"}
    return "".join(mark for mark, holds in said.items() if holds)


def latex_of_retrainings(rows: Sequence[dict[str, Any]]) -> str:
    """Likewise, with test errors."""
    marks = ["" if row["complete"] else _UNDER_WAY for row in rows]
    caption = (
        "Test errors of retrained networks: mean ± sample standard deviation of n trainings, without those whose loss "
        f"was not finite{_legend(marks)}."
    )
    lines = [
        (row["retraining"], row["genotype"], row["data"], str(row["channels"]), f"{row['parameters']:,}",
         _told(None if row["test_accuracy"] is None else 1 - row["test_accuracy"], row["test_accuracy_std"],
               measures.ACCURACY, "", mark),
         str(row["trainings"]), str(row["diverged"]))
        for row, mark in zip(rows, marks, strict=True)
    ]  # fmt: skip
    header = ("retraining", "genotype", "data", "c0", "parameters", "test error (%)", "n", "diverged")
    return latex_text.table(caption, header, lines, right=[False] * 3 + [True] * 5)


def _legend(marks: Sequence[str]) -> str:
    """What the marks that are there mean."""
    used = [mark for mark in _MARKS if any(mark in some for some in marks)]
    return "".join(f"; {mark} {_MARKS[mark]}" for mark in used)


def _told(value: float | None, deviation: float | None, kind: FitnessMeasure, percent: str, marks: str) -> str:
    """A number of that kind; `percent` is what follows one that is in percent."""
    if value is None:
        return f"–{marks}"
    spread = "" if deviation is None else f" ± {kind.number(deviation)}"
    return f"{kind.number(value)}{spread}{percent if kind.percent else ''}{marks}"
