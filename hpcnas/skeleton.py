"""What surrounds the cells: the small CIFAR network as a list of stages (§4.1, Figure 2). No torch.

image ─ 3×3 conv, c0 ─ [ cell ─ 3×3 sep ] × groups·N ─ global average pooling ─ linear
                                 └ stride 2 and 2c channels after the last cell of a group, except the last of all
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.config import Network
from hpcnas.messages import DataFacts


@dataclass(frozen=True, slots=True)
class Stage:
    """One cell with what follows it. Sizes are those of the cell's feature maps, in pixels."""

    channels: int  # c of the cell's input
    height: int
    width: int
    stride: int  # of the separable convolution after the cell
    next_channels: int  # its output channels


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The network around a cell: everything but the genotype."""

    image_channels: int
    height: int
    width: int
    classes: int
    channels: int  # c0
    cells_per_group: int  # N
    groups: int

    @classmethod
    def of(cls, network: Network, facts: DataFacts) -> Skeleton:
        """The skeleton that a configuration gives for a data set."""
        return cls(
            image_channels=facts.image_channels,
            height=facts.height,
            width=facts.width,
            classes=facts.classes,
            channels=network.channels,
            cells_per_group=network.cells_per_group,
            groups=network.groups,
        )

    def stages(self) -> tuple[Stage, ...]:
        """The cells in order, groups × N of them."""
        found: list[Stage] = []
        channels, height, width = self.channels, self.height, self.width
        last = self.groups * self.cells_per_group
        for number in range(1, last + 1):
            reduces = number % self.cells_per_group == 0 and number != last
            stride, following = (2, 2 * channels) if reduces else (1, channels)
            found.append(Stage(channels, height, width, stride, following))
            channels, height, width = following, -(-height // stride), -(-width // stride)
        return tuple(found)
