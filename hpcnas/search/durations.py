"""How long trainings last, as it was measured: of a few networks on the devices of a job, or of all those of a run.

    --dry-run --measure   trainings of a small, typical and large network ─► MeasuredDurations ─┐
    simulate --from RUN   what every individual of the run took         ─► RecordedDurations ─┴─► seconds of a task

`synthetic` takes such seconds in place of those that are set, so that `simulation` goes by them. What a network costs
goes by its FLOPs. Trains nothing and reads no files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from hpcnas import seeds
from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.evolution.population import Population
from hpcnas.messages import Failure, FailureKind, Task

_ALIKE = 25  # individuals of the nearest FLOPs, of which one says how long a network trains
_DURATION_STREAM = 2**32 - 1  # of `seeds.fate_generator`: no task is attempted so often


@dataclass(frozen=True)
class MeasuredDurations:
    """Seconds of a task by its network's FLOPs and the number of its seeds: linear between what was measured, and
    beyond it. `flops` (k,), rising; `seconds` (k, s) of tasks of `seeds` (s,), rising."""

    skeleton: Skeleton
    flops: np.ndarray
    seeds: tuple[int, ...]
    seconds: np.ndarray

    def __call__(self, task: Task) -> float:
        return self.of(_flops(task.genotype, self.skeleton), len(task.seeds))

    def of(self, flops: float, count: int) -> float:
        """The seconds of so many trainings, side by side, of a network of so many FLOPs."""
        by_seeds = [_line(flops, self.flops, column) for column in self.seconds.T]
        if len(self.seeds) == 1:
            return by_seeds[0] * count / self.seeds[0]
        return _line(count, np.array(self.seeds, dtype=float), np.array(by_seeds))


def _line(at: float, known: np.ndarray, values: np.ndarray) -> float:
    """The value at a place, from values (k,) at the places `known`, rising: linear between two neighbours, and on by
    the last two; never less than a tenth of the least."""
    if len(known) == 1:
        return float(values[0])
    right = int(np.clip(np.searchsorted(known, at), 1, len(known) - 1))
    share = (at - known[right - 1]) / (known[right] - known[right - 1])
    return float(max(values[right - 1] + share * (values[right] - values[right - 1]), 0.1 * values.min()))


@dataclass(frozen=True)
class RecordedDurations:
    """Seconds of a task as they were in a run: those of a network of much the same FLOPs, drawn for each task among the
    nearest. `flops` (n,), rising; `seconds` (n,) of one replicate. Raises ValueError without any."""

    skeleton: Skeleton
    flops: np.ndarray
    seconds: np.ndarray

    @classmethod
    def of(cls, population: Population, skeleton: Skeleton) -> RecordedDurations:
        """By the individuals of a run that were evaluated, failed attempts aside."""
        ids, count = np.sort(population.evaluated), population.column("replicates_trained")
        parts = [population.column(name) for name in ("setup_seconds", "training_seconds", "validation_seconds")]
        seconds = np.sum(parts, axis=0)[ids] / np.maximum(count[ids], 1)
        took = (count[ids] > 0) & (seconds > 0)
        if not took.any():
            raise ValueError("nothing of it was evaluated, or in no time")
        ids, seconds = ids[took], seconds[took]
        flops = np.array([_flops(population.individual(id).genotype, skeleton) for id in ids.tolist()], dtype=float)
        order = np.argsort(flops, kind="stable")
        return cls(skeleton, flops[order], seconds[order])

    def __call__(self, task: Task) -> float:
        flops = _flops(task.genotype, self.skeleton)
        few = min(_ALIKE, len(self.flops))
        first = int(np.clip(np.searchsorted(self.flops, flops) - few // 2, 0, len(self.flops) - few))
        drawn = seeds.fate_generator(task.seeds[0], _DURATION_STREAM).integers(few)
        return float(self.seconds[first + drawn]) * len(task.seeds)


@dataclass(frozen=True)
class FailureShares:
    """What became of the attempts of a run: shares of attempts, from 0 to 1; `nans` of trainings."""

    crashes: float
    hangs: float
    nans: float

    @classmethod
    def of(cls, population: Population) -> FailureShares:
        """Out of memory and other errors count as crashes; what took too long, as hangs."""
        outcomes = [result.outcome for result in population.failed_attempts]
        kinds = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Failure))
        nans, hangs = kinds[FailureKind.NAN], kinds[FailureKind.HANG] + kinds[FailureKind.OVERRUN]
        attempts = max(1, len(population.evaluated) + len(outcomes))
        trainings = max(1, int(population.column("replicates_trained").sum()) + nans)
        return cls((len(outcomes) - hangs - nans) / attempts, hangs / attempts, nans / trainings)


def _flops(genotype: Genotype, skeleton: Skeleton) -> int:
    return sizes.size(expand(genotype), skeleton).flops
