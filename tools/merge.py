#!/usr/bin/env python3
"""Joins the populations of several runs into a new run that a search can start from.

Only what was evaluated is taken, run after run in the order of evaluation; in the new run it has no parents (birth
FOUNDER). The runs must agree in all that a fitness depends on. Search settings are those of the first run, with another
seed. Go on with a larger budget: python -m hpcnas --run NEW --budget N. NEW is there as a whole or, whatever is killed,
not at all.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import toolkit

from hpcnas import __version__
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.network_hash import VERSION, network_hash
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.search import whole_run
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun, StoreError

FREE = (  # how settings of [search] begin
    *("strategy", "initial", "tournament_", "max_", "duplicates", "seed"),
    *("aging_", "survivors", "objective", "racing"),
)


def main() -> int:
    """Writes the new run; returns the exit code."""
    parser = toolkit.parser(__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="NEW", help="folder of the new run: new, or empty")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the new run (default: the highest plus 1)")
    options = parser.parse_args()
    runs = [load(folder) for folder in options.runs]
    check(options.runs, runs)
    population = merged(runs)
    settings = chosen(runs, len(population), options)
    try:
        whole_run.write(options.into, StoredRun("", 0, settings, population, [session(runs)]))
    except StoreError as error:
        toolkit.fail(str(error))
    counts = [len(run.population.evaluated) for run in runs]
    best = population.best
    assert best is not None, "checked: every run has evaluated something"
    if options.json:
        toolkit.print_json({"run": str(options.into), "individuals": len(population), "taken": counts, "best": best,
                            "fitness": population.column("fitness")[best]})  # fmt: skip
    else:
        for folder, count in zip(options.runs, counts, strict=True):
            print(f"{folder}: {count} individuals")
        print(f"{options.into}: {len(population)} individuals, the best is {best} of fitness "
              f"{population.column('fitness')[best]:.4f}")  # fmt: skip
        print(f"go on with: python -m hpcnas --run {options.into} --budget N, N more than {len(population)}")
    return 0


def load(folder: Path) -> StoredRun:
    """The run up to its last record, in the journal or not; ends the tool where not all of it can be read."""
    try:
        run, problems = salvage(folder)
    except StoreError as error:
        toolkit.fail(str(error))
    if problems:
        toolkit.fail(f"{folder}: expected a whole run: {problems[0]}; tools/verify.py --repair makes one of it")
    return run


def check(folders: Sequence[Path], runs: Sequence[StoredRun]) -> None:
    """Ends the tool unless the fitnesses of all runs mean the same."""
    if len({run.run for run in runs}) < len(runs):
        toolkit.fail("expected different runs, but one of them is given twice")
    holders = dict[str, Path]()
    for folder, run in zip(folders, runs, strict=True):
        for name in whole_run.contained(run):
            if name in holders:
                toolkit.fail(f"expected runs that share nothing, but {holders[name]} and {folder} have individuals of "
                             f"the run {name}: one was merged or repaired from it")  # fmt: skip
            holders[name] = folder
    for folder, run in zip(folders, runs, strict=True):
        if not len(run.population.evaluated):
            toolkit.fail(f"{folder}: expected a run that has evaluated something, but there is nothing to take")
        first, expected = folders[0], runs[0].sessions[0].facts
        if run.config.search.duplicates == "average":
            toolkit.fail(
                f"{folder}: expected a run without --duplicates average: a fitness there is also of the trainings of "
                "other individuals, and such runs cannot be merged"
            )
        changed = [line for line in search_config.differences(runs[0].config, run.config) if not _is_free(line)]
        if changed:
            listing = "\n  ".join(changed)
            toolkit.fail(f"expected runs whose fitness means the same, but {folder} differs from {first}:\n  {listing}")
        if run.sessions[0].facts != expected:
            toolkit.fail(f"{folder}: expected the data of {first}, {expected}, got {run.sessions[0].facts}")


def _is_free(line: str) -> bool:
    """Whether a difference of settings says nothing about what a fitness means."""
    section, _, key = line.partition(":")[0].partition(".")
    return section == "search" and key.startswith(FREE)


def merged(runs: Sequence[StoredRun]) -> Population:
    """All evaluated individuals of the runs, as founders."""
    columns = {}
    for column in COLUMNS:
        parts = [run.population.column(column.name)[run.population.evaluated] for run in runs]
        columns[column.name] = np.concatenate(parts)
    count = len(columns["birth"])
    columns["birth"][:] = Birth.FOUNDER
    columns["parent"][:] = -1
    columns["view"][:] = 0
    columns["redrawn"][:] = columns["known"][:] = 0
    first = runs[0].population
    if runs[0].config.search.duplicates != "retrain":  # then the search that goes on has to know them
        for row in np.flatnonzero(columns["network_version"] != VERSION):  # nobody has looked, or by another hash
            genotype = Genotype.from_array(first.space, columns["genotype"][row])
            columns["network"][row] = np.frombuffer(network_hash(genotype), dtype=np.uint8)
            columns["network_version"][row] = VERSION
    return Population.from_columns(first.space, first.replicates, columns, np.arange(count), [])


def chosen(runs: Sequence[StoredRun], budget: int, options: argparse.Namespace) -> SearchConfig:
    """The first run's settings with another seed; the budget is spent already. Ends the tool for a wrong seed."""
    first = search_config.build(search_config.lasting(runs[0].config))
    seed = max(run.config.search.seed for run in runs) + 1 if options.seed is None else options.seed
    try:
        search = replace(first.search, seed=seed, budget=budget, trainings=None, initial=None)
        return replace(first, search=search, run=replace(first.run, run=str(options.into)))
    except search_config.ConfigError as error:
        toolkit.fail(f"--seed: {error}")


def session(runs: Sequence[StoredRun]) -> Session:
    """The merging, as the new run's first session."""
    software = {"hpcnas": __version__, "merged": " ".join(name for run in runs for name in whole_run.contained(run))}
    return Session(time.time(), socket.gethostname(), os.getpid(), 1, software, runs[0].sessions[0].facts)


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
