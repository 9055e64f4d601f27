"""One fitness: trainings from scratch, one a seed, and their validation accuracies (§4.1).

    seeds ─► as many trainings at a time as the method can ─► accuracies ─► the next ones … ─► Evaluation

The test set is never used here. `method` computes; this file knows neither files nor messages. The caller is called
back between any two steps, and can then take the state to go on from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.messages import Evaluation
from hpcnas.training import causes
from hpcnas.training.method import TrainingData, Trainings


class OtherEvaluation(ValueError):
    """A saved state belongs to another evaluation, or to this one by another method or on another kind of device."""


class FitnessInProgress:
    """One evaluation: one training a seed, as many at a time as the method can. It can be saved and resumed between any
    two steps. Where the device's memory does not suffice, half as many are tried."""

    def __init__(
        self,
        genotype: Genotype,
        seeds: tuple[int, ...],
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        method: type[Trainings],
    ) -> None:
        self._method = method
        self._genotype = genotype
        self._seeds = seeds
        self._skeleton = skeleton
        self._data = data
        self._settings = settings
        self._side_by_side = method.side_by_side
        self._accuracies: list[float] = []  # of finished replicates
        self._trainings: Trainings | None = None  # those under way
        self._running = 0  # how many those are, or are to be
        self._saved: dict[str, Any] | None = None  # state that they begin with
        self._clock = Stopwatch()

    def run(
        self,
        beat: Callable[[], None],
        replicate_done: Callable[[], None],
        aside: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> Evaluation:
        """The fitness. `beat` is called between steps, `replicate_done` after replicates; `state` may be taken in both.
        What may take minutes without a step, such as compiling, is done within `aside()`. Raises LossNotFinite, and
        whatever they raise."""
        while len(self._accuracies) < len(self._seeds):
            try:
                self._accuracies += self._train_next(beat, aside)
            except Exception as error:
                if self._running == 1 or not causes.is_out_of_memory(error):
                    raise
                self._side_by_side = self._running // 2
                self._saved = None  # a state of so many does not fit here either: these begin anew
            self._trainings = None
            if self._data.pixels.is_cuda:
                torch.cuda.empty_cache()
            replicate_done()
        graph = expand(self._genotype)
        spent = self._clock.seconds
        return Evaluation(
            accuracies=tuple(self._accuracies),
            parameters=sizes.size(graph, self._skeleton).parameters,
            setup_seconds=spent["setup"],
            training_seconds=spent["training"],
            validation_seconds=spent["validation"],
        )

    def _train_next(
        self, beat: Callable[[], None], aside: Callable[[], AbstractContextManager[object]]
    ) -> tuple[float, ...]:
        """Accuracies of the next replicates."""
        self._clock.lap("elsewhere")
        done = len(self._accuracies)
        if self._saved is None:
            self._running = min(self._side_by_side, len(self._seeds) - done)
        seeds = self._seeds[done : done + self._running]
        with aside():
            trainings = self._method.of(self._genotype, self._skeleton, self._data, self._settings, seeds)
            if self._saved is not None:
                trainings.resume(self._saved)
                self._saved = None
            trainings.prepare()
        self._trainings = trainings
        self._clock.lap("setup")
        trainings.run(beat)
        self._clock.lap("training")
        accuracies = trainings.accuracies(beat)
        self._clock.lap("validation")
        return accuracies

    def state(self) -> dict[str, Any]:
        """Everything done so far, for `resume`: plain values and tensors."""
        self._clock.lap("training" if self._trainings is not None else "elsewhere")
        return {
            "of": self._identity(),
            "accuracies": list(self._accuracies),
            "running": self._running,
            "trainings": None if self._trainings is None else self._trainings.state(),
            "seconds": dict(self._clock.seconds),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`. Raises OtherEvaluation for that of another, and KeyError or TypeError for something
        else; nothing has changed then."""
        if state["of"] != self._identity():
            raise OtherEvaluation(f"expected the state of {self._identity()}, got that of {state['of']}")
        accuracies, running, saved = list(state["accuracies"]), state["running"], state["trainings"]
        self._clock.seconds |= state["seconds"]
        self._accuracies, self._running, self._saved = accuracies, running, saved

    def _identity(self) -> str:
        """What has to be the same for a state to be continued; generators differ from one type of device to another."""
        device = self._data.pixels.device.type
        things = (
            self._method.kind(self._skeleton),
            self._genotype.codes.hex(),
            self._seeds,
            self._skeleton,
            self._settings,
            self._data.facts,
            device,
        )
        return " ".join(str(thing) for thing in things)


class Stopwatch:
    """Wall-clock seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds = {"setup": 0.0, "training": 0.0, "validation": 0.0}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Adds the time since the last lap to `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
