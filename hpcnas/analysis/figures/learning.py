"""The learning curves of runs, as a picture of what `hpcnas.analysis.rungs` finds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Axes, Figure
from hpcnas.analysis.rungs import LearningCurves, Rung, few, percent

Colour = str

EVALUATED, STOPPED = style.COLOURS[0], style.COLOURS[1]
OF_RUNGS = style.COLOURS[2:]
NAMES = ("trained to the end", "stopped early", "the best individual")
MOST_LINES = 300  # curves of a kind in a panel


@style.in_house_style
def learning_curves_picture(found: Sequence[LearningCurves]) -> Figure:
    """A row a run, of two or three panels: its learning curves, with those that were stopped and the best one; final
    accuracies against those at rungs, with their lines; and, where floors were made, these along the run. Raises
    AnalysisError for none."""
    style.require_some(found)
    wide = 3 if any(len(each.views) for each in found) else 2
    figure = style.new_figure(4.6 * wide, 4.9 * len(found))
    rows = figure.subplots(len(found), wide, squeeze=False)
    shares = sorted({rung.share for each in found for rung in _shown(each).values()})
    colours = {share: OF_RUNGS[number % len(OF_RUNGS)] for number, share in enumerate(shares)}
    told, handles = [], dict[str, Any]()
    for each, panels in zip(found, rows, strict=True):
        prefix = f"{each.run.name}: " if len(found) > 1 else ""
        drawn, outside = _curves(panels[0], each)
        _rungs(panels[1], each, colours)
        if wide > 2:
            _floors(panels[2], each, colours)
        panels[0].set_title(f"{prefix}learning curves" if prefix else "Learning curves")
        told += [f"{prefix}{line}" for line in _told(each, drawn, outside)]
        for axes in panels:
            handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = [name for name in (*NAMES, *map(_name, shares)) if name in handles]
    told.append("A curve is the mean of the trainings with which the fitness of an individual began.")
    legend = figure.legend(
        [handles[name] for name in names], names, loc="outside lower center", ncols=min(5, len(names)),
        title="\n".join(told), title_fontsize="small",
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


def _shown(found: LearningCurves) -> dict[int, Rung]:
    """The rungs that there is room for, by their numbers."""
    return {place: found.rungs[place] for place in few(len(found.rungs))}


def _name(share: float) -> str:
    return f"rung at {percent(share)}"


def _curves(axes: Axes, found: LearningCurves) -> tuple[list[int], int]:
    """Accuracy against the share of the steps; returns one of how many curves of each kind is drawn, and how many
    individuals leave the axes below."""
    shares = np.array([rung.share for rung in found.rungs] + [1.0])
    whole = np.column_stack([found.reached, found.final])
    look: dict[str, Any] = {"lw": 0.9, "alpha": 0.35, "marker": "o", "ms": 2.6, "mew": 0, "rasterized": True}
    ended, drawn = np.column_stack([found.stopped, np.full(len(found.stopped), np.nan)]), []
    for lines, colour, label, known in (
        (whole, EVALUATED, NAMES[0], found.every[0]),
        (ended, STOPPED, NAMES[1], found.every[1]),
    ):
        every = max(1, math.ceil(len(lines) / MOST_LINES))
        drawn.append(every * known)
        lines = lines[::every]
        if len(lines):  # all of them are one line, with gaps
            x = np.tile([*shares, np.nan], len(lines))
            axes.plot(x, np.column_stack([lines, np.full(len(lines), np.nan)]).ravel(), color=colour, label=label,
                      **look)  # fmt: skip
    best = np.empty(0) if found.best is None else found.best
    if found.best is not None:
        axes.plot(shares, best, "o-", color=style.INK, lw=2.2, ms=5, label=NAMES[2], zorder=4)
    low, high = _ends(whole, found.stopped, best)
    outside = sum(int((part < low).any(axis=1).sum()) for part in (whole, found.stopped))
    axes.set(xlim=(0.0, 1.02), ylim=(low, high))
    if len(shares) <= 6:
        axes.set_xticks(shares, [percent(share) for share in shares])
    else:
        axes.set_xticks(np.arange(6) / 5, [percent(share) for share in np.arange(6) / 5])
    axes.set_xlabel("share of the steps of a training")
    axes.set_ylabel(f"{found.run.measure.words}{found.run.measure.unit}")
    style.write_fitness(axes.yaxis, found.run.measure)
    return drawn, outside


def _rungs(axes: Axes, found: LearningCurves, colours: Mapping[float, Colour]) -> None:
    """Final accuracies against those at a few of the rungs, with the lines by which a rung is judged."""
    look: dict[str, Any] = {"ls": "", "marker": "o", "mew": 0, "rasterized": True}
    look |= {"ms": 3.6, "alpha": 0.55} if len(found.ids) <= 500 else {"ms": 2.2, "alpha": 0.3}
    for place, rung in _shown(found).items():
        colour = colours[rung.share]
        axes.plot(found.reached[:, place], found.final, color=colour, label=_name(rung.share), **look)
        if rung.line is not None:
            ends = np.array([found.reached[:, place].min(), found.reached[:, place].max()])
            final = np.array([rung.line.final(end) for end in ends])
            axes.plot(ends, final, color=colour, lw=1.6)
            axes.fill_between(ends, final - rung.line.deviation, final + rung.line.deviation, color=colour, alpha=0.14,
                              lw=0)  # fmt: skip
    if len(found.ids):
        axes.set(xlim=_ends(found.reached[:, list(_shown(found))]), ylim=_ends(found.final))
    measure = found.run.measure
    axes.set_title(f"{measure.short.capitalize()} at a rung, and at the end")
    axes.set_xlabel(f"{measure.words} at the rung{measure.unit}")
    axes.set_ylabel(f"final {measure.words}{measure.unit}")
    for axis in (axes.xaxis, axes.yaxis):
        style.write_fitness(axis, measure)


def _floors(axes: Axes, found: LearningCurves, colours: Mapping[float, Colour]) -> None:
    """The floors of a few of the rungs along the run, and those that were stopped below them; nothing where there are
    none."""
    if not len(found.views):
        axes.axis("off")
        return
    lengths = np.isfinite(found.stopped).sum(axis=1)
    look: dict[str, Any] = {"ls": "", "marker": "v", "mew": 0, "ms": 3.4, "alpha": 0.5, "rasterized": True}
    for place, rung in _shown(found).items():
        colour, here = colours[rung.share], lengths == place + 1
        axes.plot(found.stopped_view[here], found.stopped[here, place], color=colour, **look)
        axes.plot(found.views, found.floors[:, place], color=colour, drawstyle="steps-post", lw=2.0)
    axes.set_title("Floors along the run (triangles: stopped)")
    axes.set_xlabel("evaluations known at its birth")
    axes.set_ylabel(f"{found.run.measure.words} at the rung{found.run.measure.unit}")
    axes.set_xlim(left=0)
    if np.isfinite(found.stopped).any() or np.isfinite(found.floors).any():
        axes.set_ylim(_ends(found.stopped, found.floors))
    style.write_fitness(axes.yaxis, found.run.measure)


def _ends(*shown: np.ndarray) -> tuple[float, float]:
    """What an axis shows of accuracies, some of which are NaN: all but the lowest 0.5 %, with some room."""
    values = np.concatenate([part[np.isfinite(part)] for part in shown])
    low, high = float(np.quantile(values, 0.005)), float(values.max())
    room = 0.05 * (high - low) + 1e-4
    return low - room, high + room


def _told(found: LearningCurves, drawn: Sequence[int], outside: int) -> list[str]:
    """What is shown, and what is not, in words: a line for the rungs, and one for what is left out."""
    curves, stopped = found.rungs[0].curves, sum(rung.stopped for rung in found.rungs)
    shown = _shown(found).values()
    rungs = [f"{rung.name}: {rung.correlation:.2f}" for rung in shown if rung.correlation is not None]
    first = f"{curves:,} trained to the end, {stopped:,} stopped early."
    first += f" Rank correlation with the final {found.run.measure.short}: {', '.join(rungs)}." if rungs else ""
    second = []
    for how, parts in (("curves", drawn), ("dots", found.every)):
        if left := [f"one of every {each:,} {name}" for each, name in zip(parts, NAMES, strict=False) if each > 1]:
            second.append(f"Drawn as {how}: {', '.join(left)}.")
    if outside:
        second.append(f"Below the axes of the learning curves: {outside:,}.")
    return [first, *([" ".join(second)] if second else [])]
