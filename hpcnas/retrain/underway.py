"""The weights of a training that is not complete, out of its checkpoint: what would be tested if it ended there.

Made by the loop itself, so that averages and the statistics of batch normalisation are where the test has them. Reads
one file, which a running job may replace at any time; says nothing of the training's record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hpcnas.architecture import expansion
from hpcnas.errors import first_line
from hpcnas.job.world import AloneWorld
from hpcnas.retrain.feed import Appearance
from hpcnas.retrain.file_store import CHECKPOINT
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.process_group import Group
from hpcnas.retrain.record import Record
from hpcnas.storage import sealed
from hpcnas.training import checkpoints


class NoCheckpoint(Exception):
    """There is no checkpoint of that training, or none any more: one line."""


class UnusableCheckpoint(Exception):
    """A checkpoint that cannot be used: one line."""


@dataclass(frozen=True)
class SavedWeights:
    """What a training has learnt by its last save."""

    step: int  # steps made
    weights: dict[str, Tensor]  # the network's state_dict, on the CPU, without what serves the training alone


def load(folder: Path, record: Record, seed: int) -> SavedWeights:
    """The training of that seed as it was saved last. Raises NoCheckpoint, UnusableCheckpoint."""
    path = folder / CHECKPOINT
    try:
        state = checkpoints.load_unsealed_too(path)
        if state["seed"] != seed:
            raise NoCheckpoint(f"{path} is that of seed {state['seed']}")
        training = without_images(record, seed)
        training.resume(state)
    except FileNotFoundError:
        raise NoCheckpoint(f"there is no {path}") from None
    except NoCheckpoint:
        raise
    except sealed.Damaged as error:
        raise UnusableCheckpoint(f"{path} is damaged: {error}") from None
    except Exception as error:  # a damaged file can raise anything
        raise UnusableCheckpoint(f"{path}: expected the state of seed {seed}: {first_line(error)}") from error
    weights = training.weights()
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise UnusableCheckpoint(f"{path}: expected weights that are finite; the training of seed {seed} has diverged")
    return SavedWeights(training.step, weights)


def without_images(record: Record, seed: int) -> DistributedTraining:
    """The training of that seed at its beginning, alone on the CPU: for its state. No step can be made."""
    recipe = record.recipe
    recipe = replace(
        recipe, run=replace(recipe.run, compile=False), training=replace(recipe.training, class_weights=None)
    )
    inputs, cpu = record.inputs, torch.device("cpu")
    feed: Any = SimpleNamespace(
        appearance=Appearance(
            record.facts, inputs.class_names, inputs.mean, inputs.std, inputs.resize, type=inputs.type
        )
    )
    graph, group = expansion.expand(record.genotype), Group(AloneWorld(), cpu, None)
    return DistributedTraining(graph, inputs.skeleton, recipe, seed, feed, group, cpu, lambda text: None)
