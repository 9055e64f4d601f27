#!/usr/bin/env python3
"""The family tree of an individual: which mutation brought which gain.

INDIVIDUAL is a RUN (its best) or RUN:ID. Listed are its ancestors, the first one first, each with the mutation that
made it of its parent. A gain is the difference of two measured fitnesses, and ± its standard error where a fitness is
the mean of several trainings. Selection prefers lucky measurements: gains within two standard errors may be luck.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import toolkit

from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, operation_names
from hpcnas.evolution.population import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="")
    parser.add_argument("individual", metavar="INDIVIDUAL", help="RUN, RUN:best or RUN:ID")
    parser.add_argument("--output", type=toolkit.picture_path, metavar="FILE", help="write the picture to this file")
    options = parser.parse_args(arguments)
    folder, run, id = toolkit.individual(options.individual)
    family = ancestry(run.population, id)
    if options.output:
        from hpcnas.analysis.figures import style as pictures  # the table needs no matplotlib

        pictures.save(pictures.in_house_style(picture)(run.population, family), options.output)
    if options.json:
        toolkit.print_json({"run": str(folder), "individual": id, "lineage": family})
        return 0
    header = ("id", "step", "fitness", "gain", "±", "parameters", "children", "mutation")
    rows = [
        (one["id"], one["step"] or "-", _number(one["fitness"], ".4f"), _number(one["gain"], "+.4f"),
         _number(one["gain_error"], ".4f"), _number(one["parameters"], ","), one["children"], told(one))
        for one in family
    ]  # fmt: skip
    print(toolkit.table(header, rows))
    print(summary(family))
    if options.output:
        print(f"written: {options.output}")
    return 0


def ancestry(population: Population, id: int) -> list[dict[str, Any]]:
    """The individual and its ancestors, the oldest first; what is not known (it is in flight, say) is None."""
    step = {one: place for place, one in enumerate(population.evaluated.tolist(), start=1)}
    fitness, parameters = population.column("fitness"), population.column("parameters")
    parents, spread = population.column("parent"), toolkit.spread(population)
    children = np.bincount(parents[parents >= 0], minlength=len(population))

    def error(one: int) -> float:
        """Of the fitness of an individual, by what trainings are in it."""
        return float(spread[one]) / math.sqrt(max(len(population.averaged_accuracies(one)), 1))

    found = []
    for one in reversed(list(population.lineage(id))):
        done, parent = one.id in step, one.parent
        origin = None if parent is None else population.individual(parent).genotype
        gain = float(fitness[one.id] - fitness[parent]) if done and parent is not None else None
        gain_error = None if gain is None else math.hypot(error(one.id), error(parent))
        found.append(
            {
                "id": one.id,
                "step": step.get(one.id),
                "birth": one.birth.name.lower(),
                "fitness": float(fitness[one.id]) if done else None,
                "gain": gain,
                "gain_error": None if gain_error != gain_error else gain_error,
                "parameters": int(parameters[one.id]) if done else None,
                "children": int(children[one.id]),
                "mutation": None if origin is None else changes(origin, one.genotype),
                "same_network": None if origin is None else expansion.expand(origin) == expansion.expand(one.genotype),
            }
        )
    return found


def changes(old: Genotype, new: Genotype) -> list[str]:
    """What differs, such as `M3 2-4: id → sep`."""
    space, found = old.space, []
    for level in range(space.top, 1, -1):
        names = ("none", *operation_names(space, level))
        for motif in range(space.level(level).motifs):
            before, after = old.adjacency(level, motif), new.adjacency(level, motif)
            for i, j in np.argwhere(before != after).tolist():
                name = toolkit.motif_name(space, level, motif)
                found.append(f"{name} {j + 1}-{i + 1}: {names[before[i, j]]} → {names[after[i, j]]}")
    return found


def told(one: dict[str, Any]) -> str:
    """A mutation in words."""
    if one["mutation"] is None:
        origins = {"founder": "taken from another run", "given": "given to begin with"}
        return origins.get(one["birth"], "drawn at random")
    if not one["mutation"]:
        return "no change"
    return ", ".join(one["mutation"]) + (" (same network)" if one["same_network"] else "")


def summary(family: Sequence[dict[str, Any]]) -> str:
    """The whole lineage in one line."""
    first, last = family[0], family[-1]
    if first is last:
        return "it has no ancestors"
    same = sum(bool(one["same_network"]) for one in family)
    many = "mutation" if len(family) == 2 else "mutations"
    text = f"{len(family) - 1} {many}, {same} without a change of the network"
    if last["fitness"] is None:
        return text
    gains = [one["gain"] for one in family if one["gain"] is not None]
    largest = family[1 + int(np.argmax(gains))]
    whole = last["fitness"] - first["fitness"]
    return f"{text}; gain {whole:+.4f} in all, {statistics.fmean(gains):+.4f} a mutation, most by {told(largest)}"


def _number(value: float | None, form: str) -> str:
    text = "-" if value is None else f"{value:{form}}"
    return text.replace("-", "+") if re.fullmatch(r"-0\.0+", text) else text


# ── the picture ─────────────────────────────────────────────────────────────────────────────────────────────────────
def picture(population: Population, family: Sequence[dict[str, Any]]) -> Figure:
    """The lineage in the cloud of all individuals on the left, its mutations as a list on the right."""
    from hpcnas.analysis.figures import style as pictures

    known = [one for one in family if one["step"] is not None]
    if not known:
        toolkit.fail("neither this individual nor an ancestor has been evaluated yet: there is nothing to draw")
    figure = pictures.new_figure(13.5, max(5.6, 0.25 * len(known) + 1.2))
    tree, listing = figure.subplots(1, 2, width_ratios=(8, 5))
    _tree(tree, population, known)
    _listing(listing, known)
    return figure


def _tree(axes: Axes, population: Population, known: Sequence[dict[str, Any]]) -> None:
    from hpcnas.analysis.figures import style as pictures

    ids = population.evaluated
    steps = np.empty(len(population), dtype=np.int64)
    steps[ids] = np.arange(1, len(ids) + 1)
    fitness, parents = population.column("fitness"), population.column("parent")
    look: dict[str, Any] = {"ls": "", "marker": "o", "ms": 2.6, "mew": 0, "rasterized": True}
    axes.plot(steps[ids], fitness[ids], color="#C9C9C9", label="all individuals", **look)
    lines = {one["id"] for one in known}
    aunts = [id for id in ids.tolist() if parents[id] in lines and id not in lines]
    x = [value for id in aunts for value in (steps[parents[id]], steps[id], np.nan)]
    y = [value for id in aunts for value in (fitness[parents[id]], fitness[id], np.nan)]
    if aunts:
        axes.plot(x, y, color=pictures.COLOURS[5], lw=0.7, alpha=0.7, label="their other children")
    axes.plot([one["step"] for one in known], [one["fitness"] for one in known], color=pictures.COLOURS[0], lw=1.6)
    for same, fill, label in (
        (False, pictures.COLOURS[0], "the lineage"),
        (True, "white", "same network as the parent"),
    ):
        some = [one for one in known if bool(one["same_network"]) == same]
        if some:
            at = [one["step"] for one in some], [one["fitness"] for one in some]
            axes.plot(*at, "o", ms=12, mfc=fill, mec=pictures.COLOURS[0], mew=1.4, label=label, zorder=4)
    for number, one in enumerate(known):
        colour = pictures.COLOURS[0] if one["same_network"] else "white"
        spot = one["step"], one["fitness"]
        axes.text(
            *spot,
            str(number),
            ha="center",
            va="center_baseline",
            fontsize=7.5,
            fontweight="bold",
            color=colour,
            zorder=5,
        )
    axes.set_title(f"Lineage of individual {known[-1]['id']}")
    axes.set_xlim(left=0)
    axes.set_xlabel("evolution step (evaluations)")
    axes.set_ylabel("fitness: validation accuracy (%)")
    pictures.write_in_percent(axes.yaxis)
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")


def _listing(axes: Axes, known: Sequence[dict[str, Any]]) -> None:
    from hpcnas.analysis.figures import style as pictures

    axes.axis("off")
    axes.set_title("Gain in fitness (%) and mutation")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(20, len(known)) + 0.5, -0.5)
    axes.text(0.22, len(known), "coloured: more than two standard errors", va="center", fontsize=8, style="italic")
    for number, one in enumerate(known):
        gain, colour, text = one["gain"], pictures.INK, f"at {100 * one['fitness']:.2f}"
        if gain is not None:
            text = _number(100 * gain, "+.2f")
            if abs(gain) > 2 * (one["gain_error"] or 0.0) and not one["same_network"]:
                colour = pictures.COLOURS[0 if gain > 0 else 1]
        for x, cell, ha, tone in ((0.04, number, "right", pictures.INK), (0.19, text, "right", colour)):
            axes.text(x, number, str(cell), ha=ha, va="center", fontsize=9, color=tone, fontweight="bold")
        axes.text(0.22, number, told(one), ha="left", va="center", fontsize=9)


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
