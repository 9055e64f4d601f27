"""Searches compared, as pictures: runs that were made (`comparison`), and ways to search (`policies`, `arena`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnas.analysis import worker_time
from hpcnas.analysis.comparison import RunGroup, on_gpus
from hpcnas.analysis.curves import Curves, one_measure
from hpcnas.analysis.figures import style
from hpcnas.analysis.figures.style import Figure
from hpcnas.analysis.policies import POINTS, Policy, reached


@style.in_house_style
def comparison_picture(groups: Sequence[RunGroup[Curves]]) -> Figure:
    """The best fitness of groups of runs, against evaluations on the left and worker time on the right: means with
    confidence bands, and thin lines for the single runs. Raises AnalysisError for none."""
    style.require_some(groups)
    measure = one_measure([run for group in groups for run in group.runs])
    figure = style.new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    unit, seconds = worker_time.unit(max(run.spent[-1] for group in groups for run in group.runs))
    for number, group in enumerate(groups):
        colour = style.COLOURS[number % len(style.COLOURS)]
        label = f"{group.label} ({len(group.runs)} run{'s' if len(group.runs) > 1 else ''})"
        for axes, band, scale in ((left, group.by_evaluations, 1.0), (right, group.by_time, seconds)):
            for run in group.runs if len(group.runs) > 1 else []:
                x = run.step if axes is left else run.spent
                axes.plot(x / scale, run.best, color=colour, lw=0.7, alpha=0.45, drawstyle="steps-post")
            low, high = band.mean - band.half, band.mean + band.half
            axes.fill_between(band.x / scale, low, high, step="post", color=colour, alpha=0.18, lw=0)
            axes.plot(band.x / scale, band.mean, color=colour, lw=2.4, drawstyle="steps-post", label=label)
    lowest = min(run.best[len(run.best) // 50] for group in groups for run in group.runs)  # not the very first
    highest = max(run.best[-1] for group in groups for run in group.runs)
    room = 0.06 * (highest - lowest) + 1e-4
    left.set_ylim(lowest - room, highest + 2 * room)
    left.set_ylabel(f"best fitness: {measure.words}{measure.unit}")
    early = any(run.stored.population.stopped for group in groups for run in group.runs)
    left.set_xlabel("evaluations, without those that were stopped early" if early else "evaluations")
    right.set_xlabel(f"{'GPU' if on_gpus(groups) else 'worker'} {unit}")
    left.set_title("Best fitness against evaluations")
    right.set_title("Best fitness against worker time")
    for axes in (left, right):
        axes.set_xlim(left=0)
    style.write_fitness(left.yaxis, measure)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(groups)))
    return figure


@style.in_house_style
def policies_picture(policies: Sequence[Policy], trainings: int) -> Figure:
    """Fitness without noise against trainings spent, up to `trainings`: the median of each policy with its interval.

    The legend says how many times fewer trainings a policy takes to come as far as the first one does in the end.
    Raises AnalysisError for none.
    """
    style.require_some(policies)
    figure = style.new_figure(8.5, 5.2)
    axes = figure.subplots()
    goal = float(policies[0].band()[0][-1])
    for number, policy in enumerate(policies):
        colour = style.COLOURS[number % len(style.COLOURS)]
        median, low, high = policy.band()
        x = trainings / POINTS * np.arange(1, len(median) + 1)
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        needed = reached(median, goal, trainings / POINTS)
        label = policy.name if needed is None or number == 0 else f"{policy.name}: ÷ {trainings / needed:.1f}"
        axes.plot(x, median, color=colour, lw=2.2, label=label)
    axes.axhline(goal, color=style.PALE, lw=1.0, ls="--", zorder=0)
    axes.set_title(f"Found with as many trainings (median of {len(policies[0].fitness)} seeds, 95 % of the median)")
    axes.set_xlabel("trainings spent")
    axes.set_ylabel("fitness without noise of the individual returned (%)")
    axes.set_xlim(left=0, right=trainings)
    axes.set_ylim(bottom=float(min(policy.band()[0][POINTS // 50] for policy in policies)))
    style.write_in_percent(axes.yaxis)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(policies)))
    return figure


@style.in_house_style
def regret_picture(found: Sequence[Mapping[str, Any]]) -> Figure:
    """How far below the best of a table is what contenders would return, against evaluations: medians over the seeds
    with their intervals, a panel for each of `arena.numbers`. Raises AnalysisError for none."""
    style.require_some(found)
    figure = style.new_figure(1.0 + 5.0 * len(found), 4.8)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    names = list(dict.fromkeys(one["name"] for told in found for one in told["contenders"]))
    for axes, told in zip(panels, found, strict=True):
        for one in told["contenders"]:
            colour = style.COLOURS[names.index(one["name"]) % len(style.COLOURS)]
            x = np.arange(1, len(one["regret"]) + 1)
            axes.fill_between(x, one["regret_low"], one["regret_high"], step="post", color=colour, alpha=0.16, lw=0)
            axes.plot(x, one["regret"], color=colour, lw=2.2, drawstyle="steps-post", label=one["name"])
        for goal in told["contenders"][0]["goals"]:
            axes.axhline(told["best"] - goal["fitness"], color=style.PALE, lw=1.0, ls="--", zorder=0)
        axes.set_title(f"{told['table']}, {told['workers']} worker{'s' if told['workers'] > 1 else ''}")
        axes.set_xlabel("evaluations")
        axes.set_xlim(0, told["evaluations"])
        middle = np.concatenate([one["regret"] for one in told["contenders"]])
        axes.set_ylim(0.0, 3 * float(np.median(middle)) + 1e-4)
        style.write_in_percent(axes.yaxis)
    panels[0].set_ylabel("true regret of what would be returned (%)")
    lines = {str(line.get_label()): line for axes in panels for line in axes.get_legend_handles_labels()[0]}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=min(4, len(lines)))
    return figure
