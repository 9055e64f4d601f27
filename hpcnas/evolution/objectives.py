"""What a network costs, by the name of the objective (`search.objective`): a number of which less is better.

    parameters, flops                      of the small network: the same wherever it is trained
    training-seconds, validation-seconds   measured, of one replicate

Measured seconds depend on the machine and on what else a device does: compare those of one kind of machine alone.
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
    """The function from a population and the id of an evaluated individual to its cost, which is never NaN.

    `size` counts the network of a valid genotype."""
    match objective:
        case "parameters":
            return lambda population, id: float(population.column("parameters")[id])
        case "flops":
            return lambda population, id: float(size(population.individual(id).genotype).flops)
        case _:
            column = objective.replace("-", "_")
            return lambda population, id: _of_one(population, id, column)


def _of_one(population: Population, id: int, column: str) -> float:
    """The seconds of one replicate; infinity where they were not measured."""
    seconds = float(population.column(column)[id]) / int(population.column("replicates_trained")[id])
    return math.inf if math.isnan(seconds) else seconds
