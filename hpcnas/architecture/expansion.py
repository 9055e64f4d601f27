"""From a genotype to the graph of primitives that it stands for: pruned and expanded. Trains nothing.

An edge counts only if it lies on a path from source to sink; a motif without such a path is `none` to the level above
(P2). Every use of a motif is a copy of its own. Each level-2 motif used inside a higher level is followed by
a 1×1 convolution (§4.1); higher motifs are followed by nothing.
"""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass
from typing import NamedTuple

from hpcnas.architecture import primitives
from hpcnas.architecture.genotype import Genotype, operation_names
from hpcnas.architecture.space import Space
from hpcnas.errors import Error

_SUCCESSOR = operator.itemgetter(1)
LiveEdges = tuple[tuple[int, int, int], ...]  # (predecessor, successor, operation) by successor, then predecessor


class InvalidGenotype(Error, ValueError):
    """No path from the source to the sink of the cell: there is no network to train."""


class Edge(NamedTuple):
    """Primitive `operation` (its code) from node `source` to node `target`."""

    source: int
    target: int
    operation: int


@dataclass(frozen=True, slots=True)
class CellGraph:
    """A cell of primitives. Nodes 0 (source) to nodes−1 (sink) are in topological order, every one on a path.

    `edges` stand by target; those of one target in the order of concatenation.
    """

    nodes: int
    edges: tuple[Edge, ...]


def live_edges(genotype: Genotype) -> dict[tuple[int, int], LiveEdges]:
    """Edges on a path from source to sink, by (level, motif); an empty tuple means that the motif is `none`."""
    live: dict[tuple[int, int], LiveEdges] = {}
    below = (True,) * len(operation_names(genotype.space, 2))  # which operations of the level below are not `none`
    for level, nodes, places in _slices(genotype.space):
        found = [_live_motif(genotype.codes[place], nodes, below) for place in places]
        live.update(((level, motif), edges) for motif, edges in enumerate(found))
        below = tuple(map(bool, found))
    return live


@functools.cache
def _slices(space: Space) -> tuple[tuple[int, int, tuple[slice, ...]], ...]:
    """Each level, the nodes of its motifs, and where each of them stands in the array form."""
    found, first = [], 0
    for level, shape in enumerate(space.levels, start=2):
        last = first + shape.motifs * shape.edges
        found.append((level, shape.nodes, tuple(slice(at, at + shape.edges) for at in range(first, last, shape.edges))))
        first = last
    return tuple(found)


@functools.lru_cache(maxsize=4096)  # a child shares all motifs but one with its parent
def _live_motif(codes: bytes, nodes: int, below: tuple[bool, ...]) -> LiveEdges:
    """The live edges of one motif; `codes` is its slice of the array form."""
    places = ((j, i) for i in range(1, nodes) for j in range(i))
    edges = [(j, i, code) for (j, i), code in zip(places, codes, strict=True) if code and below[code - 1]]
    return _on_paths(edges, nodes)


def _on_paths(edges: list[tuple[int, int, int]], nodes: int) -> LiveEdges:
    """The edges that lie on a path from node 0 to the last node."""
    from_source, to_sink = {0}, {nodes - 1}
    for j, i, _ in edges:  # by successor: j's own edges came before
        if j in from_source:
            from_source.add(i)
    for j, i, _ in reversed(edges):
        if i in to_sink:
            to_sink.add(j)
    return tuple(edge for edge in edges if edge[0] in from_source and edge[1] in to_sink)


def is_valid(genotype: Genotype) -> bool:
    """Whether a path leads from the source to the sink of the cell."""
    return bool(live_edges(genotype)[genotype.space.top, 0])


def bare(genotype: Genotype) -> Genotype:
    """The genotype with dead edges and unused motifs removed: edges on no path, and motifs that no live edge uses."""
    live, space = live_edges(genotype), genotype.space
    codes, position, used = bytearray(space.edges), space.edges, {0}
    for level in range(space.top, 1, -1):
        shape, below = space.level(level), set()
        position -= shape.motifs * shape.edges
        for motif in used:
            first = position + motif * shape.edges
            for j, i, operation in live[level, motif]:
                codes[first + i * (i - 1) // 2 + j] = operation
                below.add(operation - 1)
        used = below
    return Genotype(space, bytes(codes))


def expand(genotype: Genotype) -> CellGraph:
    """The cell as one graph of primitives; raises InvalidGenotype where no path leads from source to sink."""
    return _expanded(genotype, tuple(map(primitives.code_of, operation_names(genotype.space, 2))))


@functools.lru_cache(maxsize=64)  # whoever expands a genotype often wants its size, and its hash, next
def _expanded(genotype: Genotype, codes: tuple[int, ...]) -> CellGraph:
    """`codes`: those that the primitives of the space have in this process, since plugins' may have others tomorrow."""
    live = live_edges(genotype)
    if not live[genotype.space.top, 0]:
        raise InvalidGenotype("expected a path from the source to the sink of the cell, but there is none")
    edges: list[Edge] = []
    count = 1  # nodes numbered so far; the source is 0

    def assemble(level: int, motif: int, source: int) -> int:
        """Adds one use of a motif that reads node `source`; returns the node that is its sink."""
        nonlocal count
        if level == 2:
            first, used = count - 1, _motif(live[level, motif])
            edges.extend(
                [Edge(first + j if j else source, first + i, codes[operation - 1]) for j, i, operation in used]
            )
            count += used[-1][1]
            return count - 1
        join = primitives.CONVOLUTION if level == 3 else primitives.IDENTITY
        numbered = {0: source}
        for successor, group in itertools.groupby(live[level, motif], key=_SUCCESSOR):
            sinks = [assemble(level - 1, operation - 1, numbered[predecessor]) for predecessor, _, operation in group]
            edges.extend([Edge(sink, count, join) for sink in sinks])
            numbered[successor] = count
            count += 1
        return count - 1

    assemble(genotype.space.top, 0, 0)
    return CellGraph(nodes=count, edges=tuple(edges))


@functools.lru_cache(maxsize=4096)
def _motif(live: LiveEdges) -> LiveEdges:
    """The live edges with the nodes that they have numbered 0, 1, … in their order."""
    numbers = {0: 0}
    for _, successor, _ in live:
        numbers.setdefault(successor, len(numbers))
    return tuple((numbers[j], numbers[i], operation) for j, i, operation in live)
