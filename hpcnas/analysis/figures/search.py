"""How searches went, as pictures: fitness, cost, gains, and what became of the workers. Several runs share the axes.

Numbers come from `curves`, `gains`, `guidance` and `worker_time`; nothing is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnas.analysis import curves, worker_time
from hpcnas.analysis.curves import Curves, one_measure, require_evaluations
from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Axes, Figure, MaxNLocator
from hpcnas.analysis.first_architecture import ONE
from hpcnas.analysis.gains import Gains
from hpcnas.analysis.guidance import Guidance
from hpcnas.analysis.runs import AnalysisError
from hpcnas.evolution import objectives

Colour = str


@style.in_house_style
def search_picture(runs: Sequence[Curves]) -> Figure:
    """The paper's Figure 3: three panels against the evolution step, with the fitness of every individual, the best
    fitness so far, and the parameters of the small network.

    Runs without an evaluation are left out. Raises AnalysisError where all are, and where fitnesses are of several
    measures.
    """
    runs = require_evaluations(runs)
    measure = one_measure(runs)
    figure = style.new_figure(13.0, 4.0)
    every, best, size = figure.subplots(1, 3, sharex=True)
    draw_dots = _dots_by_birth if len(runs) == 1 else _dots
    for run, colour in _coloured(runs):
        for axes, values in ((every, run.fitness), (size, run.parameters)):
            draw_dots(axes, run, run.step, values, colour)
        best.plot(run.step, run.best, color=colour, drawstyle="steps-post", label=run.name)
    every.set_title("Fitness of each individual")
    best.set_title("Best fitness so far")
    lowest = min(run.best[len(run.best) // 50] for run in runs)  # not the very first
    room = 0.002 if measure.percent else 0.03 * max(run.best.max() - lowest for run in runs) + 1e-4
    best.set_ylim(bottom=lowest - room)
    size.set_title("Parameters of the small network")
    for axes in (every, best):
        axes.set_ylabel(f"fitness: {measure.words}{measure.unit}")
        style.write_fitness(axes.yaxis, measure)
    style.write_in_thousands(size.yaxis, "parameters", max(run.parameters.max() for run in runs))
    size.set_ylim(bottom=0)
    for axes in (every, best, size):
        axes.set_xlabel("evolution step (evaluations)")
        axes.set_xlim(left=0)
    _legend(figure, every, best, runs)
    return figure


@style.in_house_style
def pareto_picture(runs: Sequence[Curves]) -> Figure:
    """Fitness against what the searches weighed (parameters, unless they had another objective), with the Pareto front:
    networks that are fitter than all that cost as much or less.

    Runs without an evaluation are left out. Raises AnalysisError where all are, and where objectives or
    measures differ.
    """
    runs = require_evaluations(runs)
    objective, measure = runs[0].objective, one_measure(runs)
    if any(run.objective != objective for run in runs):
        raise AnalysisError(
            f"expected runs of one objective for the Pareto front, got {', '.join(run.objective for run in runs)}"
        )
    figure = style.new_figure(7.5, 5.2)
    axes = figure.subplots()
    draw_dots = _dots_by_birth if len(runs) == 1 else _dots
    for run, colour in _coloured(runs):
        draw_dots(axes, run, run.cost, run.fitness, colour)
        front = run.front
        line = style.COLOURS[1] if len(runs) == 1 else colour
        label = "Pareto front" if len(runs) == 1 else run.name
        axes.plot(
            run.cost[front],
            run.fitness[front],
            color=line,
            drawstyle="steps-post",
            marker="o",
            ms=4.5,
            label=label,
        )
    axes.set_title(f"What {measure.short} costs: {objective}")
    axes.set_ylabel(f"fitness: {measure.words}{measure.unit}")
    style.write_fitness(axes.yaxis, measure)
    if objective in ("parameters", "flops"):
        style.write_in_thousands(axes.xaxis, objectives.NAMES[objective], max(run.cost.max() for run in runs))
    else:
        axes.set_xlabel(objectives.words(objective))
    _legend(figure, axes, axes, runs)
    return figure


@style.in_house_style
def health_picture(runs: Sequence[Curves]) -> Figure:
    """Busy workers, and failed attempts by kind, against the time since the first session began. Raises
    AnalysisError for none."""
    style.require_some(runs)
    figure = style.new_figure(10.0, 5.4)
    occupied = [worker_time.occupancy(run.stored) for run in runs]
    failed = [curves.failures(run.stored) for run in runs]
    name, seconds = worker_time.unit(3600 * max(hours[-1] for hours, _, _ in occupied))
    counts = Counter(kind for found in failed for _, kind in found)
    kinds = sorted(counts)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1 + len(kinds)))
    for number, (run, colour) in enumerate(_coloured(runs)):
        hours, busy, present = occupied[number]
        times = 3600 * hours / seconds
        above.stairs(present, times, color=colour if len(runs) > 1 else style.PALE, lw=1.2, ls=":")
        above.stairs(busy, times, color=colour, lw=1.4, fill=len(runs) == 1, alpha=0.75, label=run.name)
        shift = (number - (len(runs) - 1) / 2) * 0.5 / len(runs)
        at = [3600 * hour / seconds for hour, _ in failed[number]]
        rows = [kinds.index(kind) + shift for _, kind in failed[number]]
        below.plot(at, rows, "|", color=colour, ms=11 / len(runs) ** 0.5, mew=1.6)
    above.set_title("Busy workers (dotted: workers there)")
    above.set_ylabel("workers")
    above.set_ylim(bottom=0)
    above.set_xlim(left=0)
    above.yaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_title("Failed attempts" if kinds else "Failed attempts: none")
    below.set_xlabel(f"time since the first session began ({name})")
    below.set_yticks(range(len(kinds)), [f"{kind.name.lower()} ({counts[kind]})" for kind in kinds])
    below.set_ylim(len(kinds) - 0.5 if kinds else 1, -0.5)
    if len(runs) > 1:
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(runs)))
    return figure


@style.in_house_style
def gain_picture(found: Sequence[Gains]) -> Figure:
    """The paper's Figure 4: the gain in accuracy over the first genotype against the evolution step, of small networks
    and, with the standard deviation over seeds, of large ones. Where a first genotype is not a random one as the
    paper's, the title says what it is, and the legend how many trainings diverged. Raises AnalysisError for none."""
    style.require_some(found)
    figure = style.new_figure(7.5, 5.0)
    axes = figure.subplots()
    for number, gain in enumerate(found):
        prefix = f"{gain.run.name}: " if len(found) > 1 else ""
        small, large = (style.COLOURS[(2 * number + part) % len(style.COLOURS)] for part in (0, 1))
        steps = [point.step for point in gain.points]
        axes.plot(gain.run.step, gain.best_small, color=small, lw=1.0, alpha=0.5, drawstyle="steps-post",
                  label=f"{prefix}small network, best so far")  # fmt: skip
        axes.plot(steps, [point.small for point in gain.points], "o-", color=small, label=f"{prefix}small network")
        axes.errorbar(
            steps, [point.large for point in gain.points], [point.large_std or 0.0 for point in gain.points],
            fmt="s-", capsize=3, color=large, label=f"{prefix}large network{_without_diverged(gain)}",
        )  # fmt: skip
    axes.axhline(0.0, color=style.PALE, lw=0.8)
    axes.set_title(f"Gain in accuracy over {_first_genotypes(found)}")
    axes.set_xlabel("evolution step (evaluations)")
    axes.set_ylabel("gain (percentage points)")
    style.write_in_percent(axes.yaxis)
    axes.set_xlim(left=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, 3 * len(found)))
    return figure


def _first_genotypes(found: Sequence[Gains]) -> str:
    """What the gains are over."""
    words = dict.fromkeys(gain.first for gain in found)
    if list(words) == [ONE]:
        return "the first random genotype"
    if len(words) == 1:
        return f"the first genotype:\n{next(iter(words))}"
    return "\n".join(("the first genotype of each run", *(f"{gain.run.name}: {gain.first}" for gain in found)))


def _without_diverged(gain: Gains) -> str:
    """How many trainings are not in the means, for the legend; empty for none."""
    count = sum(point.diverged for point in gain.points)
    return f" ({count} diverged, left out)" if count else ""


@style.in_house_style
def guidance_picture(found: Sequence[Guidance]) -> Figure:
    """Two panels about the model of guided evolution: of each individual that it chose the measured fitness against the
    one predicted, and the rank correlation of both in windows along the run. Raises AnalysisError for none."""
    style.require_some(found)
    measure = one_measure([each.run for each in found])
    figure = style.new_figure(11.0, 5.2)
    both, along = figure.subplots(1, 2, width_ratios=(5, 6))
    low, high = _ends(found)
    both.plot((low, high), (low, high), color=style.PALE, lw=1.0, label="as predicted")
    along.axhline(0.0, color=style.PALE, lw=0.8)
    for each, (run, colour) in zip(found, _coloured([each.run for each in found]), strict=True):
        look = _look(run) | ({"alpha": 0.25} if len(each.ids) > 2000 else {})
        both.plot(each.predicted, each.measured, color=colour, label=_named(each), **look)
        edges = [window.first - 0.5 for window in each.windows] + [window.last + 0.5 for window in each.windows[-1:]]
        chance = np.array([window.chance for window in (*each.windows, *each.windows[-1:])])
        along.fill_between(edges, -chance, chance, step="post", color=style.PALE, alpha=0.3 / len(found), lw=0)
        for window in each.windows:
            if window.correlation is not None:
                steps = (window.first - 0.5, window.last + 0.5)
                along.plot(steps, [window.correlation] * 2, color=colour, lw=2.4, solid_capstyle="butt")
    both.set_title("Fitness as predicted, and as measured")
    both.set_xlabel(f"predicted by the model that chose it{measure.unit}")
    both.set_ylabel(f"fitness: {measure.words}{measure.unit}")
    for axis in (both.xaxis, both.yaxis):
        style.write_fitness(axis, measure)
    both.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    along.set_title("Rank correlation, window by window (grey: chance)")
    along.set_xlabel("evolution step (evaluations)")
    along.set_ylabel("Spearman's rank correlation")
    along.set(xlim=(0, max(each.step[-1] for each in found)), ylim=(min(0.0, *along.get_ylim()), 1.0))
    outside = sum(
        int(((each.predicted < low) | (each.predicted > high) | (each.measured < low)).sum()) for each in found
    )
    handles, labels = both.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), markerscale=1.8,
                           title=_caption(found, outside), title_fontsize="small")  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


def _named(found: Guidance) -> str:
    """A run, how many individuals are shown of it, and how far they went as predicted."""
    told = "" if found.correlation is None else f", rank correlation {found.correlation:.2f}"
    return f"{found.run.name}: {len(found.ids):,} individual{'' if len(found.ids) == 1 else 's'}{told}"


def _ends(found: Sequence[Guidance]) -> tuple[float, float]:
    """What both axes show: all that was measured and predicted but for the lowest and, of predictions, the highest
    0.5 %, with some room."""
    predicted = np.concatenate([each.predicted for each in found])
    measured = np.concatenate([each.measured for each in found])
    low, high = np.quantile(np.concatenate([predicted, measured]), (0.005, 0.995)).tolist()
    high = max(high, float(measured.max()))
    room = 0.04 * (high - low) + 1e-4
    return low - room, high + room


def _caption(found: Sequence[Guidance], outside: int) -> str:
    """What is shown, and what is not, in words."""
    told = ["Individuals that a model chose. Ranks are easier to tell where fitness differs more, as early in a run."]
    if every := [f"{each.run.name}: one of every {each.every}" for each in found if each.every > 1]:
        told.append(f"A part is shown, {', '.join(every)}.")
    if outside:
        told.append(f"Outside of the axes: {outside:,}.")
    return " ".join(told)


def _coloured(runs: Sequence[Curves]) -> list[tuple[Curves, Colour]]:
    return [(run, style.COLOURS[number % len(style.COLOURS)]) for number, run in enumerate(runs)]


def _dots(axes: Axes, run: Curves, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
    """Every individual of a run among several a dot: x and y of shape (evaluations,)."""
    axes.plot(x, y, color=colour, **_look(run))


def _dots_by_birth(axes: Axes, run: Curves, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
    """Every individual of a run alone a dot: those drawn at random in grey, those that were trained again dark."""
    for which, tone, label in (
        (~run.mutated & ~run.confirming, style.PALE, "drawn at random"),
        (run.mutated, colour, "mutated"),
        (run.confirming, style.INK, "trained again"),
    ):
        if which.any():
            axes.plot(x[which], y[which], color=tone, label=label, **_look(run))


def _look(run: Curves) -> dict[str, Any]:
    """Of a dot: smaller where there are many. Dots are pixels in SVG and PDF too, of which thousands stay small."""
    size = 3.4 if len(run.ids) > 300 else 5.0
    return {"ls": "", "marker": "o", "mew": 0, "ms": size, "alpha": 0.55, "rasterized": True}


def _legend(figure: Figure, one: Axes, several: Axes, runs: Sequence[Curves]) -> None:
    """Below the panels: what dots of a run alone are, or which colour is which run's; and whom the panels leave out."""
    handles, labels = (one if len(runs) == 1 else several).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), markerscale=1.8,
                  title=_without_fitness(runs), title_fontsize="small")  # fmt: skip


def _without_fitness(runs: Sequence[Curves]) -> str | None:
    """In words, how many individuals of each run were stopped early; None where none was."""
    stopped = [(run.name, run.stored.population.stopped) for run in runs if run.stored.population.stopped]
    if not stopped:
        return None
    told = ", ".join(f"{count:,}" if len(runs) == 1 else f"{name} {count:,}" for name, count in stopped)
    return f"Not shown, since they have no fitness: {told} individuals that were stopped early."
