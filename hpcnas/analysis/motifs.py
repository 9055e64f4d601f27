"""Which motifs of a genotype are in use, how often, and what they compute. Draws nothing.

Edges on no path from source to sink compute nothing and are left out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hpcnas.analysis.runs import AnalysisError, motif_name
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype, operation_names

Motif = tuple[int, int]  # level, from 2, and number, from 0
MEANINGS = {  # of the paper's primitives, for people
    "1x1": "1×1 convolution",
    "dw": "3×3 depthwise convolution",
    "sep": "3×3 separable convolution",
    "max": "3×3 max-pooling",
    "avg": "3×3 average-pooling",
    "id": "identity",
}


def require_path(name: str, genotype: Genotype) -> None:
    """Raises AnalysisError unless some path leads through the cell, without which the network computes nothing."""
    if not expansion.is_valid(genotype):
        raise AnalysisError(f"{name}: no path leads from the source to the sink of the cell: there is nothing to draw")


def motifs_in_use(genotype: Genotype) -> dict[Motif, int]:
    """How often the expanded network holds each motif: the cell first, then level by level down."""
    live, top = expansion.live_edges(genotype), genotype.space.top
    uses: Counter[Motif] = Counter({(top, 0): 1})
    for level in range(top, 2, -1):
        for motif in range(genotype.space.level(level).motifs):
            for _, _, code in live[level, motif]:
                uses[level - 1, code - 1] += uses[level, motif]
    return {motif: uses[motif] for motif in sorted(uses, key=lambda m: (-m[0], m[1])) if uses[motif]}


def facts(name: str, genotype: Genotype) -> dict[str, Any]:
    """The motifs in use with their edges on a path, and the size of the expanded network, as JSON has them. Raises
    AnalysisError where no path leads through the cell."""
    require_path(name, genotype)
    graph, live = expansion.expand(genotype), expansion.live_edges(genotype)
    motifs = []
    for (level, motif), uses in motifs_in_use(genotype).items():
        names = operation_names(genotype.space, level)
        motifs.append(
            {
                "name": motif_name(genotype.space, level, motif),
                "uses": uses,
                "edges": [f"{j + 1}-{i + 1} {names[code - 1]}" for j, i, code in live[level, motif]],
            }
        )
    return {"genotype": name, "motifs": motifs, "nodes": graph.nodes, "edges": len(graph.edges)}
