"""What a predictor sees of a cell: numbers of the pieces that its graph of primitives consists of, and its size.

    ──1x1──► ● ──sep──►      operations      1x1: 1, sep: 1
                             ways            1x1 sep: 1         two operations one after the other, or a whole path
                             neighbourhoods  (1x1 | sep): 1     what enters a node and what leaves it
                             degrees         (1, 1): 1
                             places          edge 0 is 1x1 …    of the genotype, dead edges removed

Neighbourhoods are those of one step of Weisfeiler and Lehman (1968). All values are whole numbers, also the logarithms
of parameters and FLOPs: sums of products of them are exact on any machine. Places are told in spaces of one level: a
motif may be anywhere in a cell, and often. Two genotypes of one graph differ in their places alone. Knows neither
fitness nor models.

A controller asks this of dozens of genotypes a birth. So features have numbers, which a `Vocabulary` gives them as it
meets them, and what a node adds to them is looked up by the operations around it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.sizes import Size

MOST_PATHS = 16
"""Whole paths are counted in cells that have no more of them; a cell of the paper's space may have thousands."""
MOST_PAIRED = 12
"""Pairs of places are told in spaces with no more edges than that."""
MOST = 255  # of one value

_WEIGHTED = frozenset({primitives.CONVOLUTION, primitives.SEPARABLE, primitives.DEPTHWISE})


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a genotype that are not zero, by their numbers, and their values, from 1 to MOST: two int64
    arrays of one shape. Their order depends on the genotype alone, and not on the numbers that a process gives to the
    primitives of plugins."""

    numbers: np.ndarray
    values: np.ndarray


class Vocabulary:
    """The features that were met so far; each has a number, in the order in which they were met."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._around: dict[bytes, tuple[int, ...]] = {}  # operations into a node, 0, operations out of it
        self._ways: dict[bytes, int] = {}  # the operations of a whole path
        self._placed: dict[tuple[int, int], int] = {}  # place and code

    def __len__(self) -> int:
        return len(self._numbers)

    def features(self, genotype: Genotype, graph: CellGraph, size: Size) -> Features:
        """Of a genotype without dead edges and unused motifs (`bare`), its graph, and the size of its network."""
        found = Counter[int]()
        self._add_neighbourhoods(found, graph)
        self._add_paths(found, graph)
        if len(genotype.space.levels) == 1:
            self._add_places(found, genotype)
        self._add_value(found, "parameters", quarter_octaves(size.parameters))
        self._add_value(found, "flops", quarter_octaves(size.flops))
        values = np.fromiter(found.values(), np.int64, len(found))
        return Features(np.fromiter(found, np.int64, len(found)), np.minimum(values, MOST))

    def named(self, features: Features) -> Mapping[Hashable, int]:
        """The same by what they are, to be read and tested."""
        names = list(self._numbers)
        return {names[number]: int(value) for number, value in zip(features.numbers, features.values, strict=True)}

    def number(self, key: Hashable) -> int:
        """The number of a feature, a new one where it was not met before."""
        return self._numbers.setdefault(key, len(self._numbers))

    def _add_value(self, found: Counter[int], key: Hashable, value: int) -> None:
        if value:
            found[self.number(key)] = value

    def _add_neighbourhoods(self, found: Counter[int], graph: CellGraph) -> None:
        into: list[list[int]] = [[] for _ in range(graph.nodes)]
        out: list[list[int]] = [[] for _ in range(graph.nodes)]
        for source, target, operation in graph.edges:
            into[target].append(operation)
            out[source].append(operation)
        for kind, times in Counter([edge.operation for edge in graph.edges]).items():
            found[self.number(kind)] = times
        self._add_value(found, "edges", len(graph.edges))
        self._add_value(found, "nodes", graph.nodes)
        told: list[int] = []
        for before, after in zip(into, out, strict=True):
            key = bytes((*before, primitives.NONE, *after))
            if key not in self._around:
                self._around[key] = tuple(map(self.number, _around(before, after)))
            told += self._around[key]
        found.update(told)

    def _add_paths(self, found: Counter[int], graph: CellGraph) -> None:
        longest, deepest, paths = ([0] * graph.nodes for _ in range(3))
        shortest = [0] + [graph.nodes] * (graph.nodes - 1)
        paths[0] = 1
        for source, target, operation in graph.edges:  # by target: what leads to the source of an edge came before
            if longest[target] <= longest[source]:
                longest[target] = longest[source] + 1
            if shortest[target] > shortest[source] + 1:
                shortest[target] = shortest[source] + 1
            depth = deepest[source] + (operation in _WEIGHTED)
            if deepest[target] < depth:
                deepest[target] = depth
            paths[target] += paths[source]
        self._add_value(found, "longest", longest[-1])
        self._add_value(found, "shortest", shortest[-1])
        self._add_value(found, ("deepest", deepest[-1]), 1)
        self._add_value(found, "weighted", deepest[-1])
        self._add_value(found, "paths", quarter_octaves(paths[-1]))
        if paths[-1] > MOST_PATHS:
            return
        ways: list[list[bytes]] = [[] for _ in range(graph.nodes)]
        ways[0].append(b"")
        for source, target, operation in graph.edges:
            ways[target] += [way + bytes((operation,)) for way in ways[source]]
        found.update(map(self._way, ways[-1]))

    def _way(self, way: bytes) -> int:
        if way not in self._ways:
            self._ways[way] = self.number(("path", tuple(way)))
        return self._ways[way]

    def _add_places(self, found: Counter[int], genotype: Genotype) -> None:
        placed = [one for one in enumerate(genotype.codes) if one[1]]
        found.update(map(self._place, placed))
        if len(genotype.codes) <= MOST_PAIRED:
            found.update(self.number(("pair", *pair)) for pair in itertools.combinations(placed, 2))

    def _place(self, placed: tuple[int, int]) -> int:
        if placed not in self._placed:
            self._placed[placed] = self.number(("place", *placed))
        return self._placed[placed]


def quarter_octaves(number: int) -> int:
    """⌊4 · log₂ number⌋ of a number from 1 on, in whole numbers alone; 0 for 0."""
    return (number**4).bit_length() - 1 if number > 0 else 0


def _around(before: Sequence[int], after: Sequence[int]) -> list[Hashable]:
    """What a node adds, with operations that enter it and leave it, each feature as often as it counts."""
    ways = [(one, other) for one in before for other in after]
    around = ("around", tuple(sorted(before)), tuple(sorted(after)))
    return [("degrees", len(before), len(after)), *ways, around]
