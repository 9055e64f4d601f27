"""The images that a rank has in its network, a piece of a step at a time, and what is drawn for them.

Images are made, and numbers drawn for them, by whole micro-batches, each from a generator of its own; a piece takes
what is of its images. So both are the same whichever rank has an image, and however many ranks there are. Which images
a rank has is `shares`' business.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcnas import seeds
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.data.seeded_transforms import MixUp
from hpcnas.retrain import shares
from hpcnas.retrain.draws import ImageDraws
from hpcnas.retrain.feed import Batch, Feed
from hpcnas.retrain.regularisation import cutout


@dataclass(frozen=True)
class Piece:
    """Normalised images, float (B, C, H, W), and their labels, int64 (B,), or shares of classes, float (B, classes)."""

    images: Tensor
    labels: Tensor
    share: float  # of the step's images


class Pieces:
    """One rank's pieces of the steps of the training of a seed."""

    def __init__(
        self, recipe: RetrainingConfig, seed: int, feed: Feed, rank: int, ranks: int, device: torch.device
    ) -> None:
        self.draws = ImageDraws(device)  # for the images of the latest piece
        self.waited = 0.0  # seconds, for images of the latest step
        self._recipe, self._seed, self._feed, self._device = recipe, seed, feed, device
        mixup = recipe.augmentation.mixup
        self._mix_up = MixUp(mixup, feed.appearance.facts.classes) if mixup else None
        self._pieces = shares.pieces(recipe, rank, ranks)

    def of_step(self, step: int) -> Iterator[Piece]:
        """Those of step 0, 1, …; blank images where they have not come, which the feed then says."""
        self.waited = 0.0
        for piece in self._pieces:
            yield self._made(step, piece)

    def blank(self, height: int, width: int) -> Piece:
        """One of the size that this rank's pieces have, without an image; what is drawn for it comes from a generator
        of its own."""
        count, facts = len(self._pieces[0]), self._feed.appearance.facts
        shape = (count, facts.image_channels, height, width)
        images = torch.zeros(shape, device=self._device).to(memory_format=torch.channels_last)
        self.draws.begin([torch.Generator(self._device)], [count], slice(0, count))
        return Piece(images, torch.zeros(count, dtype=torch.int64, device=self._device), 1.0)

    def _made(self, step: int, piece: range) -> Piece:
        numbers = shares.micro_batches_of(self._recipe, piece)
        generators = [torch.Generator(self._device) for _ in numbers]
        parts: list[Batch] = []
        for number, generator in zip(numbers, generators, strict=True):
            generator.manual_seed(seeds.micro_batch_seed(self._seed, step, number))
            asked = time.perf_counter()
            images, labels = self._feed.next(step, number, generator)
            self.waited += time.perf_counter() - asked
            if self._recipe.augmentation.cutout:
                images = cutout(images, self._recipe.augmentation.cutout, generator)
            if self._mix_up is not None:
                images, labels = self._mix_up(images, labels, seeds.mixing_seed(self._seed, step))
            parts.append((images, labels))
        before = shares.micro_batch(self._recipe, numbers[0]).start
        inside = slice(piece.start - before, piece.stop - before)
        self.draws.begin(generators, [len(labels) for _, labels in parts], inside)
        images, labels = parts[0] if len(parts) == 1 else (torch.cat(each) for each in zip(*parts, strict=True))
        return Piece(images[inside], labels[inside], len(piece) / self._recipe.training.batch_size)
