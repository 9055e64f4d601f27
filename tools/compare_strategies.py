#!/usr/bin/env python3
"""How far ways to search come with as many trainings: whole searches, simulated, in the synthetic landscape.

Each policy is a name and options of a search. Every one searches with the same seeds, by the virtual clock of `hpcnas
simulate`, until it has spent the trainings (not evaluations: a fitness of the paper is four of them). What counts is
the fitness without noise of the individual that the search would return at that point, the fittest as measured.

The table says what the median over the seeds is after shares of the trainings, and how many trainings it takes until
it is, and stays, as high as that of the first policy in the end. Intervals are of 95 % confidence for the median, from
the order of the seeds alone (a binomial count): nothing is assumed of how they are distributed.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import toolkit

from hpcnas.architecture.expansion import expand
from hpcnas.config import options
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.population import Population
from hpcnas.search import landscape, simulation
from hpcnas.search.controller import SearchStopped
from hpcnas.search.initial import looked_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICIES = {
    "paper": "--preset paper",
    "random": "--preset paper --strategy random",
    "aging": "--preset paper --strategy aging",
    "resample": "--preset paper --duplicates resample",
    "racing": "--preset paper --racing --scheduling replicate",
    "average": "--preset paper --duplicates average",
    "one": "--preset paper --duplicates resample --replicates 1",
    "efficient": "--preset efficient",
}
SHARES = (0.1, 0.2, 0.4, 0.6, 1.0)  # of the trainings, at which the table looks
POINTS = 200  # of a curve


@dataclass(frozen=True)
class Policy:
    """A way to search, and how its searches went: true fitness of shape (seeds, points) after the first of POINTS equal
    parts of the trainings, and what a search was in the mean."""

    name: str
    options: str
    fitness: np.ndarray
    evaluations: float
    trainings_each: float

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Median over the seeds and both ends of its interval, each of shape (points,)."""
        ordered = np.sort(self.fitness, axis=0)
        place = interval_place(len(ordered))
        return np.median(ordered, axis=0), ordered[place], ordered[-1 - place]


def interval_place(count: int) -> int:
    """The place k such that the median lies between the values of places k and count − 1 − k (ascending, from 0) with a
    confidence of 95 % or, where so few cannot give that, as much as they can."""
    below, place = 0.5**count, 0
    while below + math.comb(count, place + 1) * 0.5**count <= 0.025:
        place += 1
        below += math.comb(count, place) * 0.5**count
    return place


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="")
    known = f"some of {', '.join(POLICIES)}, or NAME='OPTIONS OF A SEARCH' (default: all)"
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), metavar="NAME", help=known)
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each policy (20)")
    parser.add_argument("--trainings", type=int, default=28_000, metavar="N",
                        help="trainings of each search (28000: the paper's 7,000 evaluations of 4)")  # fmt: skip
    parser.add_argument("--shorter", type=float, default=1.0, metavar="F",
                        help="end all policies but the first after this share of them (1)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=200, metavar="W", help="workers of each search (200)")
    parser.add_argument("--output", type=toolkit.picture_path, metavar="FILE", help="write the picture to this file")
    parser.add_argument("--results", type=Path, metavar="FILE",
                        help="keep the curves in this file of JSON, and take what it holds as it is")  # fmt: skip
    given = parser.parse_args(arguments)
    if min(given.seeds, given.trainings, given.workers) < 1 or not 1 / POINTS <= given.shorter <= 1:
        toolkit.fail("expected at least one of seeds, trainings and workers, and of them a share up to 1")
    points = [POINTS, *[round(given.shorter * POINTS)] * (len(given.policies) - 1)]
    found = [_policy(name, given, its) for name, its in zip(given.policies, points, strict=True)]
    if given.output:
        from hpcnas.analysis.figures import style as pictures  # the table needs no matplotlib

        pictures.save(pictures.in_house_style(picture)(found, given.trainings), given.output)
    if given.json:
        toolkit.print_json(numbers(found, given.trainings))
    else:
        print(table(found, given.trainings))
        if given.output:
            print(f"written: {given.output}")
    return 0


# ── searches ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _policy(text: str, given: Any, points: int) -> Policy:
    """The policy of that name or NAME=OPTIONS, searched for or as the results have it."""
    name, _, how = text.partition("=")
    how = how or POLICIES.get(name, "")
    if not how:
        toolkit.fail(f"expected a policy ({', '.join(POLICIES)}) or NAME='OPTIONS', got {text!r}")
    trainings = given.trainings * points // POINTS
    key = f"{name} | {how} | {trainings} trainings, {given.workers} workers"
    kept: dict[str, list[dict[str, Any]]] = {}
    if given.results and given.results.exists():
        kept = json.loads(given.results.read_text(encoding="utf-8"))
    searches = kept.setdefault(key, [])
    for seed in range(len(searches), given.seeds):
        began = time.perf_counter()
        searches.append(search(settings(how, seed, trainings), given.workers, points))
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if given.results:
            given.results.write_text(json.dumps(kept), encoding="utf-8")
    taken = searches[: given.seeds]
    return Policy(
        name,
        how,
        np.array([one["fitness"] for one in taken]),
        float(np.mean([one["evaluations"] for one in taken])),
        float(np.mean([one["trainings"] / one["evaluations"] for one in taken])),
    )


def settings(how: str, seed: int, trainings: int) -> SearchConfig:
    """The configuration of a search of that policy; ends the tool where the options are wrong."""
    try:
        request = options.parse(shlex.split(how))
        chosen = search_config.build(
            *request.base,
            *request.layers,
            {"search": {"seed": seed, "trainings": trainings, "budget": trainings}},
            {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 3600.0, "synthetic_spread": 0.2}},
        )
        return looked_up(chosen)
    except (ConfigError, options.UsageError, options.HelpWanted, ValueError) as error:  # a quotation without an end
        toolkit.fail(f"{how}: {error}")


def search(chosen: SearchConfig, workers: int, points: int) -> dict[str, Any]:
    """How one search went, at so many equal parts of its trainings, as plain values; ends the tool where it stops."""
    try:
        store, _ = simulation.searched(chosen, simulation.Site(workers, startup=60.0, queue=0.0, handling=0.0005))
    except (ConfigError, SearchStopped) as error:
        toolkit.fail(f"expected a search that goes on until its trainings are spent, but it would stop: {error}")
    population = store.population
    assert chosen.search.trainings is not None, "set above"
    spent, fitness = returned(population)
    grid = chosen.search.trainings * np.arange(1, points + 1) / points
    at = np.maximum(np.searchsorted(spent, grid, side="right") - 1, 0)
    return {
        "fitness": fitness[at].tolist(),
        "evaluations": len(population.evaluated),
        "trainings": population.trainings,
    }


def returned(population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Trainings spent whenever another individual became the fittest as measured, and its fitness without noise."""
    ids = population.evaluated
    spent = np.cumsum(population.column("replicates_trained")[ids], dtype=np.int64)
    best = population.bests
    places = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]))
    genotypes = [population.individual(int(best[place])).genotype for place in places]
    return spent[places], np.array([landscape.true_fitness(expand(genotype)) for genotype in genotypes])


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────
def reached(curve: np.ndarray, goal: float, part: float) -> float | None:
    """After how many trainings, `part` from point to point, a curve is as high as the goal and stays so; None where it
    is not in the end."""
    below = np.flatnonzero(curve < goal)
    if len(below) and below[-1] == len(curve) - 1:
        return None
    return part * float(below[-1] + 2 if len(below) else 1)


def numbers(policies: Sequence[Policy], trainings: int) -> dict[str, Any]:
    """What the table and the picture show. Fitness from 0 to 1."""
    goal = float(policies[0].band()[0][-1])
    found = []
    for policy in policies:
        median, low, high = policy.band()
        needed = [reached(curve, goal, trainings / POINTS) for curve in (median, high, low)]
        found.append(
            {
                "policy": policy.name,
                "options": policy.options,
                "seeds": len(policy.fitness),
                "evaluations": policy.evaluations,
                "trainings_each": policy.trainings_each,
                "trainings_to_goal": needed[0],
                "trainings_to_goal_interval": needed[1:],
                "median": median,
                "low": low,
                "high": high,
            }
        )
    return {"trainings": trainings, "goal": goal, "policies": found}


def table(policies: Sequence[Policy], trainings: int) -> str:
    """For a person."""
    found = numbers(policies, trainings)
    places = [round(share * POINTS) - 1 for share in SHARES]
    header = ("policy", "evaluations", "trainings each", *(f"at {trainings * share:,.0f}" for share in SHARES),
              f"to {found['goal']:.4f}", "share of all", "95 %")  # fmt: skip
    rows = []
    for one in found["policies"]:
        needed, ends = one["trainings_to_goal"], one["trainings_to_goal_interval"]
        shares = ["never" if end is None else f"{end / trainings:.2f}" for end in ends]
        rows.append(
            (one["policy"], f"{one['evaluations']:,.0f}", f"{one['trainings_each']:.2f}",
             *(f"{one['median'][place]:.4f}" if place < len(one["median"]) else "" for place in places),
             "-" if needed is None else f"{needed:,.0f}", "-" if needed is None else f"{needed / trainings:.2f}",
             f"{shares[0]} to {shares[1]}")
        )  # fmt: skip
    text = f"true fitness of what the search returns: median of {len(policies[0].fitness)} seeds"
    return f"{toolkit.table(header, rows)}\n{text}"


def picture(policies: Sequence[Policy], trainings: int) -> Figure:
    """True fitness against trainings spent."""
    from hpcnas.analysis.figures import style as pictures

    figure = pictures.new_figure(8.5, 5.2)
    axes = figure.subplots()
    goal = float(policies[0].band()[0][-1])
    for number, policy in enumerate(policies):
        colour = pictures.COLOURS[number % len(pictures.COLOURS)]
        median, low, high = policy.band()
        x = trainings / POINTS * np.arange(1, len(median) + 1)
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        needed = reached(median, goal, trainings / POINTS)
        label = policy.name if needed is None or number == 0 else f"{policy.name}: ÷ {trainings / needed:.1f}"
        axes.plot(x, median, color=colour, lw=2.2, label=label)
    axes.axhline(goal, color=pictures.PALE, lw=1.0, ls="--", zorder=0)
    axes.set_title(f"Found with as many trainings (median of {len(policies[0].fitness)} seeds, 95 % of the median)")
    axes.set_xlabel("trainings spent")
    axes.set_ylabel("fitness without noise of the individual returned (%)")
    axes.set_xlim(left=0, right=trainings)
    axes.set_ylim(bottom=float(min(policy.band()[0][POINTS // 50] for policy in policies)))
    pictures.write_in_percent(axes.yaxis)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(policies)))
    return figure


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
