#!/usr/bin/env python3
"""Pictures of runs: how the search went, what its networks cost, and how the workers fared.

search   the paper's Figure 3: the fitness of every individual, the best so far, and the parameters of the small
         network, each against the evolution step (the place in the order of evaluations)
pareto   fitness against parameters, or what else the search weighed, with the front: networks that no cheaper one
         equals
health   busy workers, and failed attempts by kind, over time
figure4  the paper's Figure 4: the gain in accuracy over the first random genotype against the evolution step, of the
         small networks and of the large ones in the retrainings that --retrainings names, one or more an individual

Each is written to the file that its option names; without any, all but figure4 go to the current folder. Several runs
share the axes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import curves
import gains
import numpy as np
import pictures
import toolkit
from curves import Curves
from gains import Gains
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcnas.analysis import worker_time
from hpcnas.evolution import objectives
from hpcnas.messages import Failure, FailureKind
from hpcnas.search.run_file import StoredRun

Colour = str


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__)
    for picture, (_, help) in PICTURES.items():
        parser.add_argument(f"--{picture}", type=toolkit.picture_path, metavar="FILE", help=help)
    parser.add_argument("--figure4", type=toolkit.picture_path, metavar="FILE", help="gain of small and large networks")
    parser.add_argument("--retrainings", type=Path, nargs="+", metavar="DIR", default=[], help="folders of retrainings")
    options = parser.parse_args(arguments)
    if options.figure4 and not options.retrainings:
        parser.error("--figure4: expected --retrainings DIR ... of individuals of the runs, among them the first one")
    runs = curves.of_runs(options.runs)
    gained = gains.of_runs(runs, options.retrainings) if options.retrainings else []
    wanted = {picture: getattr(options, picture) for picture in PICTURES}
    if not any(wanted.values()) and not options.figure4 and not options.json:
        wanted = {picture: Path(f"{picture}.png") for picture in PICTURES}
    drawn = [(path, PICTURES[picture][0](runs)) for picture, path in wanted.items() if path]
    if options.figure4:
        drawn.append((options.figure4, gain_picture(gained)))
    for path, figure in drawn:
        pictures.save(figure, path)
        if not options.json:
            print(f"written: {path}")
    if options.json:
        told = [numbers(run) for run in runs]
        for one, gain in zip(told, gained, strict=False):
            one["gains"] = [asdict(point) for point in gain.points]
        toolkit.print_json(told)
    return 0


def numbers(run: Curves) -> dict[str, Any]:
    """What the pictures show of a run. Fitness from 0 to 1, times in hours since the first session began."""
    hours, busy, present = worker_time.occupancy(run.stored)
    return {
        "run": run.name,
        "individual": run.ids,
        "fitness": run.fitness,
        "best_fitness": run.best,
        "parameters": run.parameters,
        "objective": run.objective,
        "cost": run.cost,
        "pareto_front": run.ids[run.front],
        "hours": hours,
        "busy_workers": busy,
        "workers": present,
        "failures": [{"hours": hour, "kind": kind.name.lower()} for hour, kind in failures(run.stored)],
    }


def failures(stored: StoredRun) -> list[tuple[float, FailureKind]]:
    """When attempts failed, in hours since the first session began, and how."""
    start = stored.sessions[0].started if stored.sessions else 0.0
    attempts = [(attempt.finished, attempt.outcome) for attempt in stored.population.failed_attempts]
    return [((end - start) / 3600, failure.kind) for end, failure in attempts if isinstance(failure, Failure)]


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────
def search_picture(runs: Sequence[Curves]) -> Figure:
    """Figure 3."""
    figure = pictures.figure(13.0, 4.0)
    every, best, size = figure.subplots(1, 3, sharex=True)
    for run, colour in _coloured(runs):
        for axes, values in ((every, run.fitness), (size, run.parameters)):
            _dots(axes, run, run.step, values, colour, alone=len(runs) == 1)
        best.plot(run.step, run.best, color=colour, drawstyle="steps-post", label=run.name)
    every.set_title("Fitness of each individual")
    best.set_title("Best fitness so far")
    best.set_ylim(bottom=min(run.best[len(run.best) // 50] for run in runs) - 0.002)  # not the very first
    size.set_title("Parameters of the small network")
    for axes in (every, best):
        axes.set_ylabel("fitness: validation accuracy (%)")
        pictures.percent(axes.yaxis)
    pictures.numbers(size.yaxis, "parameters", max(run.parameters.max() for run in runs))
    size.set_ylim(bottom=0)
    for axes in (every, best, size):
        axes.set_xlabel("evolution step (evaluations)")
        axes.set_xlim(left=0)
    _legend(figure, every, best, runs)
    return figure


def pareto_picture(runs: Sequence[Curves]) -> Figure:
    """Fitness against cost."""
    objective = runs[0].objective
    if any(run.objective != objective for run in runs):
        toolkit.fail(f"--pareto: expected runs of one objective, got {', '.join(run.objective for run in runs)}")
    figure = pictures.figure(7.5, 5.2)
    axes = figure.subplots()
    for run, colour in _coloured(runs):
        _dots(axes, run, run.cost, run.fitness, colour, alone=len(runs) == 1)
        front = run.front
        line = pictures.COLOURS[1] if len(runs) == 1 else colour
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
    axes.set_title(f"What accuracy costs: {objective}")
    axes.set_ylabel("fitness: validation accuracy (%)")
    pictures.percent(axes.yaxis)
    if objective in ("parameters", "flops"):
        pictures.numbers(axes.xaxis, objectives.NAMES[objective], max(run.cost.max() for run in runs))
    else:
        axes.set_xlabel(objectives.NAMES[objective])
    _legend(figure, axes, axes, runs)
    return figure


def health_picture(runs: Sequence[Curves]) -> Figure:
    """Busy workers and failures over time."""
    figure = pictures.figure(10.0, 5.4)
    occupied, failed = [worker_time.occupancy(run.stored) for run in runs], [failures(run.stored) for run in runs]
    name, seconds = worker_time.unit(3600 * max(hours[-1] for hours, _, _ in occupied))
    counts = Counter(kind for found in failed for _, kind in found)
    kinds = sorted(counts)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1 + len(kinds)))
    for number, (run, colour) in enumerate(_coloured(runs)):
        hours, busy, present = occupied[number]
        times = 3600 * hours / seconds
        above.stairs(present, times, color=colour if len(runs) > 1 else pictures.PALE, lw=1.2, ls=":")
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


def gain_picture(found: Sequence[Gains]) -> Figure:
    """Figure 4."""
    figure = pictures.figure(7.5, 5.0)
    axes = figure.subplots()
    for number, gain in enumerate(found):
        prefix = f"{gain.run.name}: " if len(found) > 1 else ""
        small, large = (pictures.COLOURS[(2 * number + part) % len(pictures.COLOURS)] for part in (0, 1))
        steps = [point.step for point in gain.points]
        axes.plot(gain.run.step, gain.best_small, color=small, lw=1.0, alpha=0.5, drawstyle="steps-post",
                  label=f"{prefix}small network, best so far")  # fmt: skip
        axes.plot(steps, [point.small for point in gain.points], "o-", color=small, label=f"{prefix}small network")
        axes.errorbar(
            steps, [point.large for point in gain.points], [point.large_std or 0.0 for point in gain.points],
            fmt="s-", capsize=3, color=large, label=f"{prefix}large network",
        )  # fmt: skip
    axes.axhline(0.0, color=pictures.PALE, lw=0.8)
    axes.set_title("Gain in accuracy over the first random genotype")
    axes.set_xlabel("evolution step (evaluations)")
    axes.set_ylabel("gain (percentage points)")
    pictures.percent(axes.yaxis)
    axes.set_xlim(left=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, 3 * len(found)))
    return figure


PICTURES = {
    "search": (search_picture, "fitness, best fitness and parameters against the evolution step (Figure 3)"),
    "pareto": (pareto_picture, "fitness against what the search weighed, with the Pareto front"),
    "health": (health_picture, "busy workers and failures over time"),
}


def _coloured(runs: Sequence[Curves]) -> list[tuple[Curves, Colour]]:
    return [(run, pictures.COLOURS[number % len(pictures.COLOURS)]) for number, run in enumerate(runs)]


def _dots(axes: Axes, run: Curves, x: np.ndarray, y: np.ndarray, colour: Colour, alone: bool) -> None:
    """Every individual a dot; of a run alone, those drawn at random are grey."""
    size = 3.4 if len(x) > 300 else 5.0
    look: dict[str, Any] = {"ls": "", "marker": "o", "mew": 0, "ms": size, "alpha": 0.55, "rasterized": True}
    if not alone:
        axes.plot(x, y, color=colour, **look)
        return
    for which, tone, label in ((~run.mutated, pictures.PALE, "drawn at random"), (run.mutated, colour, "mutated")):
        if which.any():
            axes.plot(x[which], y[which], color=tone, label=label, **look)


def _legend(figure: Figure, one: Axes, several: Axes, runs: Sequence[Curves]) -> None:
    """Below the panels: what dots of a run alone are, or which colour is which run's."""
    handles, labels = (one if len(runs) == 1 else several).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), markerscale=1.8)


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
