"""What a retraining will cost, by some of its own steps on the ranks of the job (--dry-run --measure).

It is trained as ever, but by a keeper that keeps nothing beside the times that the training itself counts, which are
without those of validations: where it has enough of them, the training leaves. Knows neither ranks nor images.
"""

from __future__ import annotations

import resource
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcnas.config.retraining import RetrainingSettings
from hpcnas.errors import Error
from hpcnas.job.log import duration, many
from hpcnas.retrain.keeper import Bystander

if TYPE_CHECKING:
    from hpcnas.retrain.loop import DistributedTraining

_WARM_UP = 2  # steps that are not counted: memory is taken, algorithms are chosen
_LEAST, _LONG_ENOUGH = 3, 10.0  # further steps, and their seconds
_GIB = 2**30


class NothingTimed(Error):
    """No step was made that could be timed."""


@dataclass(frozen=True)
class RankTimes:
    """What one rank has found: seconds of each step, what share of them it waited for images, and the most bytes that
    it has taken of its host's memory, and of its GPU's."""

    steps: tuple[float, ...]
    waited: float
    host: int
    device: int | None


class Timekeeper(Bystander):
    """Notes when steps end, in seconds that the training has spent on steps."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._training: DistributedTraining | None = None

    def training_begins(self, seed: int, training: DistributedTraining) -> None:
        self._training = training

    def made_step(self) -> None:
        assert self._training is not None, "it begins before its steps"
        self._ends.append(self._training.seconds)

    def enough(self) -> bool:
        """Whether the training is to leave."""
        counted = self._ends[_WARM_UP - 1 :]
        return len(counted) > _LEAST and counted[-1] - counted[0] >= _LONG_ENOUGH

    def timed(self) -> RankTimes:
        """What was found. Raises NothingTimed."""
        counted = self._ends[_WARM_UP - 1 :] if len(self._ends) > _WARM_UP else self._ends
        steps = tuple(after - before for before, after in zip(counted, counted[1:], strict=False))
        if not steps or self._training is None:
            raise NothingTimed("expected steps to be timed, but the training has ended before")
        waited = self._training.waited / max(1e-9, self._training.seconds)
        host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return RankTimes(steps, min(1.0, waited), host, self._training.peak_memory)


def told(training: RetrainingSettings, found: list[RankTimes], trainings: int) -> list[str]:
    """Lines about so many trainings with these ranks; `training` is that of the data that were timed."""
    step = statistics.median(found[0].steps)
    whole = step * training.steps
    lines = [
        f"{1e3 * step:,.1f} ms a step with {many(len(found), 'rank')} ({many(len(found[0].steps), 'step')} timed), "
        f"{training.batch_size / step:,.0f} images/s, {found[0].waited:.1%} of it waiting for images",
        f"a training of {training.steps:,} steps: {duration(whole)}; {trainings} of them, one after another: "
        f"{duration(trainings * whole)}, {trainings * whole * len(found) / 3600:,.3g} rank hours; validations and "
        "tests are not timed",
        f"memory of a rank, at the most: {max(one.host for one in found) / _GIB:.2f} GiB of its host",
    ]
    devices = [one.device for one in found if one.device is not None]
    if devices:
        lines[-1] += f", {max(devices) / _GIB:.2f} GiB of its GPU"
    return lines
