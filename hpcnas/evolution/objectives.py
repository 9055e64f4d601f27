"""What a network costs, by the name of the objective (`search.objective`): a number that less is better of.

    parameters, flops                      of the small network: the same wherever it is trained
    training-seconds, validation-seconds   measured, of one replicate

What is measured depends on the machine and on what else a device does: compare that of one kind of machine alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.evolution.population import Population

NAMES = {
    "parameters": "parameters of the small network",
    "flops": "FLOPs an image",
    "training-seconds": "seconds of a training",
    "validation-seconds": "seconds of a validation",
}

Cost = Callable[[Population, int], float]


def cost(objective: str, size: Callable[[Genotype], Size]) -> Cost:
    """The cost of an evaluated individual, by its id; `size` counts a valid genotype's network. Never NaN."""
    match objective:
        case "parameters":
            return lambda population, id: float(population.column("parameters")[id])
        case "flops":
            return lambda population, id: float(size(population.individual(id).genotype).flops)
        case _:
            column = objective.replace("-", "_")
            return lambda population, id: _of_one(population, id, column)


def _of_one(population: Population, id: int, column: str) -> float:
    """Seconds of one replicate; what was never measured costs infinitely much."""
    seconds = float(population.column(column)[id]) / int(population.column("replicates_trained")[id])
    return math.inf if math.isnan(seconds) else seconds
