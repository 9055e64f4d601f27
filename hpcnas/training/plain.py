"""One fitness: R trainings from scratch and their validation accuracies (§4.1).

SGD with momentum, a learning rate divided by 10 at each milestone, weight decay on all parameters, random crop and
flip; validation on whole images. The test set is nowhere near. What a training needs is passed in: no files, no
messages; the result of a seed does not depend on what ran before it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.augment import EpochSampler, Normaliser, random_crop, random_flip
from hpcnas.data.datasets import DataSet, channel_statistics, split
from hpcnas.messages import Evaluation
from hpcnas.training import causes, schedules
from hpcnas.training.network import Network

VALIDATION_BATCH = 250  # images, fewer than fill the memory; does not change the result
CHECK_INTERVAL = 50  # steps between looks at whether the loss is still finite


class LossNotFinite(ArithmeticError):
    """The loss became infinite or not a number: there is no fitness."""


class OtherEvaluation(ValueError):
    """A saved state is that of another evaluation, or of this one on another kind of device or by another method."""


@dataclass(frozen=True)
class TrainingData:
    """Both splits on the device: uint8 (N, H, W, C) and int64 (N,); and how pixels become inputs."""

    pixels: Tensor
    labels: Tensor
    validation_pixels: Tensor
    validation_labels: Tensor
    normalise: Normaliser
    facts: DataFacts

    @classmethod
    def prepare(cls, dataset: DataSet, data: DataSettings, device: torch.device, padding: int = 0) -> TrainingData:
        """Splits the training images by the configured seed, pads them by so many black pixels on each side, and moves
        all to the device."""
        training, validation = split(dataset.images, data.validation_fraction, data.split_seed)
        mean, std = channel_statistics(training)
        count, height, width, channels = training.pixels.shape
        pixels = torch.as_tensor(training.pixels, device=device)
        return cls(
            pixels=functional.pad(pixels, (0, 0, padding, padding, padding, padding)) if padding else pixels,
            labels=torch.as_tensor(training.labels, device=device),
            validation_pixels=torch.as_tensor(validation.pixels, device=device),
            validation_labels=torch.as_tensor(validation.labels, device=device),
            normalise=Normaliser(torch.as_tensor(mean, device=device), torch.as_tensor(std, device=device)),
            facts=DataFacts(
                image_channels=channels,
                height=height,
                width=width,
                classes=len(dataset.classes),
                training_images=count,
                validation_images=len(validation.labels),
                fingerprint=dataset.fingerprint,
            ),
        )


def crop_size(settings: TrainingSettings, facts: DataFacts) -> tuple[int, int]:
    """Height and width of the random crop: the configured share of the unpadded image's sides."""
    return max(1, round(settings.crop * facts.height)), max(1, round(settings.crop * facts.width))


class HasPrecision(Protocol):
    """Settings that say which numbers feature maps are."""

    @property
    def precision(self) -> str:
        """auto, fp32 or bf16."""
        ...


def number_type(settings: HasPrecision, device: torch.device) -> torch.dtype:
    """What feature maps are computed in; parameters are float32 always. `auto` is bfloat16 on GPUs that have it."""
    has_it = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    half = settings.precision == "bf16" or (settings.precision == "auto" and has_it)
    return torch.bfloat16 if half else torch.float32


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of step 0, 1, …: divided by 10 from each milestone on."""
    return schedules.divided(settings.learning_rate, settings.milestones, step, settings.steps)


class Trainings(ABC):
    """A way to train: trainings from scratch at the same time, one a seed."""

    stored_name: ClassVar[str]  # of the way, in files: the words of version 0.1, whatever its class is called now
    side_by_side: ClassVar[int]  # how many at the most
    step: int  # how many steps each of them has made

    @classmethod
    @abstractmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> Trainings:
        """The trainings of these seeds, `side_by_side` of them at the most."""

    @classmethod
    def kind(cls, skeleton: Skeleton) -> str:
        """What a `state` must have in common with the trainings that it is resumed by."""
        return cls.stored_name

    def prepare(self) -> None:
        """Does before `run` what is to be done once and may take minutes, such as compiling; it changes no result."""
        return

    @abstractmethod
    def run(self, beat: Callable[[], None]) -> None:
        """The steps that are left; `beat` is called between them, when `state` may be taken. Raises LossNotFinite."""

    @abstractmethod
    def accuracies(self, beat: Callable[[], None]) -> tuple[float, ...]:
        """Shares of validation images classified correctly, 0 to 1, in evaluation mode on whole images; one a seed."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, for `resume`; valid until the next step."""

    @abstractmethod
    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same trainings."""


class PlainTraining(Trainings):
    """One training from scratch: its weights, order, crops and flips come from `seed` alone."""

    stored_name = "Training"
    side_by_side = 1

    @classmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> PlainTraining:
        (seed,) = seeds
        return cls(genotype, skeleton, data, settings, seed)

    def __init__(
        self, genotype: Genotype, skeleton: Skeleton, data: TrainingData, settings: TrainingSettings, seed: int
    ) -> None:
        device = data.pixels.device
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisation draws from the global generator
            torch.manual_seed(seed)
            network = Network(expand(genotype), skeleton)
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step = 0
        self._broken = torch.zeros((), dtype=torch.bool, device=device)
        self._data = data
        self._settings = settings
        self._generator = torch.Generator(device).manual_seed(seed)
        self._sampler = EpochSampler(len(data.labels), self._generator)
        self._crop_height, self._crop_width = crop_size(settings, data.facts)
        self._half = number_type(settings, device) is torch.bfloat16
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def run(self, beat: Callable[[], None]) -> None:
        self.network.train()
        while self.step < self._settings.steps:
            self.advance()
            beat()

    def advance(self) -> None:
        """One step, and now and then a look at whether the loss is still finite. Raises LossNotFinite."""
        self._broken |= ~torch.isfinite(self._advance())
        if (self.step % CHECK_INTERVAL == 0 or self.step == self._settings.steps) and self._broken:
            raise LossNotFinite(f"the loss was not finite by step {self.step} of {self._settings.steps}")

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "generator": self._generator.get_state(),
            "sampler": self._sampler.state(),
            "broken": self._broken,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same training; on the CPU bit for bit as if it had never stopped."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._generator.set_state(state["generator"].cpu())
        self._sampler.resume(state["sampler"])
        self._broken = state["broken"].to(self._broken.device)

    def _advance(self) -> Tensor:
        """One step; returns its loss, a scalar."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._settings, self.step)
        images, labels = self._batch()
        with self._autocast():
            loss = functional.cross_entropy(self.network(images), labels)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self.step += 1
        return loss.detach()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The next augmented images, float (B, C, h, w), and their labels, int64 (B,)."""
        chosen = self._sampler.next(self._settings.batch_size)
        images = random_crop(self._data.pixels[chosen], self._crop_height, self._crop_width, self._generator)
        if self._settings.flip:
            images = random_flip(images, self._generator)
        return self._data.normalise(images), self._data.labels[chosen]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._data.pixels.device.type, torch.bfloat16, enabled=self._half)

    def _scores(self, images: Tensor) -> Tensor:
        """Class scores (B, classes) in evaluation mode."""
        with self._autocast():
            scores: Tensor = self.network.eval()(images)
        return scores

    def accuracies(self, beat: Callable[[], None]) -> tuple[float, ...]:
        return (self.validate(beat),)

    @torch.inference_mode()
    def validate(self, beat: Callable[[], None]) -> float:
        """Share of validation images classified correctly, 0 to 1, in evaluation mode on whole images."""
        data, correct = self._data, torch.zeros((), dtype=torch.int64, device=self._data.pixels.device)
        for start in range(0, len(data.validation_labels), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            scores = self._scores(data.normalise(data.validation_pixels[part]))
            correct += (scores.argmax(dim=1) == data.validation_labels[part]).sum()
            beat()
        return correct.item() / len(data.validation_labels)


class FitnessInProgress:
    """One evaluation: a training a seed, as many at a time as the method can; may be saved and resumed between any two
    steps. Where the device's memory does not hold them, half as many are tried."""

    def __init__(
        self,
        genotype: Genotype,
        seeds: tuple[int, ...],
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        method: type[Trainings] = PlainTraining,
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
                self._accuracies += self._some(beat, aside)
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

    def _some(self, beat: Callable[[], None], aside: Callable[[], AbstractContextManager[object]]) -> tuple[float, ...]:
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
        """Goes on from a `state`. Raises OtherEvaluation, and other things for what is none; then it is as before."""
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
