"""The worst mistakes of a training, as a picture of what `hpcnas.analysis.mistakes` finds: each image with its class
and what it was taken for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcnas.analysis import mistakes
from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.confusion import short
from hpcnas.analysis.figures.style import Axes, Figure
from hpcnas.analysis.mistakes import Mistake
from hpcnas.analysis.tested import KeptPredictions

MOST, COLUMNS = 24, 6
LONGEST = 14  # characters of a class's name
DARK = 64  # of 255: no pixel is brighter
TAKEN_FOR = style.COLOURS[1]


def mistakes_of_training(kept: KeptPredictions) -> Figure:
    """Those of one training. Raises NoPictures where there are none, or their images cannot be had."""
    found = kept.predictions
    worst, wrong = mistakes.worst(found, MOST), int((~found.right).sum())
    seen = mistakes.pictures(kept, worst)
    name = kept.found.folder.resolve().name
    told = (
        f"{name}, seed {kept.seed}: {len(worst)} of {wrong:,} mistakes on {len(found.images):,} test images\n"
        "Each with its class and what it was taken for, and the probability of either"
    )
    return mistakes_picture(worst, seen, kept.class_names, told)


@style.in_house_style
def mistakes_picture(
    worst: Sequence[Mistake], seen: Sequence[NDArray[np.uint8] | str], names: Sequence[str], told: str
) -> Figure:
    """A grid of images, uint8 (H, W, 1 or 3) each, or a text in place of one that cannot be read; the highest
    probability first. `told` stands above it: whose they are. Images that are all dark, as those of data whose values
    end at 16 are, are brightened alike. Raises AnalysisError for none."""
    style.require_some(worst)
    columns = min(COLUMNS, len(worst))
    rows = math.ceil(len(worst) / columns)
    figure = style.new_figure(max(4.5, 1.75 * columns), 2.15 * rows + 0.6)
    figure.suptitle(told, x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
        axes.set_anchor("N")
    brightest = max((int(image.max()) for image in seen if not isinstance(image, str)), default=255)
    factor = 255 / max(1, brightest) if brightest < DARK else 1.0
    for axes, mistake, image in zip(grid, worst, seen, strict=False):
        _draw(axes, mistake, image if isinstance(image, str) else (factor * image).astype(np.uint8), names)
    return figure


def _draw(axes: Axes, mistake: Mistake, image: NDArray[np.uint8] | str, names: Sequence[str]) -> None:
    if isinstance(image, str):
        axes.text(0.5, 0.5, textwrap.fill(textwrap.shorten(image, 90), 20), ha="center", va="center", fontsize=6,
                  color=style.PALE, transform=axes.transAxes)  # fmt: skip
    else:
        small = max(image.shape[:2]) < 100
        colour = np.broadcast_to(image, (*image.shape[:2], 3))
        axes.imshow(colour, interpolation="nearest" if small else "none")  # as it is: half the bytes in SVG
    axes.set_title(
        f"{short(names[mistake.label], LONGEST)}  ({100 * mistake.label_probability:.1f} %)", fontsize=8, loc="center",
        pad=14, fontweight="normal",
    )  # fmt: skip
    axes.annotate(
        f"as {short(names[mistake.predicted], LONGEST)}  ({100 * mistake.probability:.1f} %)", (0.5, 1), xytext=(0, 4),
        xycoords="axes fraction", textcoords="offset points", ha="center", va="bottom", fontsize=8, color=TAKEN_FOR,
    )  # fmt: skip
