"""What can be done with a genotype: mutate it, count its network's size, build that network, draw the cell.

Loads torch when a network is asked for, matplotlib when a picture is; writes nothing but a picture that is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion, mutation, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import bounds
from hpcnas.text_file import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

PICTURES = (".png", ".svg", ".pdf")


def mutate(genotype: Genotype, generator: np.random.Generator) -> Genotype:
    """The genotype with one edge drawn anew (§3.1, eq. 4). The result may equal the genotype, or have no path from the
    cell's source to its sink. Raises TypeError for anything but a Genotype and a Generator."""
    _require_genotype(genotype)
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"expected numpy.random.default_rng(SEED) or the like, got {type(generator).__name__}")
    return mutation.mutate(genotype, generator)


def size(
    genotype: Genotype,
    *,
    classes: int = 10,
    image_channels: int = 3,
    height: int = 32,
    width: int = 32,
    channels: int = 16,
    cells: Sequence[int] = (1, 1, 1),
    stem: str = "plain",
) -> Size:
    """Trainable parameters of a genotype's network, and FLOPs of one forward pass of one image of `height` × `width`
    pixels; counted, not built. Arguments and errors are those of `build_network`."""
    _require_genotype(genotype)
    around = _surroundings(image_channels, height, width, classes, channels, cells, stem)
    return sizes.size(expansion.expand(genotype), around)


def build_network(
    genotype: Genotype,
    *,
    classes: int = 10,
    image_channels: int = 3,
    channels: int = 16,
    cells: Sequence[int] = (1, 1, 1),
    stem: str = "plain",
) -> nn.Module:
    """A genotype's network in PyTorch, untrained: float (N, image_channels, H, W) → class scores float (N, classes).

    `channels` are those of the first cell's input, `cells` how many there are in each group: the resolution halves and
    the channels double from one group to the next. The stem is `plain`, or `strided` for large images. The weights are
    drawn from torch's global generator: `torch.manual_seed` before. Raises Error for a genotype without a path from
    source to sink, and for numbers that give no network, or one that no memory holds.
    """
    _require_genotype(genotype)
    around = _surroundings(image_channels, 32, 32, classes, channels, cells, stem)
    graph = expansion.expand(genotype)
    from hpcnas.training.network import Network  # brings torch

    return Network(graph, around)


def _require_genotype(given: object) -> None:
    """Raises TypeError for anything else, such as the individual that has the genotype."""
    if not isinstance(given, Genotype):
        hint = ": its `genotype` is one" if isinstance(getattr(given, "genotype", None), Genotype) else ""
        raise TypeError(f"expected a Genotype, got {type(given).__name__}{hint}")


def _surroundings(
    image_channels: int, height: int, width: int, classes: int, channels: int, cells: Sequence[int], stem: str
) -> Skeleton:
    """Raises Error for a number that is not positive or larger than any network's, and for a stem that cannot be."""
    for name, number in (
        ("image_channels", image_channels),
        ("height", height),
        ("width", width),
        ("classes", classes),
        ("channels", channels),
    ):
        if not _is_count(number):
            raise AnalysisError(f"expected for {name} a whole number from 1, got {shown(number)}")
        if number > bounds.CHANNELS:
            raise AnalysisError(f"expected for {name} at most {bounds.CHANNELS:,}, got {shown(number)}")
    groups = _members(cells)
    if not groups or not all(map(_is_count, groups)):
        raise AnalysisError(f"expected for cells how many each group has, such as (2, 2, 2), got {shown(cells)}")
    if len(groups) > bounds.GROUPS or max(groups) > bounds.CELLS:
        raise AnalysisError(
            f"expected for cells at most {bounds.GROUPS} groups, of at most {bounds.CELLS:,} each, got {shown(cells)}"
        )
    bounds.check_size(int(channels), tuple(map(int, groups)))
    counts = int(image_channels), int(height), int(width), int(classes), int(channels)
    try:
        return Skeleton(*counts, tuple(map(int, groups)), stem)
    except ValueError as error:
        raise AnalysisError(str(error)) from None


def _members(cells: object) -> tuple[Any, ...]:
    """What the value has one after the other, for a list, a tuple or an array; nothing for another kind of value."""
    if isinstance(cells, str) or not isinstance(cells, Iterable) or getattr(cells, "ndim", 1) != 1:
        return ()
    return tuple(cells)


def _is_count(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and bool(number >= 1)


def draw(genotype: Genotype, file: str | os.PathLike[str] | None = None, *, name: str = "genotype") -> Figure:
    """A picture of the genotype's cell and of the motifs in use, as a figure of matplotlib, written to `file` if one is
    named: .png, .svg or .pdf. The title has the `name`. Raises Error without matplotlib, for a genotype without a path
    from source to sink, and where the file cannot be written."""
    _require_genotype(genotype)
    path = None if file is None else Path(file)
    if path is not None and path.suffix.lower() not in PICTURES:
        raise AnalysisError(f"expected a file ending with {', '.join(PICTURES)}, got {str(path)!r}")
    from hpcnas.analysis.figures import cells, style  # bring matplotlib

    figure = cells.cell_picture(name, genotype)
    if path is not None:
        style.save(figure, path)
    return figure
