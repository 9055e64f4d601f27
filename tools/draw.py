#!/usr/bin/env python3
"""Draws a genotype as the paper's Appendix A does: the cell and every motif in use; and the network that it stands for.

GENOTYPE is `paper` (the cell of Appendix A), a FILE.toml, a RUN (its best individual) or RUN:ID. Edges on no path from
source to sink compute nothing and are left out. Without a file name, both pictures go to the current folder.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import layout
import pictures
import toolkit
from layout import Diagram, Edge, Point
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from hpcnas.architecture import expansion, primitives
from hpcnas.architecture.genotype import Genotype, operation_names

MEANINGS = {
    "1x1": "1×1 convolution",
    "dw": "3×3 depthwise convolution",
    "sep": "3×3 separable convolution",
    "max": "3×3 max-pooling",
    "avg": "3×3 average-pooling",
    "id": "identity",
}
MOST_LABELS = 24  # edges of a motif that have room for their operations' names
ROOM = 0.6  # around a diagram
Motif = tuple[int, int]  # level and number, from 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="")
    parser.add_argument("genotype", metavar="GENOTYPE", help="RUN, RUN:best, RUN:ID, FILE.toml or paper")
    parser.add_argument("--cell", type=toolkit.picture_path, metavar="FILE", help="the cell and its motifs")
    parser.add_argument("--expanded", type=toolkit.picture_path, metavar="FILE", help="the expanded network")
    options = parser.parse_args(arguments)
    name, genotype = toolkit.named_genotype(options.genotype)
    if not expansion.is_valid(genotype):
        toolkit.fail(f"{name}: no path leads from the source to the sink of the cell: there is nothing to draw")
    wanted = {"cell": options.cell, "expanded": options.expanded}
    if not any(wanted.values()) and not options.json:
        wanted = {picture: Path(f"{name}-{picture}.png") for picture in wanted}
    for picture, path in wanted.items():
        if path:
            pictures.save({"cell": cell_picture, "expanded": expanded_picture}[picture](name, genotype), path)
    found = facts(name, genotype)
    if options.json:
        toolkit.print_json(found)
        return 0
    rows = [(motif["name"], motif["uses"], ", ".join(motif["edges"])) for motif in found["motifs"]]
    print(toolkit.table(("motif", "uses", "edges on a path"), rows))
    print(f"expanded: {found['nodes']} nodes, {found['edges']} edges")
    for path in filter(None, wanted.values()):
        print(f"written: {path}")
    return 0


def facts(name: str, genotype: Genotype) -> dict[str, Any]:
    """The motifs in use with their edges on a path, and the size of the expanded network."""
    graph, live = expansion.expand(genotype), expansion.live_edges(genotype)
    motifs = []
    for (level, motif), uses in motifs_in_use(genotype).items():
        names = operation_names(genotype.space, level)
        motifs.append(
            {
                "name": toolkit.motif_name(genotype.space, level, motif),
                "uses": uses,
                "edges": [f"{j + 1}-{i + 1} {names[code - 1]}" for j, i, code in live[level, motif]],
            }
        )
    return {"genotype": name, "motifs": motifs, "nodes": graph.nodes, "edges": len(graph.edges)}


def motifs_in_use(genotype: Genotype) -> dict[Motif, int]:
    """How often the expanded network holds each motif: the cell first, then level by level down."""
    live, top = expansion.live_edges(genotype), genotype.space.top
    uses: Counter[Motif] = Counter({(top, 0): 1})
    for level in range(top, 2, -1):
        for motif in range(genotype.space.level(level).motifs):
            for _, _, code in live[level, motif]:
                uses[level - 1, code - 1] += uses[level, motif]
    return {motif: uses[motif] for motif in sorted(uses, key=lambda m: (-m[0], m[1])) if uses[motif]}


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────
def cell_picture(name: str, genotype: Genotype) -> Figure:
    """The cell on the left, and on the right the motifs in use, all of one scale."""
    live, uses, space = expansion.live_edges(genotype), motifs_in_use(genotype), genotype.space
    diagrams = {
        (level, motif): layout.arcs(live[level, motif], space.level(level).nodes, operation_names(space, level))
        for level, motif in uses
    }
    columns, rows = min(2, len(uses) - 1), max(1, len(uses) // 2)
    of_cell, of_motifs = (6.4, 3.7 * columns) if columns else (10.0, 0.0)  # inches
    height = max(of_cell * shape(diagrams[space.top, 0]), 2.2 * rows, 3.6) + 1.0
    figure = pictures.figure(of_cell + of_motifs, height)
    grid = figure.add_gridspec(rows, 2 + columns)
    for number, (motif, diagram) in enumerate(diagrams.items()):
        axes = figure.add_subplot(grid[(number - 1) // 2, 2 + (number - 1) % 2] if number else grid[:, :2])
        title = toolkit.motif_name(space, *motif)
        axes.set_title(f"{title}, used {uses[motif]}×" if number else f"{name}: the {title}", fontsize=12)
        draw(axes, diagram, labels=len(diagram.edges) <= MOST_LABELS)
        frame(axes, list(diagrams.values())[1:] if number else [diagram])
    legend(figure, genotype)
    return figure


def expanded_picture(name: str, genotype: Genotype) -> Figure:
    """The expanded network: motifs as boxes, operations as coloured lines."""
    diagram, graph = layout.expanded(genotype), expansion.expand(genotype)
    width = min(15.0, max(10.0, 0.62 * diagram.width))  # inches
    figure = pictures.figure(width, width * shape(diagram) + 1.0)
    axes = figure.add_subplot()
    draw(axes, diagram, labels=False)
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


def draw(axes: Axes, diagram: Diagram, labels: bool) -> None:
    """A diagram; `labels` writes the operations upon their edges."""
    for box in diagram.boxes:
        tint = _tint(box.name)
        look: dict[str, Any] = {"fc": pictures.lighter(tint), "ec": tint, "lw": 0.8, "zorder": 1}
        round_corners = "round,pad=0,rounding_size=0.18"
        axes.add_patch(FancyBboxPatch(box.at, box.width, box.height, boxstyle=round_corners, **look))
        name_at = box.at[0] + 0.16, box.at[1] + box.height - 0.14
        axes.text(*name_at, box.name, ha="left", va="top", fontsize=10, fontweight="bold", zorder=2)
    for wire in diagram.wires:
        axes.add_patch(PathPatch(_rounded(wire.path), fc="none", ec=pictures.INK, lw=0.9, zorder=3))
        axes.plot(*wire.path[-1], "o", color=pictures.INK, ms=3.5, zorder=6)
    for edge in diagram.edges:
        colour = pictures.OPERATION_COLOURS.get(edge.operation, "#555555")
        outline = Outline(edge.path, _CURVE) if edge.curved else _rounded(edge.path)
        line: dict[str, Any] = {"color": colour, "lw": 1.7, "ls": "--" if edge.operation == "id" else "-"}
        axes.add_patch(FancyArrowPatch(path=outline, arrowstyle="-|>", mutation_scale=9, zorder=4, **line))
        if labels:
            _label(axes, edge, colour)
    for dot in diagram.dots:
        axes.add_patch(Circle(dot.at, layout.RADIUS, fc="white", ec=pictures.INK, lw=1.3, zorder=6))
        ha, shift = {"in": ("right", -0.2), "out": ("left", 0.2)}.get(dot.name, ("center", 0.0))
        axes.text(dot.at[0] + shift, dot.at[1], dot.name, ha=ha, va="center_baseline", fontsize=9, zorder=7)


_CURVE = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]


def _label(axes: Axes, edge: Edge, colour: str) -> None:
    """The operation: a motif on its colour, a primitive in its own."""
    x, y = edge.middle
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold", "zorder": 5}
    if edge.operation not in pictures.OPERATION_COLOURS:
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
        Line2D([], [], color=pictures.OPERATION_COLOURS[name], lw=2.5, ls="--" if name == "id" else "-",
               label=f"{name}: {MEANINGS[name]}")
        for name in primitives.NAMES if name in present
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10)


def _tint(name: str) -> str:
    """The light colour of a motif, by its number."""
    number = int(re.sub(r"\D", "", name) or "1")
    return pictures.LIGHT[(number - 1) % len(pictures.LIGHT)]


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
