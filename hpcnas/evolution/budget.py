"""What is left of a search's budget, of evaluations (`--budget`) or of trainings (`--trainings`)."""

from __future__ import annotations

import math

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.population import Population


def is_complete(search: SearchSettings, population: Population) -> bool:
    """Whether the budget is spent, of evaluations or of trainings, and nothing is in flight."""
    return evaluations_left(search, population) == 0 and population.in_flight == 0


def has_room(search: SearchSettings, population: Population, to_come: int) -> bool:
    """Whether another individual may be born, where `to_come` trainings wait or are under way."""
    if search.trainings is not None and population.trainings + to_come >= search.trainings:
        return False
    return len(population.evaluated) + population.in_flight < search.budget


def evaluations_left(search: SearchSettings, population: Population) -> int:
    """How many evaluations remain until the first of both budgets is spent, those in flight included.

    Exact for the budget of evaluations. For that of trainings it is an estimate, by the trainings that an evaluation
    has taken so far.
    """
    done = len(population.evaluated)
    left = max(0, search.budget - done)
    if search.trainings is None:
        return left
    each = max(1.0, population.trainings / done) if done else population.replicates
    return min(left, math.ceil(max(0, search.trainings - population.trainings) / each))
