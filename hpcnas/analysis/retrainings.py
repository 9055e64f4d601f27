"""Retrainings as analyses read them: finding one, and those of its trainings that are complete. No torch.

Retrainings are read through `hpcnas.retrain.record_file` alone: the last renamed file, also while the retraining goes
on.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from hpcnas.analysis.runs import AnalysisError
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Record, State, Trained
from hpcnas.retrain.weights_source import readings
from hpcnas.storage.folder import StoreError


@dataclass(frozen=True)
class Found:
    """A retraining in its folder."""

    folder: Path
    stored: Record

    @property
    def complete(self) -> list[Trained]:
        """The trainings that have been tested, in the order of their seeds."""
        return [training for training in self.stored.trainings if training.state is State.COMPLETE]

    def weights(self, training: Trained) -> Path:
        """The file of a training's weights."""
        return record_file.weights_path(self.folder, training.seed)


def load(folder: Path) -> Found:
    """The retraining in a folder. Raises AnalysisError where there is none."""
    try:
        return Found(folder, record_file.read(folder))
    except StoreError as error:
        raise AnalysisError(str(error)) from error


def is_one(folder: Path) -> bool:
    """Whether a retraining is there. A folder that cannot be looked into counts as none: `load` says why."""
    try:
        return record_file.exists(folder)
    except StoreError:
        return False


def names_one(text: str) -> bool:
    """Whether `FOLDER` or `FOLDER:SEED` names a retraining, and not a search or a file."""
    return any(is_one(folder) for folder in readings(text))


def trained(text: str) -> tuple[Found, Trained]:
    """The complete training that `FOLDER` (of the least seed) or `FOLDER:SEED` names.

    By itself never that of the highest accuracy: the test images would have chosen it. Raises AnalysisError if there is
    none.
    """
    folder = next((folder for folder in readings(text) if is_one(folder)), Path(text))
    found = load(folder)
    seeds = {training.seed: training for training in found.complete}
    if not seeds:
        diverged = ", ".join(map(str, found.stored.diverged))
        why = f" (the loss of seed {diverged} was not finite)" if diverged else ""
        raise AnalysisError(f"{folder}: no training is complete yet{why}, so there are no weights")
    if folder == Path(text):
        return found, seeds[min(seeds)]
    seed = int(text.rpartition(":")[2])
    if seed not in seeds:
        listing = ", ".join(map(str, seeds))
        raise AnalysisError(f"{folder}: expected the seed of a complete training ({listing}), got {seed}")
    return found, seeds[seed]


def with_weights(text: str) -> tuple[Found, Trained]:
    """Likewise, but where no training is complete the one that is under way and has been saved; FOLDER:SEED may name it
    at any time. Never one that has diverged. Raises AnalysisError if there is none."""
    folder = next((folder for folder in readings(text) if is_one(folder)), Path(text))
    found = load(folder)
    saved = {one.seed: one for one in found.stored.trainings if one.state is State.TRAINING and one.step}
    if folder == Path(text):
        return trained(text) if found.complete or not saved else (found, saved[min(saved)])
    seed = int(text.rpartition(":")[2])
    if seed in found.stored.diverged:
        raise AnalysisError(f"{folder}: the loss of seed {seed} was not finite, so there are no weights")
    return (found, saved[seed]) if seed in saved else trained(text)


def mean_and_std(values: list[float]) -> str:
    """Shares of images, from 0 to 1, in words: percent, with the standard deviation of several."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread} %"
