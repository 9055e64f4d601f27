"""The worst mistakes of a training, as a picture of what `hpcnas.analysis.mistakes` finds: each image with its class
and what it was taken for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.confusion import short
from hpcnas.analysis.figures.style import Axes, Figure
from hpcnas.analysis.mistakes import Mistake

MOST, COLUMNS = 24, 6
LONGEST = 14  # characters of a class's name
TAKEN_FOR = style.COLOURS[1]


@style.in_house_style
def mistakes_picture(
    mistakes: Sequence[Mistake], seen: Sequence[NDArray[np.uint8] | str], names: Sequence[str], told: str
) -> Figure:
    """A grid of images, uint8 (H, W, 1 or 3) each, or a text in place of one that cannot be read; the highest
    probability first. `told` stands above it: whose they are. Raises AnalysisError for none."""
    style.require_some(mistakes)
    columns = min(COLUMNS, len(mistakes))
    rows = math.ceil(len(mistakes) / columns)
    figure = style.new_figure(max(4.5, 1.75 * columns), 2.15 * rows + 0.5)
    figure.suptitle(told, x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
        axes.set_anchor("N")
    for axes, mistake, image in zip(grid, mistakes, seen, strict=False):
        _draw(axes, mistake, image, names)
    return figure


def _draw(axes: Axes, mistake: Mistake, image: NDArray[np.uint8] | str, names: Sequence[str]) -> None:
    if isinstance(image, str):
        axes.text(0.5, 0.5, textwrap.fill(textwrap.shorten(image, 90), 20), ha="center", va="center", fontsize=6,
                  color=style.PALE, transform=axes.transAxes)  # fmt: skip
    else:
        small = max(image.shape[:2]) < 100
        colour = np.broadcast_to(image, (*image.shape[:2], 3))
        axes.imshow(colour, interpolation="nearest" if small else "antialiased")
    axes.set_title(
        f"{short(names[mistake.label], LONGEST)}  ({100 * mistake.label_probability:.1f} %)", fontsize=8, loc="center",
        pad=14, fontweight="normal",
    )  # fmt: skip
    axes.annotate(
        f"as {short(names[mistake.predicted], LONGEST)}  ({100 * mistake.probability:.1f} %)", (0.5, 1), xytext=(0, 4),
        xycoords="axes fraction", textcoords="offset points", ha="center", va="bottom", fontsize=8, color=TAKEN_FOR,
    )  # fmt: skip
