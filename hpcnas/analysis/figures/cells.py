"""A genotype drawn as in the paper's Appendix A: the cell with every motif in use, and the network that it stands for.

Where things stand is told by `layout`; here they are drawn. Edges on no path from source to sink compute nothing and
are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from hpcnas.analysis.figures import layout, style
from hpcnas.analysis.figures.layout import Diagram, DrawnEdge, Point
from hpcnas.analysis.figures.style import (
    Axes,
    Circle,
    FancyArrowPatch,
    FancyBboxPatch,
    Figure,
    Line2D,
    Outline,
    PathPatch,
)
from hpcnas.analysis.motifs import MEANINGS, motifs_in_use, require_path
from hpcnas.analysis.runs import motif_name
from hpcnas.architecture import expansion, primitives
from hpcnas.architecture.genotype import Genotype, operation_names

MOST_LABELS = 24  # edges of a motif that have room for their operations' names
ROOM = 0.6  # around a diagram


@style.in_house_style
def cell_picture(name: str, genotype: Genotype) -> Figure:
    """The cell on the left, and on the right the motifs in use, all of one scale; `name` is for the title.

    Raises AnalysisError where no path leads through the cell.
    """
    require_path(name, genotype)
    live, uses, space = expansion.live_edges(genotype), motifs_in_use(genotype), genotype.space
    diagrams = {
        (level, motif): layout.arcs(live[level, motif], space.level(level).nodes, operation_names(space, level))
        for level, motif in uses
    }
    columns, rows = min(2, len(uses) - 1), max(1, len(uses) // 2)
    of_cell, of_motifs = (6.4, 3.7 * columns) if columns else (10.0, 0.0)  # inches
    height = max(of_cell * shape(diagrams[space.top, 0]), 2.2 * rows, 3.6) + 1.0
    figure = style.new_figure(of_cell + of_motifs, height)
    grid = figure.add_gridspec(rows, 2 + columns)
    for number, (motif, diagram) in enumerate(diagrams.items()):
        axes = figure.add_subplot(grid[(number - 1) // 2, 2 + (number - 1) % 2] if number else grid[:, :2])
        title = motif_name(space, *motif)
        axes.set_title(f"{title}, used {uses[motif]}×" if number else f"{name}: the {title}", fontsize=12)
        draw(axes, diagram)
        if len(diagram.edges) <= MOST_LABELS:
            name_operations(axes, diagram)
        frame(axes, list(diagrams.values())[1:] if number else [diagram])
    legend(figure, genotype)
    return figure


@style.in_house_style
def expanded_picture(name: str, genotype: Genotype) -> Figure:
    """The expanded network: motifs as boxes, operations as coloured lines; `name` is for the title.

    Raises AnalysisError where no path leads through the cell.
    """
    require_path(name, genotype)
    diagram, graph = layout.expanded(genotype), expansion.expand(genotype)
    width = min(15.0, max(10.0, 0.62 * diagram.width))  # inches
    figure = style.new_figure(width, width * shape(diagram) + 1.0)
    axes = figure.add_subplot()
    draw(axes, diagram)
    frame(axes, [diagram])
    axes.set_title(f"{name}, expanded: {graph.nodes} nodes, {len(graph.edges)} operations", fontsize=12)
    legend(figure, genotype)
    return figure


def shape(diagram: Diagram) -> float:
    """Its height as a share of its width."""
    return (diagram.below + diagram.above + 2 * ROOM) / (diagram.width + 2 * ROOM)


def frame(axes: Axes, diagrams: Sequence[Diagram]) -> None:
    """Makes room for any of these diagrams, and nothing around it."""
    axes.axis("off")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlim(-ROOM, max(diagram.width for diagram in diagrams) + ROOM, auto=True)
    lowest, highest = max(diagram.below for diagram in diagrams), max(diagram.above for diagram in diagrams)
    axes.set_ylim(-lowest - ROOM, highest + ROOM, auto=True)


def draw(axes: Axes, diagram: Diagram) -> None:
    """Draws boxes, wires, edges and dots of a diagram."""
    for box in diagram.boxes:
        tint = _tint(box.name)
        look: dict[str, Any] = {"fc": style.lighter(tint), "ec": tint, "lw": 0.8, "zorder": 1}
        round_corners = "round,pad=0,rounding_size=0.18"
        axes.add_patch(FancyBboxPatch(box.at, box.width, box.height, boxstyle=round_corners, **look))
        name_at = box.at[0] + 0.16, box.at[1] + box.height - 0.14
        axes.text(*name_at, box.name, ha="left", va="top", fontsize=10, fontweight="bold", zorder=2)
    for wire in diagram.wires:
        axes.add_patch(PathPatch(_rounded(wire.path), fc="none", ec=style.INK, lw=0.9, zorder=3))
        axes.plot(*wire.path[-1], "o", color=style.INK, ms=3.5, zorder=6)
    for edge in diagram.edges:
        colour = _colour(edge)
        outline = Outline(edge.path, _CURVE) if edge.curved else _rounded(edge.path)
        line: dict[str, Any] = {"color": colour, "lw": 1.7, "ls": "--" if edge.operation == "id" else "-"}
        axes.add_patch(FancyArrowPatch(path=outline, arrowstyle="-|>", mutation_scale=9, zorder=4, **line))
    for dot in diagram.dots:
        axes.add_patch(Circle(dot.at, layout.RADIUS, fc="white", ec=style.INK, lw=1.3, zorder=6))
        ha, shift = {"in": ("right", -0.2), "out": ("left", 0.2)}.get(dot.name, ("center", 0.0))
        axes.text(dot.at[0] + shift, dot.at[1], dot.name, ha=ha, va="center_baseline", fontsize=9, zorder=7)


def name_operations(axes: Axes, diagram: Diagram) -> None:
    """Writes the operations upon their edges."""
    for edge in diagram.edges:
        _label(axes, edge)


_CURVE = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]


def _colour(edge: DrawnEdge) -> str:
    """That of its operation; grey for a motif and for what a plugin adds."""
    return style.OPERATION_COLOURS.get(edge.operation, "#555555")


def _label(axes: Axes, edge: DrawnEdge) -> None:
    """The operation: a motif on its colour, a primitive in its own."""
    (x, y), colour = edge.middle, _colour(edge)
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold", "zorder": 5}
    if edge.operation not in style.OPERATION_COLOURS:
        axes.text(
            x, y, edge.operation, bbox={"boxstyle": "round,pad=0.22", "fc": _tint(edge.operation), "ec": "none"}, **look
        )
    elif y == 0.0:
        axes.text(x, y + 0.13, edge.operation, color=colour, **look)
    else:
        axes.text(
            x, y, edge.operation, color=colour, bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"}, **look
        )


def _rounded(corners: Sequence[Point], radius: float = 0.2) -> Outline:
    """A line through corners at right angles, each rounded off."""
    points, codes = [corners[0]], [Outline.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        for end, code in ((before, Outline.LINETO), (after, Outline.CURVE3)):
            dx, dy = end[0] - corner[0], end[1] - corner[1]
            share = min(0.5, radius / math.hypot(dx, dy))
            near = corner[0] + share * dx, corner[1] + share * dy
            points += [near] if code == Outline.LINETO else [corner, near]
            codes += [code] if code == Outline.LINETO else [code, code]
    return Outline([*points, corners[-1]], [*codes, Outline.LINETO])


def legend(figure: Figure, genotype: Genotype) -> None:
    """What the colours of the operations in use mean."""
    present = {primitives.name(edge.operation) for edge in expansion.expand(genotype).edges}
    handles = [
        Line2D([], [], color=style.OPERATION_COLOURS[name], lw=2.5, ls="--" if name == "id" else "-",
               label=f"{name}: {MEANINGS[name]}")
        for name in primitives.NAMES if name in present
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10)


def _tint(name: str) -> str:
    """The light colour of a motif, by its number."""
    number = int(re.sub(r"\D", "", name) or "1")
    return style.LIGHT[(number - 1) % len(style.LIGHT)]
