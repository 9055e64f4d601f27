"""What surrounds the cells in the large networks of §4.1: the cells of each group and the stem are free. No torch.

plain     image ─ 3×3 conv, c0 ─ [ cell ─ 3×3 sep ] × …
strided   image ─ 3×3 conv, stride 2, c0/2 ─ 3×3 conv, stride 2, c0 ─ [ cell ─ 3×3 sep ] × …

CIFAR-10 has the plain stem, c0 = 64 and groups of 2, 2, 2 cells; ImageNet the strided one, c0 = 64 and 1, 2, 2, 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcnas.architecture.skeleton import Stage, stages_of

STEMS = ("plain", "strided")


@dataclass(frozen=True, slots=True)
class LargeSkeleton:
    """The network around a cell: everything but the genotype. Raises ValueError for a stem that cannot be."""

    image_channels: int
    height: int  # of an image, in pixels
    width: int
    classes: int
    channels: int  # c0
    cells: tuple[int, ...]  # of each group
    kind: str  # of the stem: plain or strided

    def __post_init__(self) -> None:
        if self.kind not in STEMS:
            raise ValueError(f"expected a stem of {STEMS}, got {self.kind!r}")
        if self.kind == "strided" and self.channels % 2:
            raise ValueError(f"expected an even number of channels for a strided stem, got {self.channels}")

    def stem(self) -> tuple[tuple[int, int], ...]:
        """(output channels, stride) of each 3×3 convolution before the first cell."""
        return ((self.channels, 1),) if self.kind == "plain" else ((self.channels // 2, 2), (self.channels, 2))

    def stages(self) -> tuple[Stage, ...]:
        """The cells in order."""
        shrinks = 1 if self.kind == "plain" else 4
        return stages_of(self.channels, -(-self.height // shrinks), -(-self.width // shrinks), self.cells)
