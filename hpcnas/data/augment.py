"""Sampling and augmentation as tensor operations on the device where the images live (§4.1).

Images are (N, H, W, C) of any type that data have; batches come out float, (B, C, h, w), channels-last, normalised per
channel. All draws come from a generator that is passed in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Normaliser:
    """(pixel − mean) / std per channel; mean and std are float (C,) in pixel values."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self._scale = (1.0 / std).float()
        self._shift = (-mean / std).float()

    @property
    def table(self) -> Tensor:
        """float32 (2, C): factors and summands of the pixels' values."""
        return torch.stack([self._scale, self._shift])

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (B, H, W, C) → float32 (B, C, H, W), channels-last in memory."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)


class EpochSampler:
    """Indices 0..n−1 in random order, drawn anew when all were used; a batch may span two orders."""

    def __init__(self, images: int, generator: torch.Generator, device: torch.device | None = None) -> None:
        """`device`: where the indices are wanted, else where they are drawn: the generator's."""
        self._images = images
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.int64, device=device or generator.device)
        self._position = 0

    def state(self) -> dict[str, Tensor | int]:
        """Where it stands, for `resume`; the generator's state is not part of it."""
        return {"order": self._order, "position": self._position}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        self._order = state["order"].to(self._order.device)
        self._position = state["position"]

    def next(self, batch: int) -> Tensor:
        """The next indices: int64 (batch,)."""
        parts, wanted = [], batch
        while wanted:
            if self._position == len(self._order):
                order = torch.randperm(self._images, generator=self._generator, device=self._generator.device)
                self._order, self._position = order.to(self._order.device), 0
            part = self._order[self._position : self._position + wanted]
            self._position += len(part)
            wanted -= len(part)
            parts.append(part)
        return torch.cat(parts)

    def upcoming(self, batch: int) -> Tensor | None:
        """What `next` will say, as far as that is drawn; None where it is not. Draws nothing."""
        found = self._order[self._position : self._position + batch]
        return found if len(found) == batch else None


def movable(images: Tensor) -> Tensor:
    """The images, to be moved about: uint16, which not every operation of torch knows, as int16 of the same bits."""
    return images.view(torch.int16) if images.dtype is torch.uint16 else images


def padded(images: Tensor, padding: int) -> Tensor:
    """With so many pixels of the value 0 on each side, black where values begin at 0: (N, H, W, C)."""
    if not padding:
        return images
    return functional.pad(movable(images), (0, 0, padding, padding, padding, padding)).view(images.dtype)


def random_crop(images: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """A window of (height, width) from each image at a place of its own: (B, H, W, C) → (B, height, width, C).

    Every place inside the image is equally likely; nothing is padded.
    """
    count, full_height, full_width, _ = images.shape
    if (height, width) == (full_height, full_width):
        return images
    device = images.device

    def starts(room: int) -> Tensor:
        return torch.randint(room + 1, (count, 1), generator=generator, device=device)

    rows = starts(full_height - height) + torch.arange(height, device=device)
    columns = starts(full_width - width) + torch.arange(width, device=device)
    each = torch.arange(count, device=device)[:, None, None]
    return images[each, rows[:, :, None], columns[:, None, :]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images (B, H, W, C) mirrored from left to right, each with probability 1/2."""
    flips = torch.randint(2, (len(images), 1, 1, 1), generator=generator, device=images.device, dtype=torch.bool)
    return torch.where(flips, images.flip(2), images)
