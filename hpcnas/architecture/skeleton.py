"""What surrounds the cells: the small CIFAR network as a list of stages (§4.1, Figure 2). No torch.

image ─ 3×3 conv, c0 ─ [ cell ─ 3×3 sep ] × groups·N ─ global average pooling ─ linear
                                 └ stride 2 and 2c channels after the last cell of a group, except the last of all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stage:
    """One cell with what follows it. Sizes are those of the cell's feature maps, in pixels."""

    channels: int  # c of the cell's input
    height: int
    width: int
    stride: int  # of the separable convolution after the cell
    next_channels: int  # its output channels


class Surroundings(Protocol):
    """What counting and building ask of the network around a cell, the small one here or a large one (`large`)."""

    @property
    def image_channels(self) -> int: ...

    @property
    def height(self) -> int:
        """Of an image, in pixels."""
        ...

    @property
    def width(self) -> int: ...

    @property
    def classes(self) -> int: ...

    def stem(self) -> tuple[tuple[int, int], ...]:
        """(output channels, stride) of each 3×3 convolution before the first cell."""
        ...

    def stages(self) -> tuple[Stage, ...]:
        """The cells in order, each with what follows it."""
        ...


def stages_of(channels: int, height: int, width: int, groups: Sequence[int]) -> tuple[Stage, ...]:
    """Groups of so many cells each; the first one's input has `channels` and (height, width)."""
    found: list[Stage] = []
    for number, cells in enumerate(groups, start=1):
        for cell in range(1, cells + 1):
            reduces = cell == cells and number != len(groups)
            stride, following = (2, 2 * channels) if reduces else (1, channels)
            found.append(Stage(channels, height, width, stride, following))
            channels, height, width = following, -(-height // stride), -(-width // stride)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The small network around a cell: everything but the genotype."""

    image_channels: int
    height: int
    width: int
    classes: int
    channels: int  # c0
    cells_per_group: int  # N
    groups: int

    def stem(self) -> tuple[tuple[int, int], ...]:
        """(output channels, stride) of each 3×3 convolution before the first cell: one, which keeps the resolution."""
        return ((self.channels, 1),)

    def stages(self) -> tuple[Stage, ...]:
        """The cells in order, groups × N of them."""
        return stages_of(self.channels, self.height, self.width, [self.cells_per_group] * self.groups)
