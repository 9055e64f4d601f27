"""Joins the populations of several runs into a new run that a search can start from.

Only what was evaluated is taken, run after run in the order of evaluation, with its learning curves; what was stopped
early stays behind. In the new run it has no parents (birth FOUNDER). The runs must agree in all that a fitness depends
on, and in their rungs. Search settings are those of the first run, with another seed. The new run is there as a whole
or, whatever is killed, not at all.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcnas import __version__
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.network_hash import VERSION, network_hash
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.individuals import COLUMNS, Birth
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.search import whole_run
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun

FREE = (  # how settings of [search] begin
    *("strategy", "initial", "tournament_", "max_", "duplicates", "seed"),
    *("aging_", "survivors", "objective", "racing", "early_stopping"),
)


@dataclass(frozen=True)
class Merged:
    """The new run's population, how many individuals each run has given, and how many that were stopped early it has
    kept."""

    population: Population
    taken: tuple[int, ...]
    stopped: tuple[int, ...]


def merge(folders: Sequence[Path], into: Path, seed: int | None = None) -> Merged:
    """Writes the new run into a folder that does not exist or is empty; without `seed` its seed is the runs' highest
    plus 1.

    Raises AnalysisError where a run cannot be taken as a whole, or their fitnesses do not mean the same; StoreError
    where one cannot be read or the new one not be written. Then nothing is written.
    """
    runs = [load(folder) for folder in folders]
    check(folders, runs)
    population = merged(runs)
    settings = chosen(runs, len(population), into, seed)
    whole_run.write(into, StoredRun("", 0, settings, population, [session(runs)]))
    taken, stopped = ([getattr(run.population, name) for run in runs] for name in ("searched", "stopped"))
    return Merged(population, tuple(taken), tuple(stopped))


def load(folder: Path) -> StoredRun:
    """The run up to its last record, in the journal or not. Raises AnalysisError where not all of it can be read, and
    StoreError where nothing can."""
    run, problems = salvage(folder)
    if problems:
        raise AnalysisError(f"{folder}: expected a whole run: {problems[0]}; hpcnas verify --repair makes one of it")
    return run


def check(folders: Sequence[Path], runs: Sequence[StoredRun]) -> None:
    """Raises AnalysisError unless the fitnesses of all runs mean the same."""
    if len({run.run for run in runs}) < len(runs):
        raise AnalysisError("expected different runs, but one of them is given twice")
    holders = dict[str, Path]()
    for folder, run in zip(folders, runs, strict=True):
        for name in whole_run.contained(run):
            if name in holders:
                raise AnalysisError(
                    f"expected runs that share nothing, but {holders[name]} and {folder} have individuals of the run "
                    f"{name}: one was merged or repaired from it"
                )
            holders[name] = folder
    for folder, run in zip(folders, runs, strict=True):
        if not len(run.population.evaluated):
            raise AnalysisError(f"{folder}: expected a run that has evaluated something, but there is nothing to take")
        first, expected = folders[0], runs[0].sessions[0].facts
        if run.config.search.duplicates == "average":
            raise AnalysisError(
                f"{folder}: expected a run without --duplicates average: a fitness there is also of the trainings of "
                "other individuals, and such runs cannot be merged"
            )
        changed = [line for line in search_config.differences(runs[0].config, run.config) if not _is_free(line)]
        if changed:
            listing = "\n  ".join(changed)
            raise AnalysisError(
                f"expected runs whose fitness means the same, but {folder} differs from {first}:\n  {listing}"
            )
        if run.sessions[0].facts != expected:
            raise AnalysisError(f"{folder}: expected the data of {first}, {expected}, got {run.sessions[0].facts}")


def _is_free(line: str) -> bool:
    """Whether a difference of settings says nothing about what a fitness means."""
    section, _, key = line.partition(":")[0].partition(".")
    return section == "search" and key.startswith(FREE)


def merged(runs: Sequence[StoredRun]) -> Population:
    """All evaluated individuals of the runs, as founders. Confirmations stay behind: they chose among what their own
    run had found."""
    columns = {}
    for column in COLUMNS:
        parts = [run.population.column(column.name)[searched(run.population)] for run in runs]
        columns[column.name] = np.concatenate(_as_wide(parts) if column.of_measures else parts)
    count = len(columns["birth"])
    columns["birth"][:] = Birth.FOUNDER
    columns["parent"][:] = -1
    columns["view"][:] = 0
    columns["redrawn"][:] = columns["known"][:] = 0
    first = runs[0].population
    if runs[0].config.search.duplicates != "retrain":  # then the search that goes on compares with their networks
        for row in np.flatnonzero(columns["network_version"] != VERSION):  # not hashed, or by another version
            genotype = Genotype.from_array(first.space, columns["genotype"][row])
            columns["network"][row] = np.frombuffer(network_hash(genotype), dtype=np.uint8)
            columns["network_version"][row] = VERSION
    return Population.from_columns(first.space, first.replicates, columns, np.arange(count), [], first.rungs)


def _as_wide(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Columns of measures, (individuals, n), of which runs of an older version have none: NaN there."""
    width = max(part.shape[1] for part in parts)
    return [part if part.shape[1] == width else np.full((len(part), width), np.nan) for part in parts]


def searched(population: Population) -> np.ndarray:
    """Ids of the evaluated that are no confirmations, in the order of evaluation: int64, shape (n,)."""
    ids = population.evaluated
    return ids[population.column("birth")[ids] != Birth.CONFIRMATION]


def chosen(runs: Sequence[StoredRun], budget: int, into: Path, seed: int | None) -> SearchConfig:
    """The first run's settings with another seed; the budget is spent already. Raises AnalysisError for a wrong
    seed."""
    first = search_config.build(search_config.lasting(runs[0].config))
    seed = max(run.config.search.seed for run in runs) + 1 if seed is None else seed
    try:
        search = replace(first.search, seed=seed, budget=budget, trainings=None, initial=None)
        return replace(first, search=search, run=replace(first.run, run=str(into)))
    except ConfigError as error:
        raise AnalysisError(f"--seed: {error}") from error


def session(runs: Sequence[StoredRun]) -> Session:
    """The merging, as the new run's first session."""
    software = {"hpcnas": __version__, "merged": " ".join(name for run in runs for name in whole_run.contained(run))}
    return Session(time.time(), socket.gethostname(), os.getpid(), 1, software, runs[0].sessions[0].facts)
