"""What is left of a search's budget, of evaluations (`--budget`) or of trainings (`--trainings`).

An individual that was stopped at a rung counts as an evaluation, and its trainings by the share of their steps.
Confirmations come after the search and have a budget of their own (`confirmation`)."""

from __future__ import annotations

import math

from hpcnas.config.search import SearchSettings
from hpcnas.evolution.confirmation import Confirmation
from hpcnas.evolution.population import Population


def is_complete(search: SearchSettings, population: Population) -> bool:
    """Whether the budget is spent, of evaluations or of trainings, nothing is in flight, and nothing is to be
    confirmed."""
    if not is_searched(search, population) or population.in_flight:
        return False
    return not search.confirm or Confirmation(search, population).complete


def is_searched(search: SearchSettings, population: Population) -> bool:
    """Whether the budget is spent, and nothing but confirmations is in flight."""
    return evaluations_left(search, population) == 0 and _in_flight(population) == 0


def has_room(search: SearchSettings, population: Population, to_come: int) -> bool:
    """Whether another individual may be born, where `to_come` trainings wait or are under way."""
    if search.trainings is not None and _trainings(population) + to_come >= search.trainings:
        return False
    return population.searched + population.stopped + _in_flight(population) < search.budget


def evaluations_left(search: SearchSettings, population: Population) -> int:
    """How many evaluations of the search remain until the first of both budgets is spent, those in flight included.

    Exact for the budget of evaluations. For that of trainings it is an estimate, by the trainings that an evaluation
    has taken so far.
    """
    done, trainings = population.searched + population.stopped, _trainings(population)
    left = max(0, search.budget - done)
    if search.trainings is None:
        return left
    each = max(_least(population), trainings / done) if done else population.replicates
    return min(left, math.ceil(max(0, search.trainings - trainings) / each))


def confirmations_left(search: SearchSettings, population: Population) -> int:
    """How many new trainings are to come after the search at the most; 0 while it is not over, or none is wanted."""
    if not search.confirm or not is_searched(search, population):
        return 0
    return Confirmation(search, population).left


def _least(population: Population) -> float:
    """Trainings that an evaluation takes at the least: a share of one where it was stopped at the first rung."""
    return population.rungs[0] if population.stopped else 1.0


def _trainings(population: Population) -> float:
    """Of the search: each confirmation is one, and of one that was stopped its share of the steps."""
    return population.trainings - population.confirmations


def _in_flight(population: Population) -> int:
    """Individuals of the search."""
    return population.in_flight - population.confirming
