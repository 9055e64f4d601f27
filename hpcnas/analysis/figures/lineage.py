"""The lineage of an individual, as a picture of what `hpcnas.analysis.lineage` finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Axes, Figure
from hpcnas.analysis.lineage import Ancestor, as_text, in_words
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config.measures import ACCURACY, FitnessMeasure
from hpcnas.evolution.population import Population


@style.in_house_style
def lineage_picture(population: Population, family: Sequence[Ancestor], measure: FitnessMeasure = ACCURACY) -> Figure:
    """The lineage in the cloud of all individuals on the left, its mutations as a list on the right.

    `family` is what `ancestry` gives, `measure` what the fitness is. Raises AnalysisError where none of it has been
    evaluated.
    """
    known = [one for one in family if one.step is not None]
    if not known:
        raise AnalysisError("neither this individual nor an ancestor has been evaluated yet: there is nothing to draw")
    figure = style.new_figure(13.5, max(5.6, 0.25 * len(known) + 1.2))
    tree, listing = figure.subplots(1, 2, width_ratios=(8, 5))
    _tree(tree, population, known, measure)
    _listing(listing, known, measure)
    return figure


def _tree(axes: Axes, population: Population, known: Sequence[Ancestor], measure: FitnessMeasure) -> None:
    ids = population.evaluated
    steps = np.empty(len(population), dtype=np.int64)
    steps[ids] = np.arange(1, len(ids) + 1)
    fitness, parents = population.column("fitness"), population.column("parent")
    look: dict[str, Any] = {"ls": "", "marker": "o", "ms": 2.6, "mew": 0, "rasterized": True}
    axes.plot(steps[ids], fitness[ids], color="#C9C9C9", label="all individuals", **look)
    lines = {one.id for one in known}
    siblings = [id for id in ids.tolist() if parents[id] in lines and id not in lines]
    x = [value for id in siblings for value in (steps[parents[id]], steps[id], np.nan)]
    y = [value for id in siblings for value in (fitness[parents[id]], fitness[id], np.nan)]
    if siblings:
        axes.plot(x, y, color=style.COLOURS[5], lw=0.7, alpha=0.7, label="their other children")
    line = np.array([one.step for one in known]), np.array([one.fitness for one in known])
    unchanged = np.array([bool(one.same_network) for one in known])
    axes.plot(*line, color=style.COLOURS[0], lw=1.6)
    for which, fill, label in (
        (~unchanged, style.COLOURS[0], "the lineage"),
        (unchanged, "white", "same network as the parent"),
    ):
        if which.any():
            at = line[0][which], line[1][which]
            axes.plot(*at, "o", ms=12, mfc=fill, mec=style.COLOURS[0], mew=1.4, label=label, zorder=4)
    look = {"ha": "center", "va": "center_baseline", "fontsize": 7.5, "fontweight": "bold", "zorder": 5}
    for number, (step, value, same) in enumerate(zip(*line, unchanged, strict=True)):
        axes.text(step, value, str(number), color=style.COLOURS[0] if same else "white", **look)
    axes.set_title(f"Lineage of individual {known[-1].id}")
    axes.set_xlim(left=0)
    axes.set_xlabel("evolution step (evaluations)")
    axes.set_ylabel(f"fitness: {measure.words}{measure.unit}")
    style.write_fitness(axes.yaxis, measure)
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")


def _listing(axes: Axes, known: Sequence[Ancestor], measure: FitnessMeasure) -> None:
    axes.axis("off")
    axes.set_title(f"Gain in fitness{measure.unit} and mutation")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(20, len(known)) + 0.5, -0.5)
    axes.text(0.22, len(known), "coloured: more than two standard errors", va="center", fontsize=8, style="italic")
    for number, one in enumerate(known):
        gain, colour, text = one.gain, style.INK, ""
        if one.fitness is not None and gain is None:
            text = f"at {measure.number(one.fitness)}"
        if gain is not None:
            text = as_text(100 * gain, "+.2f") if measure.percent else as_text(gain, "+.4f")
            if abs(gain) > 2 * (one.gain_error or 0.0) and not one.same_network:
                colour = style.COLOURS[0 if gain > 0 else 1]
        for x, cell, ha, tone in ((0.04, number, "right", style.INK), (0.19, text, "right", colour)):
            axes.text(x, number, str(cell), ha=ha, va="center", fontsize=9, color=tone, fontweight="bold")
        axes.text(0.22, number, in_words(one), ha="left", va="center", fontsize=9)
