"""Which classes are taken for which, as a picture of what `hpcnas.analysis.confusion` counts.

    up to 25 classes    all of them, each cell with its share of the row in percent
    more                20 of the most confused ones, and one column for all others
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnas.analysis import tested
from hpcnas.analysis.confusion import Confusion
from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Axes, Figure
from hpcnas.analysis.tested import KeptPredictions
from hpcnas.job import terminal

RIGHT, WRONG = style.COLOURS[0], style.COLOURS[1]
MOST_CLASSES, CHOSEN = 25, 20  # that are drawn all; of more
LISTED = 12  # pairs and classes beside the matrix; from as many rows on, both
LONGEST = 18  # characters of a class's name


def confusion_of_trainings(kept: Sequence[KeptPredictions]) -> Figure:
    """That of the trainings of one retraining, together. Raises AnalysisError where none has kept its predictions."""
    style.require_some(kept)
    counts = tested.confusion_of(kept)
    accuracy, images = counts.right.sum() / counts.images.sum(), len(kept[0].predictions.images)
    whose = f"seed {kept[0].seed}" if len(kept) == 1 else f"{len(kept)} trainings together"
    told = f"{kept[0].found.folder.resolve().name}, {whose}: accuracy {100 * accuracy:.2f} % on {images:,} test images"
    return confusion_picture(counts, kept[0].class_names, told)


@style.in_house_style
def confusion_picture(counts: Confusion, names: Sequence[str], told: str) -> Figure:
    """The matrix: a row for each class, and how many percent of its images were taken for which class; beside it the
    most confused pairs and, where the matrix is high, the worst classes. `told` stands above it: whose it is. Raises
    AnalysisError where no image was classified."""
    style.require_some(counts.counts.tolist())
    every = counts.classes <= MOST_CLASSES
    chosen = list(range(counts.classes)) if every else counts.most_confused(CHOSEN)
    rows = len(chosen)
    side = 1.5 + max((0.5 if rows <= LISTED else 0.36) * rows, 1.6)
    figure = style.new_figure(side + 4.6, side + 0.4)
    figure.suptitle(told, x=0.01, ha="left", fontsize=10)
    beside = [["pairs"]] if rows <= LISTED else [["pairs"], ["worst"]]
    panels = figure.subplot_mosaic(
        [["matrix", *row] for row in beside], width_ratios=(side, 4.2), gridspec_kw={"wspace": 0.02}
    )
    _matrix(panels["matrix"], counts, names, chosen)
    _pairs(panels["pairs"], counts, names)
    if rows > LISTED:
        _worst(panels["worst"], counts, names)
    return figure


def _matrix(axes: Axes, counts: Confusion, names: Sequence[str], chosen: Sequence[int]) -> None:
    images = np.maximum(1, counts.images[list(chosen)])[:, None]
    shares = counts.matrix(chosen) / images
    labels = [short(names[number]) for number in chosen]
    title = "Taken for (% of the class's images)"
    if len(chosen) < counts.classes:
        inside = counts.matrix(chosen).sum(axis=1, keepdims=True)
        shares = np.hstack([shares, (counts.images[list(chosen)][:, None] - inside) / images])
        title = f"{len(chosen)} of the most confused of {counts.classes:,} classes: taken for (% of the class's images)"
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0)
    deepest = max(1e-9, float(wrong.max()))
    colours = np.array(
        [
            [_colour(share, 1.0, RIGHT) if row == column else _colour(share, deepest, WRONG)
             for column, share in enumerate(line)]
            for row, line in enumerate(shares.tolist())
        ]
    )  # fmt: skip
    axes.imshow(colours, interpolation="nearest", aspect="equal")
    axes.set_anchor("NE")
    for row, column in zip(*np.nonzero(shares), strict=True):
        share = float(shares[row, column])
        pale = row == column and share > 0.6
        axes.text(column, row, _percent(share), ha="center", va="center", fontsize=7 if len(chosen) > 12 else 8.5,
                  color="white" if pale else style.INK)  # fmt: skip
    columns = labels if len(chosen) == counts.classes else [*labels, "all others"]
    size = 8 if len(chosen) > 12 else 9
    axes.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 3 else 0, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("class")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour(share: float, deepest: float, colour: str) -> tuple[float, ...]:
    """White for nothing; the square root, so that few images show too."""
    return style.lighter(colour, 0.85 * (share / deepest) ** 0.5)


def _percent(share: float) -> str:
    """In as few characters as say it."""
    return f"{100 * share:.0f}" if 100 * share >= 1 else "<1"


def _pairs(axes: Axes, counts: Confusion, names: Sequence[str]) -> None:
    """The most confused pairs as bars."""
    pairs = counts.pairs(LISTED)
    axes.set_title("Most confused" if pairs else "No class was taken for another", fontsize=10)
    labels = [f"{short(names[pair.label])} as {short(names[pair.predicted])}" for pair in pairs]
    _bars(axes, labels, [pair.share for pair in pairs], [f"{pair.count:,}" for pair in pairs], WRONG)
    axes.set_xlabel("% of the class's images, and how many")


def _worst(axes: Axes, counts: Confusion, names: Sequence[str]) -> None:
    """The classes of the lowest accuracies as bars."""
    classes, accuracies = counts.worst(LISTED), counts.accuracies
    axes.set_title("Lowest accuracies", fontsize=10)
    shares = [float(accuracies[number]) for number in classes]
    right = counts.right
    counted = [f"{right[number]:,} of {counts.images[number]:,}" for number in classes]
    _bars(axes, [short(names[number]) for number in classes], shares, counted, RIGHT)
    axes.set_xlabel("% classified correctly")


def _bars(axes: Axes, labels: Sequence[str], shares: Sequence[float], counted: Sequence[str], colour: str) -> None:
    axes.barh(range(len(labels)), shares, color=style.lighter(colour, 0.55), height=0.7)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(max(4, len(labels)) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(shares, default=0.0) or 1.0)
    for place, (share, text) in enumerate(zip(shares, counted, strict=True)):
        axes.annotate(text, (share, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
    style.write_in_percent(axes.xaxis)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def short(name: str, most: int = LONGEST) -> str:
    """A class's name in a figure, of so many characters at the most: its beginning and its end. Bytes that are no text,
    and ends of lines, as backslashes and digits: labels of axes are drawn as they are."""
    name = terminal.one_line(name)
    end = most // 2 - 1
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"
