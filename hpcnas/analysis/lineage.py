"""The ancestors of an individual: which mutation brought which gain. Draws nothing.

A gain is the difference of two measured fitnesses; its standard error is known where a fitness is the mean of several
trainings. Selection prefers lucky measurements: gains within two standard errors may be luck.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcnas.analysis.rungs import percent, stopped_share
from hpcnas.analysis.runs import motif_name, spread
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, operation_names
from hpcnas.evolution.population import Population


@dataclass(frozen=True)
class Ancestor:
    """An individual of a lineage. What is not known (it is in flight, say) and what there is not (a gain over no
    parent) is None."""

    id: int
    step: int | None  # its place in the order of evaluations, from 1
    birth: str
    fitness: float | None  # from 0 to 1
    gain: float | None  # over the parent's fitness
    gain_error: float | None  # standard error of the gain
    parameters: int | None  # of the small network
    children: int
    mutation: list[str] | None  # what differs from the parent's genotype, as `changes` tells it
    same_network: bool | None  # as the parent's
    stopped_at: float | None  # the share of the steps at which its trainings were stopped early


def ancestry(population: Population, id: int) -> list[Ancestor]:
    """The individual with that id and its ancestors, the oldest first."""
    step = {one: place for place, one in enumerate(population.evaluated.tolist(), start=1)}
    fitness, parameters = population.column("fitness"), population.column("parameters")
    parents, deviation = population.column("parent"), spread(population)
    children = np.bincount(parents[parents >= 0], minlength=len(population))

    def error(one: int) -> float:
        """Of the fitness of an individual, by what trainings are in it."""
        return float(deviation[one]) / math.sqrt(max(len(population.averaged_accuracies(one)), 1))

    found = []
    for one in reversed(list(population.lineage(id))):
        done, parent = one.id in step, one.parent
        origin = None if parent is None else population.individual(parent).genotype
        gain = float(fitness[one.id] - fitness[parent]) if done and parent is not None else None
        gain_error = None if gain is None or parent is None else math.hypot(error(one.id), error(parent))
        found.append(
            Ancestor(
                id=one.id,
                step=step.get(one.id),
                birth=one.birth.name.lower(),
                fitness=float(fitness[one.id]) if done else None,
                gain=gain,
                gain_error=None if gain_error != gain_error else gain_error,
                parameters=int(parameters[one.id]) if parameters[one.id] >= 0 else None,
                children=int(children[one.id]),
                mutation=None if origin is None else changes(origin, one.genotype),
                same_network=None if origin is None else expansion.expand(origin) == expansion.expand(one.genotype),
                stopped_at=stopped_share(population, one.id),
            )
        )
    return found


def changes(old: Genotype, new: Genotype) -> list[str]:
    """What differs, such as `M3 2-4: id → sep`."""
    space, found = old.space, []
    for level in range(space.top, 1, -1):
        names = ("none", *operation_names(space, level))
        for motif in range(space.level(level).motifs):
            before, after = old.adjacency(level, motif), new.adjacency(level, motif)
            for i, j in np.argwhere(before != after).tolist():
                name = motif_name(space, level, motif)
                found.append(f"{name} {j + 1}-{i + 1}: {names[before[i, j]]} → {names[after[i, j]]}")
    return found


def in_words(one: Ancestor) -> str:
    """A mutation in words."""
    if one.birth == "confirmation":
        return "trained again with new seeds"
    if one.mutation is None:
        origins = {"founder": "taken from another run", "given": "given to begin with"}
        return origins.get(one.birth, "drawn at random")
    if not one.mutation:
        return "no change"
    return ", ".join(one.mutation) + (" (same network)" if one.same_network else "")


def as_text(value: float | None, form: str) -> str:
    """A number in that format; a dash where it is not known, and no minus before what is rounded to zero."""
    text = "-" if value is None else f"{value:{form}}"
    return text.replace("-", "+") if re.fullmatch(r"-0\.0+", text) else text


def summary(family: Sequence[Ancestor]) -> str:
    """The whole lineage in one line."""
    first, last = family[0], family[-1]
    if last.stopped_at is not None:
        early = f"individual {last.id} was stopped early at {percent(last.stopped_at)} of the steps: it has no fitness"
        return early if len(family) < 3 else f"{early}; up to its parent {summary(family[:-1])}"
    if first is last:
        return "it has no ancestors"
    mutations = [one for one in family if one.birth == "mutation"]
    same = sum(bool(one.same_network) for one in mutations)
    many = "mutation" if len(mutations) == 1 else "mutations"
    text = f"{len(mutations)} {many}, {same} without a change of the network"
    if last.fitness is None or first.fitness is None:
        return text
    gains = [one.gain for one in family if one.gain is not None]
    largest = family[1 + int(np.argmax(gains))]
    whole = last.fitness - first.fitness
    return f"{text}; gain {whole:+.4f} in all, {statistics.fmean(gains):+.4f} a mutation, most by {in_words(largest)}"
