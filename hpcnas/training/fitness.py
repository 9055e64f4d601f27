"""One fitness: trainings from scratch, one a seed, and what they say of the validation images (§4.1).

    seeds ─► as many trainings at a time as the method can ─► measures ─► the next ones … ─► Evaluation
                     └─ rung ─ rung … ─ below a floor ─► Stopped

On their way the averages of the trainings' weights are validated at the rungs, if there are any; the trainings that
begin the fitness end together where their mean at a rung is below its floor. The test set is never used here. What is
called an accuracy is whatever the fitness measures (`--fitness`).
`method` computes; this file knows neither files nor messages. The caller is called back between any two steps, and can
then take the state to go on from.
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
from hpcnas.config import measures
from hpcnas.config.search import TrainingSettings
from hpcnas.messages import Evaluation, Stopped, mean
from hpcnas.training import causes, measuring, weighing
from hpcnas.training.method import TrainingData, Trainings, ValidationScores, number_type
from hpcnas.training.network import Network


class OtherEvaluation(ValueError):
    """A saved state belongs to another evaluation, or to this one by another method or on another kind of device."""


class _Below(Exception):
    """The trainings under way are below the floor of the rung that they have just reached."""


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
        floors: tuple[float, ...] = (),
        objective: str | None = None,
    ) -> None:
        """`floors` as of a Task; `objective`: what the first trained network costs (`weighing`), if that is wanted."""
        self._objective = objective
        self._weighed: weighing.Cost | None = None
        self._method = method
        self._genotype = genotype
        self._seeds = seeds
        self._skeleton = skeleton
        self._data = data
        self._settings = settings
        self._side_by_side = method.side_by_side
        self._floors = floors
        self._accuracies: list[float] = []  # of finished replicates
        self._measures: list[tuple[float | None, ...]] = []  # likewise, all of them
        self._curves: list[tuple[float, ...]] = []  # likewise
        self._reached: list[tuple[float, ...]] = []  # at each rung so far, of those under way
        self._judged = 0  # how many replicates began the fitness together
        self._trainings: Trainings | None = None  # those under way
        self._running = 0  # how many those are, or are to be
        self._saved: dict[str, Any] | None = None  # state that they begin with
        self._waited = 0.0  # seconds for images of the host, before those under way
        self._clock = Stopwatch()

    def run(
        self,
        beat: Callable[[], None],
        replicate_done: Callable[[], None],
        aside: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> Evaluation | Stopped:
        """The fitness, or how far its first trainings came. `beat` is called between steps, `replicate_done` after
        replicates; `state` may be taken in both. What may take minutes without a step, such as compiling, is done
        within `aside()`. Raises LossNotFinite, NoMeasure, and whatever they raise."""
        while len(self._accuracies) < len(self._seeds):
            try:
                validated = self._train_next(beat, aside)
                accuracies = [self._fitness(one) for one in validated]
                every = [measuring.every(_numbers(one), self._labels) for one in validated]
                if self._objective is not None and not self._accuracies:
                    self._weighed = self._weigh(self._objective)
                self._clock.lap("validation")
            except _Below:
                return self._stopped()
            except Exception as error:
                if self._running == 1 or not causes.is_out_of_memory(error):
                    raise
                self._side_by_side = self._running // 2
                self._saved = None  # a state of so many does not fit here either: these begin anew
            else:
                self._accuracies += accuracies
                self._measures += every
                self._curves += zip(*self._reached, strict=True)
            self._waited, self._trainings = self._waiting(), None
            self._reached = []
            if self._data.device.type == "cuda":
                torch.cuda.empty_cache()
            replicate_done()
        curves, judged = tuple(self._curves), self._judged if self._floors else 0
        return Evaluation(
            tuple(self._accuracies), *self._costs(), curves=curves, judged=judged, measures=tuple(self._measures),
            objective=self._weighed, waiting_seconds=self._waiting() if self._data.on_host else None,
        )  # fmt: skip

    def _waiting(self) -> float:
        """Seconds for images of the host, so far."""
        return self._waited + (self._trainings.waited or 0.0 if self._trainings is not None else 0.0)

    def _weigh(self, objective: str) -> weighing.Cost:
        """What the first of the networks costs that have just been trained."""
        assert self._trainings is not None, "they are there until the next ones"
        device, skeleton = self._data.device, self._skeleton
        network = Network(expand(self._genotype), skeleton)
        network.load_state_dict(self._trainings.export(0))
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = self._data.normalise(self._data.validated(slice(0, weighing.IMAGES)))
        half = number_type(self._settings, device) is torch.bfloat16
        return weighing.weigh(objective, network.eval(), images, half)

    def _fitness(self, validated: ValidationScores) -> float:
        """What a network has of the fitness: the larger, the better. Raises NoMeasure."""
        name = self._settings.fitness
        if name == measures.ACCURACY.name:
            return validated.accuracy
        return measuring.fitness(name, _numbers(validated), self._labels)

    @property
    def _labels(self) -> measuring.Labels:
        """Of the validation images."""
        return self._data.validation_labels.cpu().numpy()

    def _stopped(self) -> Stopped:
        waited = self._waiting() if self._data.on_host else None
        return Stopped(tuple(zip(*self._reached, strict=True)), *self._costs(), waiting_seconds=waited)

    def _costs(self) -> tuple[int, float, float, float]:
        """The network's parameters, and the seconds of set-up, training and validation."""
        spent = self._clock.seconds
        parameters = sizes.size(expand(self._genotype), self._skeleton).parameters
        return parameters, spent["setup"], spent["training"], spent["validation"]

    def _train_next(
        self, beat: Callable[[], None], aside: Callable[[], AbstractContextManager[object]]
    ) -> tuple[ValidationScores, ...]:
        """What the next replicates say of the validation images. Raises _Below."""
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
        if done == 0:
            self._judged = self._running
        for rung, step in enumerate(self._settings.rung_steps):
            if rung == len(self._reached):  # else it was passed before the state that it goes on from
                self._climb(trainings, step, beat)
                if done == 0 and self._floors and mean(self._reached[rung]) < self._floors[rung]:
                    raise _Below
        trainings.run(beat)
        self._clock.lap("training")
        return trainings.validated(beat)

    def _climb(self, trainings: Trainings, step: int, beat: Callable[[], None]) -> None:
        """Trains to the rung that is after so many steps, and validates there."""
        trainings.run(beat, until=step)
        self._clock.lap("training")
        reached = tuple(self._fitness(one) for one in trainings.validated(beat, averaged=True))
        self._clock.lap("validation")
        self._reached.append(reached)

    def state(self) -> dict[str, Any]:
        """Everything done so far, for `resume`: plain values and tensors."""
        self._clock.lap("training" if self._trainings is not None else "elsewhere")
        return {
            "of": self._identity(),
            "accuracies": list(self._accuracies),
            "measures": list(self._measures),
            "weighed": self._weighed,
            "curves": list(self._curves),
            "reached": list(self._reached),
            "judged": self._judged,
            "running": self._running,
            "trainings": None if self._trainings is None else self._trainings.state(),
            "seconds": dict(self._clock.seconds),
            "waited": self._waiting(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`. Raises OtherEvaluation for that of another, and KeyError or TypeError for something
        else; nothing has changed then."""
        if state["of"] != self._identity():
            raise OtherEvaluation(f"expected the state of {self._identity()}, got that of {state['of']}")
        accuracies, running, saved = list(state["accuracies"]), state["running"], state["trainings"]
        curves, reached, judged = list(state["curves"]), list(state["reached"]), state["judged"]
        found, weighed = list(state["measures"]), state["weighed"]
        self._clock.seconds |= state["seconds"]
        self._waited = state.get("waited", 0.0)  # an earlier version knew no images on the host
        self._accuracies, self._running, self._saved = accuracies, running, saved
        self._curves, self._reached, self._judged, self._measures = curves, reached, judged, found
        self._weighed = weighed

    def _identity(self) -> str:
        """What has to be the same for a state to be continued; generators differ from one type of device to another."""
        device = self._data.device.type
        things = (
            self._method.kind(self._skeleton),
            self._genotype.codes.hex(),
            self._seeds,
            self._skeleton,
            self._settings,
            self._data.facts,
            device,
            self._floors,  # by others it might have ended at a rung that it has passed
        )
        return " ".join(str(thing) for thing in things)


def _numbers(validated: ValidationScores) -> measuring.Scores:
    """Class scores on the host."""
    return validated.scores.double().cpu().numpy()


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
