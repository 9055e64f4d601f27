"""One fitness: R trainings from scratch and their validation accuracies (§4.1).

SGD with momentum, a learning rate divided by 10 at each milestone, weight decay on all parameters, random crop and
flip; validation on whole images. The test set is nowhere near. What a training needs is passed in: no files, no
messages; the result of a seed does not depend on what ran before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hpcnas import config
from hpcnas.augment import EpochSampler, Normaliser, random_crop, random_flip
from hpcnas.canonical import expand
from hpcnas.data import DataSet, channel_statistics, split
from hpcnas.genotype import Genotype
from hpcnas.messages import DataFacts, Evaluation
from hpcnas.network import Network
from hpcnas.skeleton import Skeleton

VALIDATION_BATCH = 1000  # images; does not change the result
CHECK_INTERVAL = 50  # steps between looks at the loss and signs of life


class LossNotFinite(ArithmeticError):
    """The loss became infinite or not a number: there is no fitness."""


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
    def prepare(cls, dataset: DataSet, data: config.Data, device: torch.device) -> TrainingData:
        """Splits the training images by the configured seed and moves them to the device."""
        training, validation = split(dataset.images, data.validation_fraction, data.split_seed)
        mean, std = channel_statistics(training)
        count, height, width, channels = training.pixels.shape
        return cls(
            pixels=torch.as_tensor(training.pixels, device=device),
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


def learning_rate(settings: config.Training, step: int) -> float:
    """The rate of step 0, 1, …: divided by 10 from each milestone on."""
    passed = sum(step >= round(share * settings.steps) for share in settings.milestones)
    return settings.learning_rate * 0.1**passed


class Training:
    """One training from scratch: its weights, order, crops and flips come from `seed` alone."""

    def __init__(
        self, genotype: Genotype, skeleton: Skeleton, data: TrainingData, settings: config.Training, seed: int
    ) -> None:
        device = data.pixels.device
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisation draws from the global generator
            torch.manual_seed(seed)
            network = Network(expand(genotype), skeleton)
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step = 0
        self._data = data
        self._settings = settings
        self._generator = torch.Generator(device).manual_seed(seed)
        self._sampler = EpochSampler(len(data.labels), self._generator)
        self._crop_height, self._crop_width = (max(1, round(settings.crop * side)) for side in data.pixels.shape[1:3])
        self._optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def run(self, beat: Callable[[], None]) -> None:
        """All steps; `beat` is called every so often as a sign of life. Raises LossNotFinite."""
        self.network.train()
        broken = torch.zeros((), dtype=torch.bool, device=self._data.pixels.device)
        while self.step < self._settings.steps:
            broken |= ~torch.isfinite(self._advance())
            if self.step % CHECK_INTERVAL == 0 or self.step == self._settings.steps:
                if broken:
                    raise LossNotFinite(f"the loss was not finite by step {self.step} of {self._settings.steps}")
                beat()

    def _advance(self) -> Tensor:
        """One step; returns its loss, a scalar."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._settings, self.step)
        chosen = self._sampler.next(self._settings.batch_size)
        images = random_crop(self._data.pixels[chosen], self._crop_height, self._crop_width, self._generator)
        if self._settings.flip:
            images = random_flip(images, self._generator)
        loss = functional.cross_entropy(self.network(self._data.normalise(images)), self._data.labels[chosen])
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.step += 1
        return loss.detach()

    @torch.inference_mode()
    def validate(self, beat: Callable[[], None]) -> float:
        """Share of validation images classified correctly, 0 to 1, in evaluation mode on whole images."""
        self.network.eval()
        data, correct = self._data, torch.zeros((), dtype=torch.int64, device=self._data.pixels.device)
        for start in range(0, len(data.validation_labels), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            scores = self.network(data.normalise(data.validation_pixels[part]))
            correct += (scores.argmax(dim=1) == data.validation_labels[part]).sum()
            beat()
        return correct.item() / len(data.validation_labels)


def evaluate(
    genotype: Genotype,
    seeds: tuple[int, ...],
    skeleton: Skeleton,
    data: TrainingData,
    settings: config.Training,
    beat: Callable[[], None],
) -> Evaluation:
    """The fitness of a genotype: one training a seed, one after the other. Raises LossNotFinite."""
    accuracies, parameters = [], 0
    clock = Stopwatch()
    for seed in seeds:
        training = Training(genotype, skeleton, data, settings, seed)
        parameters = sum(parameter.numel() for parameter in training.network.parameters())
        clock.lap("setup")
        training.run(beat)
        clock.lap("training")
        accuracies.append(training.validate(beat))
        clock.lap("validation")
    spent = clock.seconds
    return Evaluation(tuple(accuracies), parameters, spent["setup"], spent["training"], spent["validation"])


class Stopwatch:
    """Wall-clock seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Adds the time since the last lap to `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
