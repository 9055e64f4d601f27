"""An evaluation without training: the fitness of `landscape`, with the noise, durations and failures that were set.

    task ─► foresee ─► outcome and seconds        a pure function of the task and the settings
                         └─► SyntheticEvaluator   sleeps so long, then returns it
                         └─► simulation           does the same by a clock of its own

For tests, for sizing jobs, for teaching and for trying out job scripts. Imports neither torch nor h5py.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcnas import seeds
from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Stopped, Task, first_below
from hpcnas.search.landscape import true_fitness
from hpcnas.training.evaluator import Loaded

FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "synthetic")  # as if it were CIFAR-10


_CURVE_RISE = 0.1  # of accuracy, from the first step to the last
_CURVE_NOISE = 5.0  # of an accuracy near the first step, in units of the noise of a final one


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What will become of a task, and after how many seconds."""

    outcome: Outcome
    seconds: float


class Foresight:
    """What becomes of tasks under some settings; the same task has the same fate wherever it is asked for."""

    def __init__(self, config: SearchConfig, duration: Callable[[Task], float] | None = None) -> None:
        """`duration`: the seconds of a task whose trainings end, where these are not as configured (`durations`)."""
        self._settings = config.evaluation
        self._duration = duration or self._configured
        self._hang_timeout = config.run.hang_timeout
        self._replicates = config.training.replicates
        self._rungs = config.training.rungs
        self._skeleton = config.skeleton(FACTS)
        self._known = functools.lru_cache(maxsize=16_384)(self._fitness_and_parameters)  # many children are like others

    def of(self, task: Task) -> Foreseen:
        """The outcome of a task: accuracies by the noise of its trainings' seeds, or a failure.

        A training that diverges does so at every attempt, whatever task it is part of; crashes and hangs are drawn anew
        for each attempt at a task. What would fail after it is stopped at a rung does not fail.
        """
        settings = self._settings
        accuracies, parameters = self.trained(task.genotype, task.seeds)
        curves = self._curves(task, accuracies) if task.rungs else ()
        rung = first_below(curves, task.floors)
        whole = 1.0 if rung is None else self._rungs[rung]  # share of the training after which it ends by itself
        seconds = self._duration(task)
        if settings.synthetic_spread or settings.synthetic_nans:
            always = seeds.fate_generator(task.seeds[0], 0)
            deviation = math.sqrt(math.log1p(settings.synthetic_spread**2))  # a log-normal distribution of that mean
            seconds *= math.exp(deviation * always.normal() - deviation**2 / 2)
            if any(self._diverges(seed) for seed in task.seeds) and (share := always.random()) < whole:
                return Foreseen(Failure(FailureKind.NAN, "the loss was not finite (synthetic)"), seconds * share)
        if settings.synthetic_crashes or settings.synthetic_hangs:
            drawn, share = seeds.fate_generator(task.seeds[0], task.attempt).random(2)
            if share >= whole:  # it was stopped before
                drawn = 1.0
            if drawn < settings.synthetic_crashes:
                failure = Failure(FailureKind.CRASH, "the trainer has crashed (synthetic)")
                return Foreseen(failure, seconds * share)
            if drawn < settings.synthetic_crashes + settings.synthetic_hangs:
                failure = Failure(FailureKind.HANG, "the trainer has given no sign of life (synthetic)")
                return Foreseen(failure, seconds * share + self._hang_timeout)
        if rung is not None:
            seconds *= whole
            return Foreseen(
                Stopped(tuple(curve[: rung + 1] for curve in curves), parameters, 0.0, seconds, 0.0), seconds
            )
        judged = len(curves) if task.floors else 0
        return Foreseen(Evaluation(accuracies, parameters, 0.0, seconds, 0.0, curves, judged), seconds)

    def _configured(self, task: Task) -> float:
        return self._settings.synthetic_seconds * len(task.seeds) / self._replicates

    def curve(self, genotype: Genotype, accuracy: float, training_seed: int) -> tuple[float, ...]:
        """The accuracy at each rung of a training that ends with this one: lower the earlier it is, and by a noise of
        its own, both in proportion to what is left of the training."""
        drawn = seeds.curve_generator(training_seed).normal(size=len(self._rungs))
        noise = _CURVE_NOISE * self._settings.synthetic_noise
        lower = ((1.0 - share) * (noise * one - _CURVE_RISE) for share, one in zip(self._rungs, drawn, strict=True))
        return tuple(float(min(1.0, max(0.0, accuracy + one))) for one in lower)

    def _curves(self, task: Task, accuracies: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        found = zip(accuracies, task.seeds, strict=True)
        return tuple(self.curve(task.genotype, accuracy, seed) for accuracy, seed in found)

    def trained(self, genotype: Genotype, training_seeds: Sequence[int]) -> tuple[tuple[float, ...], int]:
        """The accuracies of trainings with these seeds, from 0 to 1, and the network's parameters."""
        fitness, parameters = self._known(genotype)
        return tuple(self.noisy(fitness, seed) for seed in training_seeds), parameters

    def noisy(self, fitness: float, training_seed: int) -> float:
        """A fitness as the training with this seed measures it, from 0 to 1."""
        noise = self._settings.synthetic_noise * seeds.noise_generator(training_seed).normal()
        return float(min(1.0, max(0.0, fitness + noise)))

    def _diverges(self, seed: int) -> bool:
        share = self._settings.synthetic_nans
        return share > 0 and bool(seeds.fate_generator(seed, 0).random() < share)

    def _fitness_and_parameters(self, genotype: Genotype) -> tuple[float, int]:
        graph = expand(genotype)
        return true_fitness(graph), sizes.size(graph, self._skeleton).parameters


class SyntheticEvaluator:
    """Evaluator without training: sleeps as long as was foreseen, if at all."""

    def __init__(self, config: SearchConfig) -> None:
        self._foresight = Foresight(config)
        self._foreseen: Foreseen | None = None
        self._ready = 0.0

    def ready(self, timeout: float) -> Loaded | None:
        return Loaded(FACTS, {})

    def start(self, task: Task) -> None:
        self._foreseen = self._foresight.of(task)
        self._ready = time.monotonic() + self._foreseen.seconds

    def poll(self, timeout: float) -> Outcome | None:
        wait = self._ready - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout))
            if wait > timeout:
                return None
        assert self._foreseen is not None, "poll before start"
        return self._foreseen.outcome

    def save(self, timeout: float) -> None:
        """There is nothing to save: an evaluation is made in no time, or slept through."""

    def close(self) -> None:
        self._foreseen = None
