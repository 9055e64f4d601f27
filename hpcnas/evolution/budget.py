"""How the trainings of one fitness become tasks: all in one or each its own, and with racing in stages.

                 scheduling = fitness        scheduling = replicate
    no racing    0 1 2 3                     0 │ 1 │ 2 │ 3           all at once, on any workers
    racing       0 ──► 1 2 3                 0 ──► 1 ──► 2 ──► 3     each stage after a verdict (`racing`)

On a GPU the trainings of a task run side by side, which takes less time than one after another. Knows neither workers
nor verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population


@dataclass(frozen=True, slots=True)
class Part:
    """Replicates of a fitness that are one task: `count` of them, from number `first` on."""

    first: int
    count: int


def next_parts(search: SearchSettings, missing: Sequence[int], replicates: int) -> list[Part]:
    """The tasks to be issued for an individual of which nothing is under way, and of which the replicates of these
    numbers (ascending, at least one) are not trained. With racing the rest follows once these are done."""
    if search.scheduling == "replicate":
        return [Part(number, 1) for number in (missing[:1] if search.racing else missing)]
    if search.racing and len(missing) == replicates:
        return [Part(missing[0], 1)]
    return _runs(missing)


def is_complete(search: SearchSettings, population: Population) -> bool:
    """Whether the budget is spent, of evaluations or of trainings, and nothing is in flight."""
    return evaluations_left(search, population) == 0 and population.in_flight == 0


def evaluations_left(search: SearchSettings, population: Population) -> int:
    """How many evaluations are to come, those in flight included, until the first budget is spent: exact where it is
    that of evaluations, an estimate where it is that of trainings, by what an evaluation has taken so far."""
    done = len(population.evaluated)
    left = max(0, search.budget - done)
    if search.trainings is None:
        return left
    each = max(1.0, population.trainings / done) if done else population.replicates
    return min(left, math.ceil(max(0, search.trainings - population.trainings) / each))


def _runs(numbers: Sequence[int]) -> list[Part]:
    """Numbers that follow one another make one part."""
    parts: list[Part] = []
    for number in numbers:
        if parts and number == parts[-1].first + parts[-1].count:
            parts[-1] = Part(parts[-1].first, parts[-1].count + 1)
        else:
            parts.append(Part(number, 1))
    return parts
