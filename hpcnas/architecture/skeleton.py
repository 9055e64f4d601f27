"""What surrounds the cells of a network, small or large: everything but the genotype (§4.1, Figure 2). No torch.

plain     image ─ 3×3 conv, c0 ─ [ cell ─ 3×3 sep ] × … ─ global average pooling ─ linear
strided   image ─ 3×3 conv, stride 2, c0/2 ─ 3×3 conv, stride 2, c0 ─ [ cell ─ 3×3 sep ] × … ─ likewise
                                                 └ stride 2 and 2c channels after the last cell of a group, except the
                                                   last of all (P4)

The paper searches with small networks on CIFAR-10: plain, c0 = 16, three groups of one cell. Its large networks have
c0 = 64: on CIFAR-10 plain with groups of 2, 2, 2 cells, on ImageNet strided with 1, 2, 2, 2.
"""

from __future__ import annotations

from dataclasses import dataclass

STEMS = ("plain", "strided")


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
    """The network around a cell. Raises ValueError for a stem that cannot be."""

    image_channels: int
    height: int  # of an image, in pixels
    width: int
    classes: int
    channels: int  # c0, those of the first cell's input
    cells: tuple[int, ...]  # of each group; the resolution halves from one group to the next
    stem: str = "plain"  # or "strided"

    def __post_init__(self) -> None:
        if self.stem not in STEMS:
            raise ValueError(f"expected a stem of {STEMS}, got {self.stem!r}")
        if self.stem == "strided" and self.channels % 2:
            raise ValueError(f"expected an even number of channels for a strided stem, got {self.channels}")

    def stem_convolutions(self) -> tuple[tuple[int, int], ...]:
        """(output channels, stride) of each 3×3 convolution before the first cell."""
        return ((self.channels, 1),) if self.stem == "plain" else ((self.channels // 2, 2), (self.channels, 2))

    def stages(self) -> tuple[Stage, ...]:
        """The cells in order, each with what follows it."""
        channels, height, width = self.channels, self.height, self.width
        for _, stride in self.stem_convolutions():
            height, width = -(-height // stride), -(-width // stride)
        found: list[Stage] = []
        for group, cells in enumerate(self.cells, start=1):
            for cell in range(1, cells + 1):
                reduces = cell == cells and group != len(self.cells)
                stride, following = (2, 2 * channels) if reduces else (1, channels)
                found.append(Stage(channels, height, width, stride, following))
                channels, height, width = following, -(-height // stride), -(-width // stride)
        return tuple(found)
