"""What a predictor sees of a cell: numbers of the pieces that its graph of primitives consists of, and its size.

    ──1x1──► ● ──sep──►      operations      1x1: 1, sep: 1
                             ways            1x1 sep: 1         two operations one after the other, or a whole path
                             neighbourhoods  (1x1 | sep): 1     what enters a node and what leaves it
                             degrees         (1, 1): 1
                             places          edge 0 is 1x1 …    of the genotype, dead edges and unused motifs removed

Neighbourhoods are those of one step of Weisfeiler and Lehman (1968). All values are whole numbers, also the logarithms
of parameters and FLOPs: sums of products of them are exact on any machine. Two genotypes of one graph differ in their
places alone. Knows neither fitness nor models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph, expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size

MOST_PATHS = 16
"""Whole paths are counted in cells that have no more of them; a cell of the paper's space may have thousands."""
MOST_PAIRED = 12
"""Pairs of places are told in spaces with no more edges than that."""
MOST = 255  # of one value

_WEIGHTED = frozenset({primitives.CONVOLUTION, primitives.SEPARABLE, primitives.DEPTHWISE})


def features(genotype: Genotype, size: Size) -> Mapping[Hashable, int]:
    """The features that are not zero, each from 1 to MOST, of a genotype without dead edges and unused motifs (`bare`),
    and of the size of its network. Raises InvalidGenotype where it has none.

    The order of the keys depends on the genotype alone, and not on the numbers that a process gives to the primitives
    of plugins."""
    found: dict[Hashable, int] = {}
    graph = expand(genotype)
    _add_neighbourhoods(found, graph)
    _add_paths(found, graph)
    _add_places(found, genotype)
    found["parameters"], found["flops"] = quarter_octaves(size.parameters), quarter_octaves(size.flops)
    return {key: min(value, MOST) for key, value in found.items() if value}


def quarter_octaves(number: int) -> int:
    """⌊4 · log₂ number⌋ of a number from 1 on, in whole numbers alone; 0 for 0."""
    return (number**4).bit_length() - 1 if number > 0 else 0


def _add_neighbourhoods(found: dict[Hashable, int], graph: CellGraph) -> None:
    into: list[list[int]] = [[] for _ in range(graph.nodes)]
    out: list[list[int]] = [[] for _ in range(graph.nodes)]
    for edge in graph.edges:
        into[edge.target].append(edge.operation)
        out[edge.source].append(edge.operation)
        found[edge.operation] = found.get(edge.operation, 0) + 1
    found["edges"], found["nodes"] = len(graph.edges), graph.nodes
    for before, after in zip(into, out, strict=True):
        degrees = ("degrees", len(before), len(after))
        found[degrees] = found.get(degrees, 0) + 1
        for one in before:
            for other in after:
                found[one, other] = found.get((one, other), 0) + 1
        before.sort()
        after.sort()
        around = ("around", tuple(before), tuple(after))
        found[around] = found.get(around, 0) + 1


def _add_paths(found: dict[Hashable, int], graph: CellGraph) -> None:
    longest, shortest, deepest, paths = ([0] * graph.nodes for _ in range(4))
    paths[0] = 1
    for edge in graph.edges:  # by target: what leads to the source of an edge came before
        source, target = edge.source, edge.target
        longest[target] = max(longest[target], longest[source] + 1)
        shortest[target] = min(shortest[target] or graph.nodes, shortest[source] + 1)
        deepest[target] = max(deepest[target], deepest[source] + (edge.operation in _WEIGHTED))
        paths[target] += paths[source]
    found["longest"], found["shortest"] = longest[-1], shortest[-1]
    found["deepest", deepest[-1]] = 1
    found["weighted"] = deepest[-1]
    found["paths"] = quarter_octaves(paths[-1])
    if paths[-1] > MOST_PATHS:
        return
    ways: list[list[tuple[int, ...]]] = [[] for _ in range(graph.nodes)]
    ways[0].append(())
    for edge in graph.edges:
        ways[edge.target] += [(*way, edge.operation) for way in ways[edge.source]]
    for way in ways[-1]:
        key = ("path", way)
        found[key] = found.get(key, 0) + 1


def _add_places(found: dict[Hashable, int], genotype: Genotype) -> None:
    placed = [(place, code) for place, code in enumerate(genotype.codes) if code]
    for place, code in placed:
        found["place", place, code] = 1
    if len(genotype.codes) <= MOST_PAIRED:
        for number, one in enumerate(placed):
            for other in placed[number + 1 :]:
                found["pair", one, other] = 1
