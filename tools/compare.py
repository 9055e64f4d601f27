#!/usr/bin/env python3
"""Compares searches: the best fitness, against evaluations and against worker time (GPU hours).

Runs that differ in nothing but their seed (and in what may change from start to start) are one group. A group is drawn
as the mean of its runs with the 95 % confidence band of that mean (Student's t), as far as all its runs have come;
thin lines are the single runs. Two runs make a very wide band: five are a better start.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import toolkit

from hpcnas.analysis import worker_time
from hpcnas.analysis.curves import Curves
from hpcnas.command.plot import runs_to_show
from hpcnas.config import search as search_config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)  # 97.5 % of Student's t lie below, with 1, 2, … degrees of freedom


@dataclass(frozen=True)
class Band:
    """The mean of step functions, from each `x` to the next, and half the width of its confidence band (NaN for one
    function): arrays of shape (steps,)."""

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, functions: Sequence[tuple[np.ndarray, np.ndarray]]) -> Band:
        """That of functions as (x, y); from where all have begun to where the first ends."""
        first, last = max(x[0] for x, _ in functions), min(x[-1] for x, _ in functions)
        grid = np.unique(np.concatenate([[first], *(x for x, _ in functions)]))
        grid = grid[(grid >= first) & (grid <= max(first, last))]
        values = np.array([y[np.searchsorted(x, grid, side="right") - 1] for x, y in functions])
        kept = np.ones(len(grid), dtype=bool)
        kept[1:-1] = (np.diff(values, axis=1) != 0).any(axis=0)[:-1]  # and the end
        values, count = values[:, kept], len(functions)
        half = np.full(values.shape[1], np.nan)
        if count > 1:
            t = T_95[count - 2] if count - 2 < len(T_95) else 2.0
            half = t * values.std(axis=0, ddof=1) / count**0.5
        return cls(grid[kept], values.mean(axis=0), half)

    def at(self, x: float) -> tuple[float, float]:
        """Mean and half width at x, which must not lie before the first."""
        place = np.searchsorted(self.x, x, side="right") - 1
        return float(self.mean[place]), float(self.half[place])

    def reaches(self, y: float) -> float:
        """Where the mean is first as high as y, which it must be somewhere."""
        return float(self.x[np.argmax(self.mean >= y)])


@dataclass(frozen=True)
class Group:
    """Runs of one design."""

    label: str
    runs: list[Curves]

    @property
    def by_evaluations(self) -> Band:
        """Best fitness against evaluations."""
        return Band.of([(run.step, run.best) for run in self.runs])

    @property
    def by_time(self) -> Band:
        """Best fitness against worker seconds."""
        return Band.of([(run.spent, run.best) for run in self.runs])


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__)
    parser.add_argument("--output", type=toolkit.picture_path, metavar="FILE", help="write the picture to this file")
    options = parser.parse_args(arguments)
    groups = grouped(runs_to_show(options.runs))
    if options.output:
        from hpcnas.analysis.figures import style as pictures  # the table needs no matplotlib

        pictures.save(pictures.in_house_style(picture)(groups), options.output)
    found = numbers(groups)
    if options.json:
        toolkit.print_json(found)
        return 0
    hours = worker_time.hours_name(_on_gpus(groups))
    common, goal = found["common_evaluations"], found["common_fitness"]
    header = ("group", "runs", "evaluations", "best", "± 95 %", f"at {common}", "± 95 %", f"to {goal:.4f}", hours)
    rows = [
        (group["label"], len(group["runs"]), group["evaluations"], f"{group['best']:.4f}", _half(group["best_half"]),
         f"{group['at_common']:.4f}", _half(group["at_common_half"]),
         f"{group['evaluations_to_common']:,.0f}", f"{group['hours_to_common']:,.3f}")
        for group in found["groups"]
    ]  # fmt: skip
    print(toolkit.table(header, rows))
    print(f"best: mean of the best fitness; to {goal:.4f}: evaluations and {hours} until the mean was as high")
    if options.output:
        print(f"written: {options.output}")
    return 0


def grouped(runs: Sequence[Curves]) -> list[Group]:
    """The runs by design, in the order of the first run of each; a group is called by what tells it from the others."""
    designs = [design(run) for run in runs]
    distinct = [value for number, value in enumerate(designs) if value not in designs[:number]]
    differing = [key for key in designs[0] if any(value[key] != designs[0][key] for value in distinct)]
    groups = []
    for value in distinct:
        members = [run for run, its in zip(runs, designs, strict=True) if its == value]
        names = [str(value[key]) if key in ("strategy", "space") else f"{key} {value[key]}" for key in differing]
        groups.append(Group(", ".join(names) or value["strategy"], members))
    return groups


def design(run: Curves) -> dict[str, Any]:
    """What decides what a search computes, but for its seed: settings by name, and the data."""
    found: dict[str, Any] = {}
    for section, kind in search_config.SECTIONS.items():
        settings = getattr(run.stored.config, section)
        for item in dataclasses.fields(kind):
            if not item.metadata["alterable"] and (section, item.name) != ("search", "seed"):
                found[item.name] = getattr(settings, item.name)
    return {**found, "data": run.stored.sessions[0].facts.fingerprint}


def numbers(groups: Sequence[Group]) -> dict[str, Any]:
    """What the table and the picture show. Fitness from 0 to 1."""
    common = min(len(run.ids) for group in groups for run in group.runs)
    goal = min(float(group.by_evaluations.mean[-1]) for group in groups)
    goal = min(goal, *(float(group.by_time.mean[-1]) for group in groups))
    found = []
    for group in groups:
        steps, time = group.by_evaluations, group.by_time
        best, best_half = steps.at(steps.x[-1])
        at_common, at_common_half = steps.at(common)
        found.append(
            {
                "label": group.label,
                "runs": [run.name for run in group.runs],
                "evaluations": steps.x[-1],
                "best": best,
                "best_half": best_half,
                "at_common": at_common,
                "at_common_half": at_common_half,
                "evaluations_to_common": steps.reaches(goal),
                "hours_to_common": time.reaches(goal) / 3600,
                "by_evaluations": {"x": steps.x, "mean": steps.mean, "half": steps.half},
                "by_hours": {"x": time.x / 3600, "mean": time.mean, "half": time.half},
            }
        )
    return {"common_evaluations": common, "common_fitness": goal, "groups": found}


def picture(groups: Sequence[Group]) -> Figure:
    """Two panels: against evaluations, and against worker time."""
    from hpcnas.analysis.figures import style as pictures

    figure = pictures.new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    unit, seconds = worker_time.unit(max(run.spent[-1] for group in groups for run in group.runs))
    for number, group in enumerate(groups):
        colour = pictures.COLOURS[number % len(pictures.COLOURS)]
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
    left.set_ylabel("best fitness: validation accuracy (%)")
    left.set_xlabel("evaluations")
    right.set_xlabel(f"{'GPU' if _on_gpus(groups) else 'worker'} {unit}")
    left.set_title("Best fitness against evaluations")
    right.set_title("Best fitness against worker time")
    for axes in (left, right):
        axes.set_xlim(left=0)
    pictures.write_in_percent(left.yaxis)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(groups)))
    return figure


def _on_gpus(groups: Sequence[Group]) -> bool:
    return all(worker_time.on_gpus(run.stored.population) for group in groups for run in group.runs)


def _half(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
