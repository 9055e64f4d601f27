"""What a training has learnt, complete or not: the file of its weights, or the weights out of the last checkpoint.

A running job may replace the files at any moment, and end the training between two of them: what does not fit together
is read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcnas.analysis import retrainings
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.retrain.record import State, Trained

_ATTEMPTS = 3


@dataclass(frozen=True)
class Unfinished:
    """The weights of a training that is not complete."""

    step: int
    steps: int
    averaged: bool
    weights: Mapping[str, Any]  # the network's state_dict

    @property
    def remark(self) -> str:
        """What whoever gets them has to know."""
        which = "averaged weights" if self.averaged else "weights"
        return f"NOT COMPLETE: {which} after step {self.step:,} of {self.steps:,}, which nothing was tested with"


@dataclass(frozen=True)
class Learnt:
    """What a training has learnt by now: `unfinished`, or else what lies in the file of its weights."""

    found: Found
    training: Trained
    unfinished: Unfinished | None

    @property
    def remark(self) -> str | None:
        """What whoever gets the weights has to know; None of a training that is complete."""
        if self.unfinished is None:
            return None
        return f"{self.found.folder}, seed {self.training.seed}: {self.unfinished.remark}"


def learnt(text: str) -> Learnt:
    """What FOLDER or FOLDER:SEED has learnt: see `retrainings.with_weights`. Raises AnalysisError where there is
    nothing, or it cannot be read."""
    problem = ""
    for _ in range(_ATTEMPTS):
        found, training = retrainings.with_weights(text)
        if training.state is State.COMPLETE:
            return Learnt(found, training, None)
        from hpcnas.retrain import underway  # torch

        try:
            saved = underway.load(found.folder, found.stored, training.seed)
        except underway.NoCheckpoint as error:  # it may have become complete just now
            problem = str(error)
        except underway.UnusableCheckpoint as error:
            raise AnalysisError(str(error)) from error
        else:
            settings = found.stored.recipe.training
            averaged = bool(settings.weight_averaging)
            return Learnt(found, training, Unfinished(saved.step, settings.steps, averaged, saved.weights))
    raise AnalysisError(f"expected the checkpoint of seed {training.seed}, which is not complete, but {problem}")
