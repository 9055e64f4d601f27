"""Random numbers for images of a step that are in the network together, the same whichever rank has an image.

They are drawn for whole micro-batches, from a generator each, and those of the images that are there are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class ImageDraws:
    """ImageDraws for the images of the latest `begin`, on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generators: list[torch.Generator] = []
        self._sizes: Sequence[int] = ()
        self._images = slice(0, 0)

    def begin(self, generators: list[torch.Generator], sizes: Sequence[int], images: slice) -> None:
        """From now on draws are for those `images` of several micro-batches of these sizes, joined: one generator for
        each micro-batch."""
        self._generators, self._sizes, self._images = generators, sizes, images

    def uniform(self, rows: int) -> Tensor:
        """From 0 to less than 1: float32 (rows, images)."""
        return self._drawn(lambda size, one: torch.rand((rows, size), generator=one, device=self._device))

    def integers(self, end: int) -> Tensor:
        """From 0 to less than `end`: int64 (images,)."""
        return self._drawn(lambda size, one: torch.randint(end, (size,), generator=one, device=self._device))

    def state(self) -> list[Tensor]:
        """Where the draws stand, for `go_back`."""
        return [each.get_state() for each in self._generators]

    def go_back(self, state: list[Tensor]) -> None:
        """What is drawn next is what was drawn after that `state`."""
        for each, before in zip(self._generators, state, strict=True):
            each.set_state(before)

    def _drawn(self, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        parts = [draw(size, one) for size, one in zip(self._sizes, self._generators, strict=True)]
        return torch.cat(parts, dim=-1)[..., self._images]
