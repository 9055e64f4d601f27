"""A genotype as geometry for a page that draws it: the cell and its motifs, and the network that they stand for.

Where things stand is told by `analysis.figures.layout`. Edges on no path compute nothing and are left out. y grows
upwards; a unit is the distance of two neighbouring nodes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import numpy as np

from hpcnas.analysis.figures import layout
from hpcnas.analysis.figures.layout import Diagram
from hpcnas.analysis.motifs import MEANINGS, motifs_in_use, require_path
from hpcnas.analysis.runs import motif_name
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, operation_names

Edge = tuple[int, int, int, int]  # level, motif, predecessor, successor, all but the level from 0


def changed_edges(old: Genotype, new: Genotype) -> set[Edge]:
    """Edges of which the operation differs, `none` counted as one. Both are of one space."""
    found = set()
    for level in range(old.space.top, 1, -1):
        for motif in range(old.space.level(level).motifs):
            differ = np.argwhere(old.adjacency(level, motif) != new.adjacency(level, motif))
            found |= {(level, motif, j, i) for i, j in differ.tolist()}
    return found


def cell(name: str, genotype: Genotype, changed: Collection[Edge]) -> dict[str, Any]:
    """The motifs in use, the cell first, with edges marked that have changed. Raises AnalysisError where no path leads
    through the cell."""
    require_path(name, genotype)
    live, space, found = expansion.live_edges(genotype), genotype.space, []
    for (level, motif), uses in motifs_in_use(genotype).items():
        edges = live[level, motif]
        drawn = layout.arcs(edges, space.level(level).nodes, operation_names(space, level))
        marks = [(level, motif, j, i) in changed for j, i, _ in edges]
        found.append({"name": motif_name(space, level, motif), "uses": uses, "diagram": _told(drawn, marks)})
    return {"motifs": found, "operations": MEANINGS}


def expanded(name: str, genotype: Genotype) -> dict[str, Any]:
    """The expanded network, motifs as boxes. Raises AnalysisError where no path leads through the cell."""
    require_path(name, genotype)
    drawn, graph = layout.expanded(genotype), expansion.expand(genotype)
    told = _told(drawn, [False] * len(drawn.edges))
    return told | {"nodes": graph.nodes, "operations": len(graph.edges)}


def _told(diagram: Diagram, marks: list[bool]) -> dict[str, Any]:
    """As JSON has it."""
    found = asdict(diagram)
    for edge, changed in zip(found["edges"], marks, strict=True):
        edge["changed"] = changed
    return found
