"""One training from scratch, whatever computes its steps: the draws of its seed, the loop, and its validation (§4.1).

    seed ─► order, crops, flips ─► Learner: a step of SGD ─► loss, looked at every CHECK_INTERVAL steps
                                                └─► the average of its weights, as far as there are rungs (`averaging`)

SGD with momentum, a learning rate divided by 10 at each milestone, weight decay on all parameters (P5), random crop
and flip; validation on whole images. The result of a seed does not depend on what ran before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Protocol

import torch
from torch import Tensor

from hpcnas.config.search import TrainingSettings
from hpcnas.data.augment import EpochSampler, random_crop, random_flip
from hpcnas.training import averaging
from hpcnas.training.method import LossNotFinite, TrainingData, Trainings, ValidationScores, crop_size, learning_rate

VALIDATION_BATCH = 250  # images, fewer than fill the memory; does not change the result
CHECK_INTERVAL = 50  # steps between looks at whether the loss is still finite


class Learner(Protocol):
    """A network with its parameters, and how they learn."""

    def learn(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One step of SGD at a learning rate; returns the mean cross-entropy, a scalar, by the data's class weights.

        Images float (B, C, h, w), labels int64 (B,).
        """
        ...

    def weights(self) -> list[Tensor]:
        """Parameters and running statistics: the floating point tensors that `learn` changes, always in one order."""
        ...

    def scores(self, images: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Class scores (B, classes) of float images (B, C, H, W) in evaluation mode; with `weights`, such as those of
        `weights()`, in place of its own."""
        ...

    def state(self) -> dict[str, Any]:
        """Parameters, statistics and momentum, for `resume`; valid until the next step."""
        ...

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same network."""
        ...


class SingleTraining(Trainings):
    """One training: its order, crops and flips come from `seed` alone, and its learner's initial weights should."""

    side_by_side = 1

    def __init__(self, learner: Learner, data: TrainingData, settings: TrainingSettings, seed: int) -> None:
        device = data.device
        self.step = 0
        self._learner = learner
        self._broken = torch.zeros((), dtype=torch.bool, device=device)
        self._data = data
        self._settings = settings
        self._generator = torch.Generator(device).manual_seed(seed)
        self._sampler = EpochSampler(len(data.labels), self._generator, data.numbers_device)
        self._images, self._validation_images = data.batches(), data.validation_batches()
        self._crop_height, self._crop_width = crop_size(settings, data.facts)
        self._averaged_steps = averaging.averaged_steps(settings)
        self._averages = [weight.clone() for weight in learner.weights()] if self._averaged_steps else []
        self._looked_at = {*settings.rung_steps, settings.steps}  # whatever is validated had a finite loss

    def run(self, beat: Callable[[], None], until: int | None = None) -> None:
        end = self._settings.steps if until is None else until
        while self.step < end:
            self.advance()
            beat()

    def advance(self) -> None:
        """One step, and now and then a look at whether the loss is still finite. Raises LossNotFinite."""
        self._broken |= ~torch.isfinite(self.make_step())
        if (self.step % CHECK_INTERVAL == 0 or self.step in self._looked_at) and self._broken:
            raise LossNotFinite(f"the loss was not finite by step {self.step} of {self._settings.steps}")

    def make_step(self) -> Tensor:
        """One step; returns its loss, a scalar."""
        images, labels = self._batch()
        loss = self._learner.learn(images, labels, learning_rate(self._settings, self.step))
        self.step += 1
        if self._averages:
            self._average_in()
        return loss

    def _average_in(self) -> None:
        """Takes the weights after this step into their average, which ends with the last rung."""
        if self.step > self._averaged_steps:
            self._averages = []
            return
        share = averaging.share(self.step)
        for average, weight in zip(self._averages, self._learner.weights(), strict=True):
            average.lerp_(weight, share)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The next augmented images, float (B, C, h, w), and their labels, int64 (B,)."""
        chosen = self._sampler.next(self._settings.batch_size)
        more = self.step + 1 < self._settings.steps
        upcoming = self._sampler.upcoming(self._settings.batch_size) if more else None
        images = random_crop(self._images.take(chosen, upcoming), self._crop_height, self._crop_width, self._generator)
        if self._settings.flip:
            images = random_flip(images, self._generator)
        return self._data.normalise(images.view(self._data.pixels.dtype)), self._data.labels[chosen]

    @property
    def waited(self) -> float | None:
        learnt, validated = self._images.waited, self._validation_images.waited
        return None if learnt is None or validated is None else learnt + validated

    def validated(self, beat: Callable[[], None], averaged: bool = False) -> tuple[ValidationScores, ...]:
        return (self.validate(beat, averaged),)

    @torch.inference_mode()
    def validate(self, beat: Callable[[], None], averaged: bool = False) -> ValidationScores:
        """What it says of the validation images, in evaluation mode on whole images; `averaged` as of `validated`."""
        assert self._averages or not averaged, "there is an average up to the last rung"
        weights = self._averages if averaged else None
        data, correct = self._data, torch.zeros((), dtype=torch.int64, device=self._data.device)
        parts = [
            slice(start, start + VALIDATION_BATCH) for start in range(0, len(data.validation_labels), VALIDATION_BATCH)
        ]
        said = []
        for part, upcoming in zip_longest(parts, parts[1:]):
            images = self._validation_images.take(part, upcoming).view(data.validation_pixels.dtype)
            scores = self._learner.scores(data.normalise(images), weights)
            correct += (scores.argmax(dim=1) == data.validation_labels[part]).sum()
            said.append(scores)
            beat()
        return ValidationScores(int(correct), torch.cat(said))

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "learner": self._learner.state(),
            "averages": self._averages,
            "generator": self._generator.get_state(),
            "sampler": self._sampler.state(),
            "broken": self._broken,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same training; on the CPU bit for bit as if it had never stopped."""
        self.step = state["step"]
        self._learner.resume(state["learner"])
        if state["averages"]:
            for average, saved in zip(self._averages, state["averages"], strict=True):
                average.copy_(saved)
        else:
            self._averages = []
        self._generator.set_state(state["generator"].cpu())
        self._sampler.resume(state["sampler"])
        self._broken = state["broken"].to(self._broken.device)
