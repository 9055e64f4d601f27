"""What a network costs, by the name of the objective (`search.objective`): a number of which less is better.

    parameters, flops                      of the small network: the same wherever it is trained
    training-seconds, validation-seconds   measured, of one replicate
    latency                                measured, of one image through the trained network (`training.weighing`)
    a plugin's                             of the genotype, or measured of the trained network

Measured seconds depend on the machine and on what else a device does: compare those of one kind of machine alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from hpcnas import answers, plugins
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.evolution.population import Population

NAMES = {
    "parameters": "parameters of the small network",
    "flops": "FLOPs an image",
    "training-seconds": "seconds of a training",
    "validation-seconds": "seconds of a validation",
    "latency": "seconds of one image on the worker's device",
}

def words(objective: str) -> str:
    """What people read beside numbers of it."""
    brought = plugins.objectives().get(objective)
    return NAMES.get(objective) or (brought.words if brought is not None else "") or objective


def is_known(objective: str) -> bool:
    """Whether hpcnas itself or a plugin that is loaded has an objective of that name."""
    return objective in NAMES or objective in plugins.objectives()


Cost = Callable[[Population, int], float]


def cost(objective: str, size: Callable[[Genotype], Size]) -> Cost:
    """The function from a population and the id of an evaluated individual to its cost, which is never NaN, and
    infinite where it was not measured.

    `size` counts the network of a valid genotype. The function raises PluginFault where a plugin's does, or gives no
    number."""
    brought = plugins.objectives().get(objective)
    if objective == "latency" or brought is not None and brought.trained:
        return _measured
    if brought is not None:
        of_genotype = functools.lru_cache(maxsize=65_536)(functools.partial(_of_genotype, objective, brought))
        return lambda population, id: of_genotype(population.individual(id).genotype)
    match objective:
        case "parameters":
            return lambda population, id: float(population.column("parameters")[id])
        case "flops":
            return lambda population, id: float(size(population.individual(id).genotype).flops)
        case _:
            column = objective.replace("-", "_")
            return lambda population, id: _of_one(population, id, column)


def _measured(population: Population, id: int) -> float:
    value = float(population.column("objective")[id])
    return math.inf if math.isnan(value) else value


def _of_genotype(name: str, objective: plugins.Objective, genotype: Genotype) -> float:
    whose = f"{plugins.bringer('objectives', name)}: objective {name!r}"
    answer: object = plugins.answer(whose, objective.of, genotype)
    number = answers.real(answer)
    if number is None or not abs(number) <= answers.LARGEST:
        expected = f"a number from -{answers.LARGEST:g} to {answers.LARGEST:g}"
        raise plugins.PluginFault(f"{whose}: expected {expected}, got {answers.told(answer)}")
    return number


def _of_one(population: Population, id: int, column: str) -> float:
    """The seconds of one replicate; infinity where they were not measured."""
    seconds = float(population.column(column)[id]) / int(population.column("replicates_trained")[id])
    return math.inf if math.isnan(seconds) else seconds
