"""The checkpoint of a retraining, read as its next job would read it, without going on from it. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from hpcnas.analysis.classifier import first_line
from hpcnas.architecture import expansion
from hpcnas.job.world import AloneWorld
from hpcnas.retrain.feed import Appearance
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.process_group import Group
from hpcnas.retrain.record import Record, Row
from hpcnas.storage import sealed
from hpcnas.training import checkpoints


class WrongState(Exception):
    """What a checkpoint holds is not the state of that training: one line."""


@dataclass(frozen=True)
class CheckpointState:
    """How far the training was."""

    step: int
    history: list[Row]


def read(path: Path, record: Record, seed: int) -> CheckpointState:
    """What the checkpoint of that seed's training holds. Raises OSError, sealed.Damaged, and WrongState where a job
    could not go on from it."""
    try:
        found = checkpoints.load_unsealed_too(path)
        _training(record, seed).check(found)
        return CheckpointState(int(found["step"]), [Row(**row) for row in found["history"]])
    except (OSError, sealed.Damaged):
        raise
    except Exception as error:  # a file of something else can raise anything
        raise WrongState(f"expected the state of seed {seed}, but {first_line(error)}") from None


def _training(record: Record, seed: int) -> DistributedTraining:
    """That training before its first step; without images, of which its state knows nothing."""
    recipe, inputs, device = record.recipe, record.inputs, torch.device("cpu")
    training = replace(recipe.training, class_weights=None)  # they depend on the images, and are no part of the state
    recipe = replace(recipe, training=training, run=replace(recipe.run, compile=False))
    seen = Appearance(record.facts, inputs.class_names, inputs.mean, inputs.std, inputs.resize)
    feed: Any = SimpleNamespace(appearance=seen)  # no step is made
    graph, group = expansion.expand(record.genotype), Group(AloneWorld(), device, None)
    return DistributedTraining(graph, inputs.skeleton, recipe, seed, feed, group, device, lambda text: None)
