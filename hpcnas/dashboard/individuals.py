"""Everything that a search knows of one individual, for a page: what it is, what was measured, where it comes from."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from hpcnas.analysis import lineage
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion
from hpcnas.architecture.expansion import InvalidGenotype
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.measures import NAMES
from hpcnas.dashboard import drawing, points, selection
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.job import terminal
from hpcnas.messages import Failure

MOST_LISTED = 50  # children, or individuals of the same network
MOST_ANCESTORS = 200


def individual(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Of the individual `id`. Raises AnalysisError where there is none."""
    id = selection.individual_named(run, query)
    population = run.stored.population
    born = population.individual(id)
    (row,) = points.table(run, np.array([id]))
    measures = population.measures(id)
    device = population.column("device")[id].decode(errors="replace")
    failure = population.failures.get(id)
    return row | {
        "version": run.version,
        "expected": _expected(run, id),
        "accuracies": population.accuracies(id),
        "curves": population.curves(id),
        "rungs": population.rungs,
        "measures": {
            name: values for name, values in zip(NAMES, zip(*measures, strict=True), strict=False) if any(values)
        },
        "class_accuracies": [list(values[len(NAMES) :]) for values in measures] or None,
        "objective": population.objective(id),
        "seconds": {name: float(population.column(f"{name}_seconds")[id]) for name in _TIMES},
        "born": born.born,
        "started": float(population.column("started")[id]),
        "finished": float(population.column("finished")[id]),
        "device": terminal.one_line(device),
        "redrawn": born.redrawn,
        "view": born.view,
        "failure": None if failure is None else _failure(failure),
        "failures": _attempts(population, id),
        "genotype": born.genotype.text(),
        "network": None if born.network is None else born.network.hex(),
        **_same_network(run, id),
        "children": _children(population, id),
        "lineage": _lineage(run, id),
        **_drawings(population, born),
        "commands": commands(run, id),
    }


_TIMES = ("setup", "training", "validation", "worker")


def _expected(run: FollowedSearch, id: int) -> float | None:
    """Of a new training, by the strategy, where that knows more than what was measured."""
    return run.lately("expected", lambda: dict(run.stored.population.expected())).get(id)


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "kind": failure.kind.name,
        "summary": terminal.one_line(failure.summary),
        "message": terminal.printable(failure.message),
    }


def _attempts(population: Population, id: int) -> list[dict[str, Any]]:
    """Its failed attempts, in their order."""
    return [
        {
            "attempt": attempt.attempt,
            "host": terminal.one_line(attempt.place.host),
            "device": terminal.one_line(attempt.place.device),
            "rank": attempt.place.rank,
            "started": attempt.started,
            "finished": attempt.finished,
            **_failure(attempt.outcome),
        }
        for attempt in population.failed_attempts
        if attempt.individual == id and isinstance(attempt.outcome, Failure)
    ]


def _same_network(run: FollowedSearch, id: int) -> dict[str, Any]:
    """Others of its network."""
    ids = selection.chosen(run, {"network_of": [str(id)]})
    ids = ids[ids != id]
    fitness = run.stored.population.column("fitness")
    listed = [{"id": one, "fitness": fitness[one]} for one in ids[:MOST_LISTED].tolist()]
    return {"same_network": listed, "same_network_total": len(ids)}


def _children(population: Population, id: int) -> dict[str, Any]:
    ids = np.flatnonzero(population.column("parent") == id)
    return {"total": len(ids), "ids": ids[:MOST_LISTED]}


def _lineage(run: FollowedSearch, id: int) -> list[dict[str, Any]]:
    """It and its ancestors, the oldest first; of a long lineage the youngest MOST_ANCESTORS."""
    population, found = run.stored.population, list[dict[str, Any]]()
    fitness, parameters = population.column("fitness"), population.column("parameters")
    for one in population.lineage(id):
        if len(found) >= MOST_ANCESTORS:
            break
        parent = one.parent
        gain = float(fitness[one.id] - fitness[parent]) if parent is not None else float("nan")
        found.append(
            {
                "id": one.id,
                "birth": one.birth.name,
                "fitness": fitness[one.id],
                "gain": gain,
                "parameters": int(parameters[one.id]) if parameters[one.id] >= 0 else None,
                "change": _change(population, one),
            }
        )
    return found[::-1]


def _change(population: Population, one: Individual) -> str:
    """How its genotype came to be, in words."""
    if one.parent is None:
        return "taken from another run" if one.birth is Birth.FOUNDER else one.birth.name.lower()
    if one.birth is Birth.CONFIRMATION:
        return "trained again with new seeds"
    return ", ".join(lineage.changes(population.individual(one.parent).genotype, one.genotype)) or "no change"


def _drawings(population: Population, born: Individual) -> dict[str, Any]:
    """Its cell, and its parent's beside it where it is a mutant: what has changed is marked in both."""
    found: dict[str, Any] = {"drawing": None, "parent_drawing": None, "undrawable": None, "mutation": None}
    parent = None if born.parent is None else population.individual(born.parent)
    changed = set() if parent is None else drawing.changed_edges(parent.genotype, born.genotype)
    if parent is not None:
        found["mutation"] = {
            "parent": parent.id,
            "changes": lineage.changes(parent.genotype, born.genotype),
            "same_network": _is_same(parent.genotype, born.genotype),
        }
        found["parent_drawing"], _ = _drawn(parent, changed)
    found["drawing"], found["undrawable"] = _drawn(born, changed)
    found["expanded"] = None if found["undrawable"] else drawing.expanded(f"individual {born.id}", born.genotype)
    return found


def _drawn(one: Individual, changed: set[drawing.Edge]) -> tuple[dict[str, Any] | None, str | None]:
    """The drawing, or why there is none."""
    try:
        return drawing.cell(f"individual {one.id}", one.genotype, changed), None
    except AnalysisError as error:
        return None, str(error)


def _is_same(one: Genotype, other: Genotype) -> bool:
    """Whether both stand for one network; of those that stand for none, not."""
    try:
        return expansion.expand(one) == expansion.expand(other)
    except InvalidGenotype:
        return False


def commands(run: FollowedSearch, id: int) -> dict[str, str]:
    """What a person types to go on with it."""
    named = shlex.quote(f"{run.folder}:{id}")
    return {
        "retrain": f"hpcnas retrain --genotype {named} --run {shlex.quote(f'{run.folder}-{id}-retrained')}",
        "draw": f"hpcnas draw {named} --cell cell.svg",
        "export": f"hpcnas export {named}",
    }
