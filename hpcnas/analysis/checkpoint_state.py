"""The checkpoint of a retraining, read as its next job would read it, without going on from it. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcnas.errors import first_line
from hpcnas.retrain.record import Record, Row
from hpcnas.retrain.underway import without_images
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
        without_images(record, seed).check(found)
        return CheckpointState(int(found["step"]), [Row(**row) for row in found["history"]])
    except (OSError, sealed.Damaged):
        raise
    except Exception as error:  # a file of something else can raise anything
        raise WrongState(f"expected the state of seed {seed}, but {first_line(error)}") from None
