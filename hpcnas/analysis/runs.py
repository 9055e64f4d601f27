"""Runs as analyses read them: opened, one of their individuals or a genotype named, and what several analyses ask for.

Runs are read through `run_file` alone: the last renamed file, also while the run goes on.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.errors import Error
from hpcnas.evolution.population import Population
from hpcnas.search import references, run_file
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.folder import StoreError


class AnalysisError(Error):
    """What was asked for is not there, or cannot be told from these runs: one sentence."""


def load(folder: Path) -> StoredRun:
    """The run in a folder. Raises AnalysisError where there is none."""
    try:
        return run_file.read(folder)
    except StoreError as error:
        raise AnalysisError(str(error)) from error


def individual(text: str) -> tuple[Path, StoredRun, int]:
    """Folder, run and id of the one individual that a text names. Raises WrongReference."""
    found = references.individual(text)
    return found.folder, found.run, found.id


def named_genotype(text: str) -> tuple[str, Genotype]:
    """The one genotype that a text names, after a name for it. Raises WrongReference."""
    found = references.one(text)
    return found.name, found.genotype


def spread(population: Population) -> np.ndarray:
    """Standard deviation of the accuracies that each fitness is the mean of, NaN where fewer than two are known: shape
    (individuals,)."""
    accuracies, count = population.column("accuracies"), population.column("replicates_trained")
    several = count > 1
    result = np.full(len(count), np.nan)
    result[several] = np.nanstd(accuracies[several], axis=1, ddof=1)
    repeats = population.column("repeats")
    shared = np.flatnonzero(repeats >= 0)
    for id in np.union1d(shared, repeats[shared]).tolist():
        pooled = population.averaged_accuracies(id)
        result[id] = statistics.stdev(pooled) if len(pooled) > 1 else np.nan
    return result


def motif_name(space: Space, level: int, motif: int) -> str:
    """What a motif (from 0) is called: `cell`, `M3`, and `level-3 M2` where there are several levels of motifs."""
    if level == space.top:
        return "cell"
    return f"M{motif + 1}" if space.top == 3 else f"level-{level} M{motif + 1}"
