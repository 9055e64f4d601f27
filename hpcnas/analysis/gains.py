"""What evolution gains, in small networks and in large ones: the numbers of the paper's Figure 4. Draws nothing.

Both gains are over the first genotype that the run evaluated, in the paper a random one: in fitness, and in test
accuracy of its retraining. Individuals are those that were retrained, by one recipe and on the same data; several
retrainings of one count together, but for trainings that diverged.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnas.analysis import first_architecture
from hpcnas.analysis.curves import Curves, require_evaluations
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config.measures import ACCURACY
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain.origin import individual_origin
from hpcnas.search.references import OfRun


@dataclass(frozen=True)
class Gain:
    """A retrained individual. Gains are differences of shares of images."""

    individual: int
    step: int  # its place in the order of evaluations, from 1
    small: float
    large: float
    large_std: float | None  # over the seeds of its retraining; None of a single one
    seeds: int
    diverged: int = 0  # trainings that are not among them, since their loss was not finite


@dataclass(frozen=True)
class Gains:
    """Those of a run, in the order of steps; the first is at step 1 and has no gain."""

    run: Curves
    points: tuple[Gain, ...]
    first: str  # what the first is, in the words of Table 1

    @property
    def best_small(self) -> np.ndarray:
        """The gain of the fittest individual up to each step, retrained or not, of shape (evaluations,)."""
        return self.run.best - self.run.fitness[0]


def of_runs(runs: Sequence[Curves], found: Sequence[Found]) -> list[Gains]:
    """Those of the runs, from retrainings of their individuals; trainings that are not complete count for nothing.

    Raises AnalysisError where fitness is not accuracy, where the networks were not trained alike, where a retraining is
    of no evaluated individual of these runs, where none is of the first one, and where no run has an evaluation.
    """
    runs = require_evaluations(runs)
    if others := [run for run in runs if run.measure != ACCURACY]:
        raise AnalysisError(
            f"{others[0].name}: expected a run whose fitness is accuracy, as that of large networks is, got "
            f"{others[0].measure.name}"
        )
    _check_alike(found)
    accuracies: dict[tuple[str, int], list[float]] = defaultdict(list)
    diverged: Counter[tuple[str, int]] = Counter()
    names = {run.stored.run: run.name for run in runs}
    for each in found:
        origin = each.stored.origin
        if origin.run not in names or origin.individual is None:
            raise AnalysisError(
                f"{each.folder}: expected a retraining of an individual of {', '.join(names.values())}; "
                f"it is one of {origin.source}"
            )
        accuracies[origin.run, origin.individual] += each.stored.test_accuracies
        diverged[origin.run, origin.individual] += len(each.stored.diverged)
    return [
        _of_run(
            run,
            {id: values for (name, id), values in accuracies.items() if name == run.stored.run and values},
            {id: count for (name, id), count in diverged.items() if name == run.stored.run},
        )
        for run in runs
    ]


def _of_run(run: Curves, accuracies: dict[int, list[float]], diverged: dict[int, int]) -> Gains:
    steps = dict(zip(run.ids.tolist(), run.step.tolist(), strict=True))
    first = int(run.ids[0])
    if first not in accuracies:
        raise AnalysisError(
            f"{run.name}: expected a retraining of individual {first}, the first that was evaluated, "
            f"since gains are over it; make one with: python -m hpcnas.retrain --genotype {run.folder}:{first}"
        )
    if unknown := sorted(set(accuracies) - set(steps)):
        raise AnalysisError(f"{run.name}: expected retrainings of evaluated individuals, got one of {unknown[0]}")
    base = statistics.fmean(accuracies[first])
    return Gains(
        run,
        tuple(
            Gain(
                individual=id,
                step=steps[id],
                small=float(run.fitness[steps[id] - 1] - run.fitness[0]),
                large=statistics.fmean(accuracies[id]) - base,
                large_std=statistics.stdev(accuracies[id]) if len(accuracies[id]) > 1 else None,
                seeds=len(accuracies[id]),
                diverged=diverged[id],
            )
            for id in sorted(accuracies, key=steps.__getitem__)
        ),
        first_architecture.called(individual_origin(OfRun(run.folder, run.stored, first))),
    )


def _check_alike(found: Sequence[Found]) -> None:
    """Raises AnalysisError unless all networks were trained alike, but for their seeds, and on the same data."""
    for each in found[1:]:
        differences = SCHEME.differences(found[0].stored.recipe, each.stored.recipe)
        told = [line for line in differences if not line.startswith(("training.seed:", "training.epochs:"))]
        if told:  # epochs are in the steps
            raise AnalysisError(f"{each.folder}: expected the recipe of {found[0].folder}, but {told[0]}")
        if each.stored.weights != found[0].stored.weights:
            raise AnalysisError(f"{each.folder}: expected it to start from the weights that {found[0].folder} has")
        if each.stored.facts.fingerprint != found[0].stored.facts.fingerprint:
            raise AnalysisError(
                f"{each.folder}: expected the data of {found[0].folder}, {_data(found[0])}, got {_data(each)}"
            )


def _data(found: Found) -> str:
    """What was learnt, in words."""
    return f"{found.stored.recipe.data.source} (fingerprint {found.stored.facts.fingerprint})"
