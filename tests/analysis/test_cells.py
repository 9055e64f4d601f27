"""Pictures of genotypes: what is drawn, by its patches and words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from toolruns import CHAIN

from hpcnas.analysis.figures import cells, layout
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.space import Space

PAPER = named("paper")
ARROW, BOX, NODE = FancyArrowPatch, FancyBboxPatch, Circle


def valid(space: str, seed: int) -> Genotype:
    generator = np.random.default_rng(seed)
    while True:
        found = diversified(Space.parse(space), 200, generator)
        if expansion.is_valid(found):
            return found


def count(axes: object, kind: type) -> int:
    return sum(type(patch) is kind for patch in axes.patches)  # type: ignore[attr-defined]


def test_the_papers_cell_and_its_motifs() -> None:
    figure = cells.cell_picture("paper", PAPER)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["paper: the cell", "M1, used 1×", "M3, used 4×", "M4, used 1×", "M5, used 4×"]
    assert [count(axes, ARROW) for axes in figure.axes] == [10, 6, 6, 6, 6]
    assert [count(axes, NODE) for axes in figure.axes] == [5, 4, 4, 4, 4]
    words = Counter(text.get_text() for text in figure.axes[0].texts)
    assert words == Counter({"M5": 4, "M3": 4, "M1": 1, "M4": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1})
    words = Counter(text.get_text() for text in figure.axes[4].texts)
    assert (words["sep"], words["id"]) == (3, 3)
    (legend,) = figure.legends
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == ["1x1", "dw", "sep", "max", "avg", "id"]


def test_the_papers_expanded_network() -> None:
    figure = cells.expanded_picture("paper", PAPER)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "paper, expanded: 35 nodes, 70 operations"
    assert (count(axes, NODE), count(axes, ARROW), count(axes, BOX)) == (35, 70, 10)
    words = Counter(text.get_text() for text in axes.texts if text.get_text())
    assert words == Counter({"M5": 4, "M3": 4, "M1": 1, "M4": 1, "in": 1, "out": 1})


def test_a_flat_cell_is_one_panel() -> None:
    genotype = valid("flat", 1)
    figure = cells.cell_picture("flat", genotype)
    (axes,) = figure.axes
    assert count(axes, ARROW) == len(expansion.expand(genotype).edges)


def test_everything_stands_within_the_axes() -> None:
    for genotype in (PAPER, valid("3x3/3x3/1x4", 8)):
        figure = cells.expanded_picture("", genotype)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        diagram = layout.expanded(genotype)
        assert left < 0.0 and diagram.width < right and low < -diagram.below and diagram.above < high


def test_no_picture_without_a_path() -> None:
    dead = Genotype(CHAIN.space, bytes(9))
    for picture in (cells.cell_picture, cells.expanded_picture):
        with pytest.raises(AnalysisError, match="^dead: no path leads from the source to the sink of the cell"):
            picture("dead", dead)
