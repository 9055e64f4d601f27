"""torchvision's own augmentations that draw from the process's generator, with draws that follow from a seed instead.

RandAugment   some transformations of one strength, drawn for each image    Cubuk et al., *RandAugment: Practical
              Automated Data Augmentation with a Reduced Search Space*, 2020
MixUp         images in pairs, and their labels                             Zhang et al., *mixup: Beyond Empirical Risk
              Minimization*, ICLR 2018

Which seed an image or a batch has is the caller's business.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import AugmentationSettings
from hpcnas.data.torchvision_shim import import_transforms

_drawing = threading.Lock()  # of the process's generator


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """What is drawn on the CPU in this block follows from the seed alone; the process's generator is afterwards as it
    was. One thread at a time."""
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def rand_augment(settings: AugmentationSettings) -> Any:
    """torchvision's transform of an image of pillow's, or of uint8 (C, H, W), that draws from the process's
    generator."""
    return import_transforms().RandAugment(settings.rand_augment, settings.rand_augment_magnitude)


class RandAugment:
    """Transforms images that lie on a device."""

    def __init__(self, settings: AugmentationSettings, channels: int) -> None:
        """Raises DataError for images that are neither grey nor in colour."""
        if channels not in (1, 3):
            raise DataError(f"expected images of 1 or 3 channels for --rand-augment, got {channels}; leave it out")
        self._transform = rand_augment(settings)

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """uint8 (B, H, W, C) and a seed for each image → the same shape."""
        changed = []
        for image, seed in zip(images.permute(0, 3, 1, 2), seeds, strict=True):
            with drawing_from(seed):
                changed.append(self._transform(image))
        return torch.stack(changed).permute(0, 2, 3, 1)


class MixUp:
    """Mixes each image of a batch with the one before it, in the same shares for all of them."""

    def __init__(self, alpha: float, classes: int) -> None:
        """The share of an image is drawn from Beta(alpha, alpha)."""
        self._transform = import_transforms().MixUp(alpha=float(alpha), num_classes=classes)

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """float (B, C, H, W) and int64 (B,) → the same shape, and the share of each class, float32 (B, classes)."""
        with drawing_from(seed):
            mixed, shares = self._transform(images, labels)
        return mixed, shares
